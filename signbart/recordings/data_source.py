"""Recordings at a path, and how they are to be understood: one thing that a command hands on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from signbart.errors import ClipError
from signbart.landmarks.layouts import Layout
from signbart.recordings.clip import ClipSet
from signbart.recordings.reading import NO_CHANGES, read_clips
from signbart.recordings.recording import Changes

if TYPE_CHECKING:
    from signbart.recordings.doctor import Report


@dataclass(frozen=True)
class DataSource:
    """A set of recordings.

    Attributes:
        path: A file or folder; also what messages and records call the set.
        source_layout: See `reading.read_clips`, also for the next three.
        signer_pattern: How names of files tell the signer.
        image_size: Of the pictures, for landmarks in pixels.
        changes: What is to be put right.
        strict: Refuse what looks suspicious.
    """

    path: str
    source_layout: str | None = None
    signer_pattern: str | None = None
    image_size: str | None = None
    changes: Changes = NO_CHANGES
    strict: bool = False

    def __str__(self) -> str:
        return self.path

    def read(
        self,
        *,
        split: str = "all",
        skip_bad: bool = False,
        only: Layout | None = None,
        layout: Layout | None = None,
        quiet: bool = False,
    ) -> tuple[ClipSet, Report]:
        """The clips, and what was seen when they were looked at; says on stderr what is suspicious.

        Args:
            split: One of train, val, test, all.
            skip_bad: Leave bad clips out.
            only: Keep the landmarks of this layout alone; see `reading.read_clips`.
            layout: The model layout that will be asked of them, to say what they lack of it.
            quiet: Say nothing.

        Raises:
            ClipError: Something is suspicious, and the source is `strict`.
            SignBartError: See `reading.read_clips`.
        """
        from signbart.recordings.doctor import examine_clips

        clips = read_clips(
            self.path,
            split=split,
            skip_bad=skip_bad,
            only=only,
            source_layout=self.source_layout,
            signer_pattern=self.signer_pattern,
            image_size=self.image_size,
            changes=self.changes,
        )
        report = examine_clips(clips)
        findings = report.findings
        if self.strict and findings:
            raise ClipError(
                f"{self}: {len(findings)} things look wrong: "
                + "; ".join(f"{number}. {found}" for number, found in enumerate(findings, start=1))
            )
        if not quiet:
            lacking = None if layout is None else clips.lacking(layout)
            for note in (*clips.notes, *([lacking] if lacking else [])):
                print(f"note: {note}", file=sys.stderr)
            for finding in findings:
                print(f"warning: {finding}", file=sys.stderr)
        return clips, report


def read_recordings(data: str | DataSource | None) -> ClipSet | None:
    """The recordings, bad ones left out and counted aloud; None without any."""
    if data is None:
        return None
    source = data if isinstance(data, DataSource) else DataSource(str(data))
    clips, _ = source.read(skip_bad=True)
    if clips.skipped:
        print(f"{len(clips.skipped)} bad clips of {source} left out, first {clips.skipped[0]}")
    return clips
