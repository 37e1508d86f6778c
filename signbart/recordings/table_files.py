"""Files of tables, CSV and Parquet: the columns that are asked for, and no others.

A Parquet file may hold a long text once and name it in every row. So text stays what it is in the
file: the different values, and which of them each row has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signbart.archives import check_unpacked
from signbart.errors import ClipError
from signbart.extras import explain_missing
from signbart.memory import raise_shortage
from signbart.recordings.text_files import delimiter_of, text_encoding

PARQUET = b"PAR1"
_HEAD = 1 << 16  # bytes of a CSV, of which the first line says what parts the columns
_LONGEST = 4096  # characters of a text; the longest path of Linux has so many bytes


@dataclass(frozen=True)
class Texts:
    """A column of text.

    Attributes:
        values: The different texts; none is empty.
        codes: Which of them each row has; -1 where it has none.
    """

    values: tuple[str, ...]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: np.ndarray) -> Texts:
        return Texts(self.values, self.codes[rows])


Column = np.ndarray | Texts
_Load = Callable[[list[str], set[str]], Any]


@dataclass(frozen=True)
class TableFile:
    """A table of which no more than the head is read.

    Attributes:
        path: The file.
        names: Its columns, without spaces around.
    """

    path: Path
    names: tuple[str, ...]
    _originals: tuple[str, ...]
    _load: _Load

    def read(self, names: Collection[str], texts: Collection[str]) -> dict[str, Column]:
        """Columns by their names, in the order of the file.

        Args:
            names: Those that are read; numbers become arrays, everything else text.
            texts: Those that are text whatever they hold: 001 stays 001, and 7.0 becomes 7.

        Raises:
            ClipError: One of them stands twice, or holds what is neither number nor text; or the
                file is damaged.
        """
        counts = Counter(self.names)
        twice = [name for name in self.names if name in names and counts[name] > 1]
        if twice:
            raise ClipError(f"{self.path}: column '{twice[0]}' stands twice; keep one of them")
        pairs = [
            (name, original)
            for name, original in zip(self.names, self._originals, strict=True)
            if name in names
        ]
        with _explained(self.path):
            table = self._load(
                [original for _, original in pairs],
                {original for name, original in pairs if name in texts},
            )
            return {
                name: _column(f"{self.path}", name, table[original], name in texts)
                for name, original in pairs
            }


def open_table(path: Path) -> TableFile:
    """A table of which the head is read.

    Raises:
        ClipError: The file cannot be read, or pyarrow is missing.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ClipError(f"{path}: {explain_missing('pyarrow')}") from None
    with _explained(path):
        with path.open("rb") as file:
            head = file.read(_HEAD)
        originals, load = _parquet(path) if head.startswith(PARQUET) else _csv(path, head)
    return TableFile(path, tuple(name.strip() for name in originals), tuple(originals), load)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what pyarrow says of a file into an error that names the file."""
    import pyarrow

    try:
        yield
    except UnicodeError as error:
        raise ClipError(f"{path}: is no {_encoding(error)}; save it as UTF-8") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise_shortage(path, error)
        if "UTF8" in str(error):
            raise ClipError(f"{path}: is no UTF-8: {str(error)[:120]}; save it as UTF-8") from None
        reason = getattr(error, "strerror", None) or error
        raise ClipError(f"{path}: not a readable table: {str(reason)[:120]}") from None


def _encoding(error: UnicodeError) -> str:
    """Without the order of the bytes, of which only decoders speak."""
    name = getattr(error, "encoding", "").upper()
    return name.removesuffix("-LE").removesuffix("-BE") or "text"


def _csv(path: Path, head: bytes) -> tuple[Sequence[str], _Load]:
    import pyarrow
    from pyarrow import csv

    encoding = text_encoding(head)
    parsing = csv.ParseOptions(delimiter=delimiter_of(head.decode(encoding, "ignore")))
    # pyarrow skips the mark of UTF-8 itself, and is faster where it need not decode.
    reading = csv.ReadOptions(encoding="utf-16" if encoding == "utf-16" else "utf8")
    with csv.open_csv(path, reading, parsing) as opened:
        names = opened.schema.names

    def load(originals: list[str], texts: set[str]) -> Any:
        types = dict.fromkeys(texts, pyarrow.string())
        converting = csv.ConvertOptions(include_columns=originals, column_types=types)
        return csv.read_csv(path, reading, parsing, converting)

    return names, load


def _parquet(path: Path) -> tuple[Sequence[str], _Load]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as opened:
        about, types = opened.metadata, opened.schema_arrow
        places = {opened.schema.column(at).path: at for at in range(about.num_columns)}

    def load(originals: list[str], texts: set[str]) -> Any:
        for name in originals:
            if not _is_plain(types.field(name).type):
                raise ClipError(
                    f"{path}: column '{name}' holds {types.field(name).type!s:.60}, expected "
                    "numbers or text; write it as such"
                )
        coded = [name for name in originals if _is_text(types.field(name).type)]
        # A column of one value takes no room in the file, and 8 bytes a row here. The texts of a
        # column stand here as often as in the file: once, if the file has a dictionary of them.
        size = 8 * about.num_rows * len(originals) + sum(
            about.row_group(group).column(places[name]).total_uncompressed_size
            for group in range(about.num_row_groups)
            for name in coded
        )
        check_unpacked(path, size, ClipError)
        with parquet.ParquetFile(path, metadata=about, read_dictionary=coded) as opened:
            return opened.read(columns=originals)

    return types.names, load


def _is_plain(kind: Any) -> bool:
    """Whether a cell is one number or text, of a size that the number of rows tells."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return (
        types.is_null(kind)
        or types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_temporal(kind)
        or _is_text(kind)
    )


def _is_text(kind: Any) -> bool:
    """Whether a column holds text; what older programs write does not say that its bytes are."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
    )


def _column(where: str, name: str, column: Any, text: bool) -> Column:
    from pyarrow import types

    kind = column.type
    if text or not (types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)):
        return _texts(where, name, column)
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    return column.to_numpy(zero_copy_only=False)


def _texts(where: str, name: str, column: Any) -> Texts:
    import pyarrow

    if pyarrow.types.is_temporal(column.type):
        # As a count: text leaves out a fraction of 0, and Python has no nanoseconds.
        wide = pyarrow.int32() if column.type.bit_width == 32 else pyarrow.int64()
        column = column.cast(wide)
    coded = column if pyarrow.types.is_dictionary(column.type) else column.dictionary_encode()
    coded = coded.unify_dictionaries().combine_chunks()
    codes = coded.indices.cast(pyarrow.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    places: list[int] = []
    index: dict[str, int] = {}
    for at, value in enumerate(coded.dictionary):
        try:
            text = _text(value.as_py())
        except ClipError as error:
            first = np.flatnonzero(codes == at)
            row = first[0] + 1 if len(first) else "none"
            raise ClipError(f"{where}, row {row}: column '{name}' {error}") from None
        places.append(-1 if text is None else index.setdefault(text, len(index)))
    # What is null has code -1, the last of the places.
    return Texts(tuple(index), np.array([*places, -1], np.int64)[codes])


def _text(value: Any) -> str | None:
    """A cell as text; None for an empty one.

    Raises:
        ClipError: It is none, or too long for a name.
    """
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # how integers are written where one of them is missing
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise ClipError("holds bytes that are no UTF-8; write it as text") from None
    text = str(value)
    if len(text) > _LONGEST:
        raise ClipError(
            f"holds a text of {len(text):,} characters, expected at most {_LONGEST:,}; shorten it"
        )
    return text if text.strip() else None
