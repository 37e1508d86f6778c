"""The forms that a file of recordings may have: one row each, told apart by content."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from signbart.errors import ClipError
from signbart.recordings.arrays import read_npy, read_npz
from signbart.recordings.hdf5 import MAGIC as HDF5
from signbart.recordings.hdf5 import read_hdf5
from signbart.recordings.json_landmarks import read_json
from signbart.recordings.packed_reading import read_packed
from signbart.recordings.pickles import read_pickled
from signbart.recordings.pose_files import VERSIONS, read_pose
from signbart.recordings.recording import Contents, Recording, faults_of
from signbart.recordings.table_files import PARQUET
from signbart.recordings.tables import read_table
from signbart.recordings.text_files import text_encoding

_HEAD = 4096  # bytes that tell the form
# Protocols 2 to 5 begin with a mark; 0 and 1 with a container or a name.
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\((dp|lp|[dlt])|[}\]]q|c[\w.]+\n\w+\n")
# Arrays that packed files have and others hardly.
_PACKED = {"kp_q.npy", "scale.npy", "class_names.npy"}


@dataclass(frozen=True)
class Form:
    """A form of file.

    Attributes:
        name: In messages and in docs/data.md.
        suffixes: How such files are called; they decide only where the content says nothing.
        is_it: Whether a file whose first bytes are given is of the form.
        read: Reads one.
    """

    name: str
    suffixes: tuple[str, ...]
    is_it: Callable[[Path, bytes], bool]
    read: Callable[[Path], Contents]


def is_packed(path: Path, head: bytes) -> bool:
    """Whether a file is a packed data set, or a zip file too damaged to tell."""
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return len(_PACKED & set(archive.namelist())) > 1
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return True


def _is_json(path: Path, head: bytes) -> bool:
    text = _decoded(head).lstrip()
    return text[:1] in ("{", "[") and "\0" not in text


def _is_csv(path: Path, head: bytes) -> bool:
    text = _decoded(head)
    first = text.partition("\n")[0]
    return "\0" not in text and bool(re.search(r"[,;\t]", first))


def _decoded(head: bytes) -> str:
    """Text of the first bytes; empty for what is no text."""
    encoding = text_encoding(head)
    try:
        # The last character may be cut off.
        return head.decode(encoding) if len(head) < _HEAD else head[:-4].decode(encoding)
    except UnicodeDecodeError as error:
        return head[: error.start].decode(encoding, "ignore") if error.start > _HEAD - 16 else ""


FORMS: tuple[Form, ...] = (
    Form("packed", (".npz",), is_packed, read_packed),
    Form("npz", (), lambda path, head: head.startswith(b"PK"), read_npz),
    Form("npy", (".npy",), lambda path, head: head.startswith(b"\x93NUMPY"), read_npy),
    Form("hdf5", (".h5", ".hdf5"), lambda path, head: head.startswith(HDF5), read_hdf5),
    Form("parquet", (".parquet",), lambda path, head: head.startswith(PARQUET), read_table),
    Form("pose", (".pose",), lambda path, head: head[:4] in VERSIONS, read_pose),
    Form("pickle", (".pkl", ".pickle"), lambda path, head: bool(_PICKLE.match(head)), read_pickled),
    Form("json", (".json",), _is_json, read_json),
    Form("csv", (".csv", ".tsv"), _is_csv, read_table),
)


def form_of(path: Path) -> Form | None:
    """The form of a file by its first bytes, or where they say nothing by its name; None if none.

    Raises:
        ClipError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ClipError(f"{path}: cannot be read: {error.strerror or error}") from None
    found = next((form for form in FORMS if form.is_it(path, head)), None)
    suffix = path.suffix.lower()
    return found or next((form for form in FORMS if suffix in form.suffixes), None)


def read_file(path: Path) -> Contents:
    """The recordings of a file of any form.

    Raises:
        ClipError: The file is of none, or cannot be read.
    """
    form = form_of(path)
    if form is None:
        suffixes = ", ".join(suffix for form in FORMS for suffix in form.suffixes)
        raise ClipError(f"{path}: is no .pkl file, nor one of another form: {suffixes}")
    with faults_of(path):
        contents = form.read(path)
    if isinstance(contents.recordings, list):
        return contents
    return dataclasses.replace(contents, recordings=_each(path, contents.recordings))


def _each(
    path: Path, recordings: Iterable[Recording | ClipError]
) -> Iterator[Recording | ClipError]:
    """Recordings that are read as they are asked for; a fault ends them."""
    with faults_of(path):
        yield from recordings
