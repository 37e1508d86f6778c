"""The rows of one clip of a table, and errors that say which of them is meant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from signbart.errors import ClipError
from signbart.recordings.frame_names import rank_frames
from signbart.recordings.table_files import Column, Texts

# Columns that say which clip a row is of.
CLIPS = ("sequence_id", "clip", "clip_id", "video_id", "video", "file", "filename", "path")


def first_of(names: Collection[str], group: Sequence[str]) -> str | None:
    """The first name of a group that is among those of a table; None if none is."""
    return next((name for name in group if name in names), None)


@dataclass(frozen=True)
class Part:
    """The rows of one clip.

    Attributes:
        source: The clip, for messages.
        columns: What they hold.
        rows: Where they stand in the table, from 0.
        key: The column that tells clips apart; None where the table has none.
    """

    source: str
    columns: Mapping[str, Column]
    rows: np.ndarray
    key: str | None = None

    def row(self, at: int) -> int:
        """A row as messages count them: from 1, without the head."""
        return int(self.rows[at]) + 1

    def fault(self, at: int, name: str, what: str) -> ClipError:
        """An error about one cell."""
        return ClipError(f"{self.source}, row {self.row(at)}: column '{name}' {what}")

    def texts(self, name: str) -> Texts:
        """A column of text that no row may lack.

        Raises:
            ClipError: One does.
        """
        column = self.columns[name]
        lacking = np.flatnonzero(column.codes < 0)
        if len(lacking):
            raise self.fault(lacking[0], name, "is empty; fill it in, or remove the row")
        return column

    def numbers(self, name: str, dtype: type = np.float32) -> np.ndarray:
        """A column of numbers; NaN where it is empty.

        Raises:
            ClipError: It holds something else.
        """
        column = self.columns[name]
        with np.errstate(over="ignore"):  # infinity is refused with the clip
            if not isinstance(column, Texts):
                return column.astype(dtype)
            codes, first, inverse = np.unique(column.codes, return_index=True, return_inverse=True)
            numbers = np.full(len(codes), np.nan)
            for place, code in enumerate(codes):
                try:
                    numbers[place] = float(column.values[code]) if code >= 0 else np.nan
                except ValueError:
                    what = f"holds something that is no number, {column.values[code][:40]!r}"
                    raise self.fault(first[place], name, f"{what}; write it as 0.5") from None
            return numbers[inverse].astype(dtype)

    def integers(self, name: str) -> np.ndarray:
        """A column of integers; those below 0 are -1.

        Raises:
            ClipError: A row has none.
        """
        numbers = self.numbers(name, np.float64)
        wrong = np.flatnonzero(numbers != np.floor(numbers))  # NaN too
        if len(wrong):
            value = numbers[wrong[0]]
            said = "is empty" if np.isnan(value) else f"holds '{value:g}'"
            raise self.fault(wrong[0], name, f"{said}, expected an integer from 0")
        return np.clip(numbers, -1, 1 << 30).astype(np.int64)

    def frames(self) -> np.ndarray:
        """Of which frame each row is, from 0 in their order.

        Raises:
            ClipError: Nothing says so.
        """
        column = self.texts("frame")
        codes, inverse = np.unique(column.codes, return_inverse=True)
        try:
            places = rank_frames([column.values[code] for code in codes])
        except ClipError as error:
            raise ClipError(f"{self.source}: column 'frame' {error}") from None
        return np.array(places)[inverse]

    def check_once(self, places: np.ndarray, title: Callable[[int], str]) -> None:
        """Refuses two rows for one place: a later one would take the place of an earlier one.

        Args:
            places: An integer a row.
            title: What a row says of its frame, for the message.

        Raises:
            ClipError: There are two.
        """
        order = np.argsort(places, kind="stable")
        same = np.flatnonzero(np.diff(places[order]) == 0)
        if not len(same):
            return
        first, second = (int(order[same[0] + step]) for step in (0, 1))
        frame = self.columns["frame"]
        remedy = (
            f"add a column that says which, named one of {', '.join(CLIPS)}"
            if self.key is None
            else f"tell these apart in column '{self.key}'"
        )
        raise ClipError(
            f"{self.source}: frame {frame.values[frame.codes[first]][:40]!r} {title(first)} "
            f"twice, in rows {self.row(first)} and {self.row(second)}; keep one of them, or if "
            f"they are of two clips, {remedy}"
        )

    def only(self, names: Sequence[str]) -> str | None:
        """What a column says of the whole clip; None where there is none, or it is empty.

        Args:
            names: The first of these that the table has is the column.

        Raises:
            ClipError: Rows contradict each other.
        """
        name = first_of(self.columns, names)
        if name is None:
            return None
        column = self.columns[name]
        codes, first = np.unique(column.codes, return_index=True)
        if len(codes) > 1:
            said = [
                f"{'empty' if code < 0 else repr(column.values[code][:40])} in row {self.row(at)}"
                for at, code in sorted(zip(first, codes, strict=True))[:3]
            ]
            raise ClipError(
                f"{self.source}: column '{name}' differs within the clip ({', '.join(said)}); a "
                f"column that names the clip is one of {', '.join(CLIPS)}"
            )
        return column.values[codes[0]] if codes[0] >= 0 else None
