"""Where artifacts go: what agrees into the folder, everything else into its ``rejected/``.

Nothing goes there one by one: a `Change` gathers it, and exchanges all of it in moments. A
conversion that fails leaves the folder as it was, and one that is killed in those moments leaves a
manifest that says so; see `signbart.artifacts.completeness`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from bridge.conversion.artifact_record import Artifact
from bridge.errors import BridgeError
from bridge.verification.verdict import Verdict
from signbart.artifacts.completeness import (
    PAPERS,
    REJECTED,
    artifacts_folder,
    incomplete_note,
    require_complete,
)
from signbart.artifacts.metadata import read_metadata
from signbart.errors import ArtifactError
from signbart.files import folder_lock, make_folder, temporary_folder
from signbart.renames import forget_renames, note_renames, sync, undo_renames

# What is called so while files are exchanged: the former manifest, the note in its place, a copy of
# that, and where the copy goes in the end if there was no manifest.
_PAPER, _NOTE, _AGAIN, _AWAY = "paper", "note", "note again", "note away"


@contextlib.contextmanager
def staging_folder(output: Path, *, shared: bool = False) -> Iterator[Path]:
    """Makes `output` and gives a folder in it, which is gone when the block ends.

    So is `output`, if it is new and nothing came into it.

    What is made there can be renamed into `output`. What a killed process left there goes, too.
    Nobody else does so meanwhile, but `shared` among themselves.

    Raises:
        SignBartError: The folder cannot be made, or another process writes there.
    """
    new = not output.exists()
    make_folder(output)
    try:
        with folder_lock(output, shared=shared), temporary_folder(output) as folder:
            yield folder
    finally:
        if new:
            with contextlib.suppress(OSError):  # not empty: something was made
                output.rmdir()


def recover(path: Path) -> None:
    """Puts a folder of artifacts back to what it was before a command was killed in its commit.

    Args:
        path: The folder, or a file in it or in its ``rejected/``.

    Raises:
        SignBartError: The folder cannot be written to, or its files are being exchanged right now.
    """
    try:
        require_complete(path)
    except ArtifactError:
        with staging_folder(artifacts_folder(path), shared=True):
            pass  # entering it clears what killed ones left
        require_complete(path)


class Change:
    """What a command changes in a folder of artifacts, to be done by `commit` or not at all.

    Attributes:
        output: The folder.
        made: Receives new files, as they are to stand in `output`.
    """

    def __init__(self, output: Path, folder: Path) -> None:
        """Starts with nothing; `folder` is one of `staging_folder`, which outlives this."""
        self.output, self.made = output, folder / "made"
        self._folder, self._replaced = folder, folder / "replaced"
        self._placed: set[str] = set()
        self._leaving: dict[Path, Path | None] = {}  # None: it goes away
        for new in (self.made, self._replaced):
            new.mkdir()

    def place(self, beside: Path, verdict: Verdict) -> Path | None:
        """Takes an artifact to where its verdict belongs; what an earlier run left there goes.

        Where the route made no file, an earlier run's goes to ``rejected/``: beside a manifest that
        says "failed" it would be taken for this checkpoint's.

        Returns:
            Where in `made` it is; None where there is none.
        """
        good, rejected = self.output / beside.name, self.output / REJECTED
        bad = rejected / beside.name
        self._placed.add(beside.name)
        if not beside.is_file():
            self._leaving[good] = bad
            return None
        target = self.made / (bad if not verdict.passed else good).relative_to(self.output)
        target.parent.mkdir(exist_ok=True)
        os.replace(beside, target)
        self._leaving[bad if verdict.passed else good] = None
        if verdict.passed:
            for repro in rejected.glob(f"repro_{glob.escape(beside.name)}*.npz"):
                self._leaving[repro] = None
        return target

    def remove(self, name: str) -> None:
        """Lets a file of an earlier run go, if there is one."""
        self._leaving[self.output / name] = None

    def set_others_aside(self, sha256: str, names: str = "*") -> None:
        """Lets another checkpoint's artifacts go to ``rejected/``: the new manifest is not theirs.

        The pictures of an earlier comparison go, for they show other errors than the new report.

        They are files of the pattern `names` that were not placed, and are not of the checkpoint of
        this `sha256`.
        """
        for path in [*self.output.glob(f"{names}.tflite"), *self.output.glob(f"{names}.onnx")]:
            if path.name in self._placed:
                continue
            try:
                same = read_metadata(path)["checkpoint_sha256"] == sha256
            except (ArtifactError, KeyError):
                continue  # not this command's
            if not same:
                self._leaving[path] = self.output / REJECTED / path.name
        for picture in self.output.glob(f"parity_{names}.png"):
            self._leaving[picture] = None

    def final(self, path: Path | None) -> Path | None:
        """Where a file in `made` is after `commit`."""
        return path and self.output / path.relative_to(self.made)

    def settled(self, artifact: Artifact) -> Artifact:
        """An artifact as it is after `commit`."""
        return dataclasses.replace(artifact, path=self.final(artifact.path))

    def commit(self, paper: str | None) -> None:
        """Exchanges the files.

        Args:
            paper: Name of the manifest in `made`: meanwhile one stands in its place that says so,
                and it comes last. None: no manifest lists what is exchanged.

        Raises:
            BridgeError: A file cannot be moved; then all are where they were.
        """
        new = [path for path in sorted(self.made.rglob("*")) if path.is_file()]
        moves = {path: target for path, target in self._leaving.items() if path.is_file()}
        moves |= {path: self.final(path) for path in new if path != self.made / (paper or "")}
        if paper:
            self._set_outdated_aside(paper, moves)
        try:
            for path in new:
                sync(path)
            renames = self._renames(moves)
            noted = self._with_papers(paper, renames) if paper else renames
            copies = [self._replaced / name for name in (_PAPER, _AGAIN)]
            note_renames(self._folder, noted, copies)
            if paper:
                renames.insert(0, (self._replaced / _NOTE, self.output / paper))
                renames.append((self.made / paper, self.output / paper))
            for path, target in renames:
                target.parent.mkdir(exist_ok=True)
                os.replace(path, target)
            forget_renames(self._folder)
        except BaseException as error:
            back = undo_renames(self._folder)
            if isinstance(error, OSError):
                reason = f"{error.filename2 or error.filename}: {error.strerror}"
                if back:
                    text = f"{self.output}: cannot be changed, and stays as it was: {reason}"
                else:
                    text = (
                        f"{self.output}: cannot be changed; the next command that writes there "
                        f"puts back what was: {reason}"
                    )
                raise BridgeError(text) from None
            raise
        finally:
            with contextlib.suppress(OSError):  # not empty: another route's artifact was rejected
                (self.output / REJECTED).rmdir()

    def _with_papers(self, paper: str, renames: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
        """Writes the note that is to stand in the manifest's place; how all is taken back.

        That note then comes there again first, from a copy, and what was there comes last: so the
        folder says what it is at any moment of that, too.
        """
        manifest, kept = self.output / paper, self._replaced / _PAPER
        for note in (self._replaced / _NOTE, self._replaced / _AGAIN):
            note.write_text(incomplete_note(), encoding="utf-8")
            sync(note)
        again = (manifest, self._replaced / _AGAIN)
        if not manifest.exists():
            return [(self._replaced / _AWAY, manifest), *renames, again]
        shutil.copy2(manifest, kept)
        sync(kept)
        return [(manifest, kept), *renames, again]

    def _renames(self, moves: Mapping[Path, Path | None]) -> list[tuple[Path, Path]]:
        """The moves one by one, and before each that of what is at its target.

        Raises:
            IsADirectoryError: A folder is there.
        """
        renames: list[tuple[Path, Path]] = []
        gone: set[Path] = set()

        def rename(path: Path, target: Path | None) -> None:
            renames.append((path, target or self._replaced / str(len(renames))))
            gone.add(path)

        for path, target in moves.items():
            if target is not None and target.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder; move it away", str(target))
            if target is not None and os.path.lexists(target) and target not in gone:
                rename(target, None)
            rename(path, target)
        return renames

    def _set_outdated_aside(self, paper: str, moves: dict[Path, Path | None]) -> None:
        """The manifest of the other command goes where a file goes that it lists."""
        changed = [target for target in moves.values() if target] + list(moves)
        for other in (self.output / name for name in PAPERS if name != paper):
            if other.is_file():
                text = other.read_text(encoding="utf-8", errors="replace")
                if any(f'{path.name}"' in text for path in changed):
                    moves[other] = self.output / REJECTED / other.name
