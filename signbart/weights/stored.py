"""Any checkpoint, of whatever program, as arrays by PyTorch's names.

What kind of file it is tell its first bytes, and not its ending. No framework is needed, and
nothing that a file holds is executed.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from signbart.archives import check_unpacked
from signbart.checksums import require_checksum
from signbart.class_names import check_class_names
from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.console import printable
from signbart.errors import CheckpointError, ConfigError
from signbart.json_text import parse_json
from signbart.memory import naming_shortage
from signbart.models.fields import DEEPEST
from signbart.weights.keras_files import by_torch_name, read_keras_file
from signbart.weights.safetensors_files import read_safetensors, safetensors_metadata
from signbart.weights.state_dicts import cast, find_state_dict, known_names, without_prefix
from signbart.weights.torch_pickles import read_torch_file

FORMAT = "signbart-1"
OPTIMIZER_PREFIX = "optimizer/"


@dataclass(frozen=True)
class Stored:
    """What a checkpoint holds.

    Attributes:
        tensors: The model's, by PyTorch's names, floating-point ones in float32.
        form: What kind of file it is, in words.
        config: The run's configuration; None where the file has no header of this project.
        class_names: C labels; empty without a header.
        progress: What training noted; JSON containers.
        optimizer: Tensors of a PyTorch run that can be resumed.
        notes: What was cast, chosen or ignored.
    """

    tensors: Mapping[str, np.ndarray]
    form: str
    config: RunConfig | None = None
    class_names: tuple[str, ...] = ()
    progress: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def form_of(path: str | Path) -> str:
    """``safetensors``, ``keras`` or ``torch``, by a file's first bytes and not by its ending.

    Raises:
        CheckpointError: There is no such file, or it is none of them.
    """
    path = Path(path)
    if not path.is_file():
        found = "a folder; name a file in it" if path.is_dir() else "no such file"
        raise CheckpointError(f"no checkpoint at {path}: {found}")
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"\x89HDF\r\n"):
        return "keras"
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path} is cut: the end of its archive is missing; get it again")
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{path} is a damaged archive ({error}); get it again") from None
        if "model.weights.h5" in names:
            return "keras"
        if any(name.split("/", 1)[1:] == ["data.pkl"] for name in names):
            return "torch"
    elif len(start) == 9 and start[8:] == b"{":
        return "safetensors"
    elif start[:1] == b"\x80":
        return "torch"
    raise CheckpointError(
        f"{path} is no checkpoint: neither PyTorch's, nor a .safetensors, nor Keras's, by its "
        f"first bytes{'' if start else ' (it is empty)'}"
    )


def has_header(path: str | Path) -> bool:
    """Whether a checkpoint is this project's, with configuration and labels; False of others."""
    try:
        form = form_of(path)
        if form == "safetensors":
            return safetensors_metadata(Path(path)).get("format") == FORMAT
        return form == "keras" and read_keras_file(Path(path))[1] is not None
    except CheckpointError:
        return False


def read_progress(path: str | Path) -> Mapping[str, Any]:
    """What training noted in a checkpoint of this project; nothing of others.

    Raises:
        CheckpointError: The file is missing, damaged, or no checkpoint.
    """
    path = Path(path)
    form = form_of(path)
    if form == "safetensors":
        metadata = safetensors_metadata(path)
        return _parsed(path, metadata)[2] if metadata.get("format") == FORMAT else {}
    header = read_keras_file(path)[1] if form == "keras" else None
    return {} if header is None else parse_header(path, header)[2]


def read_stored(path: str | Path, *, checksum: bool = True) -> Stored:
    """Reads a checkpoint of this project or of any other program.

    Args:
        path: The file.
        checksum: Refuse one that is not what its checksum was made of.

    Raises:
        CheckpointError: It is missing, cut, damaged, or no checkpoint; says which.
        ChecksumError: It was changed since it was made.
    """
    with naming_shortage(path):
        stored = _read(Path(path), checksum)
    for name in stored.tensors:
        if not name.isprintable():
            raise CheckpointError(
                f"{path}: a tensor is named {name[:80]!r}, which cannot be printed; get it again"
            )
    return dataclasses.replace(stored, notes=tuple(map(printable, stored.notes)))


def _read(path: Path, checksum: bool) -> Stored:
    form = form_of(path)
    if form == "safetensors":
        arrays, metadata = read_safetensors(path)
        require_checksum(path, checksum)
        if metadata.get("format") == FORMAT:
            return _ours(path, arrays, metadata)
        tensors, found = find_state_dict(arrays)
        form = "a .safetensors"
    elif form == "keras":
        arrays, header = read_keras_file(path)
        given = parse_header(path, header) if header is not None else ()
        tensors, notes = by_torch_name(arrays, given[0].model if given else None)
        tensors, casts = _cast(path, tensors)
        if given:
            check_sizes(path, given[0].model, tensors)
        return Stored(tensors, "a Keras checkpoint", *given, notes=(*notes, *casts))
    else:
        content = read_torch_file(path)
        try:
            tensors, found = find_state_dict(content)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        # What a pickle builds may hold itself, or answer with anything.
        except (RecursionError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged, or no checkpoint: {error}") from None
        form = "a PyTorch checkpoint"
    tensors, notes = without_prefix(tensors, known_names())
    tensors, casts = _cast(path, tensors)
    return Stored(tensors, form, notes=(*found, *notes, *casts))


def _cast(path: Path, tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """As `cast`, unless the copies are far more than the file: any number may view one storage."""
    size = sum(array.size * max(array.itemsize, 4) for array in tensors.values())
    check_unpacked(path, size, CheckpointError)
    return cast(tensors)


def _ours(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Stored:
    model = {n: t for n, t in arrays.items() if not n.startswith(OPTIMIZER_PREFIX)}
    optimizer = {n.removeprefix(OPTIMIZER_PREFIX): t for n, t in arrays.items() if n not in model}
    config, *given = _parsed(path, metadata)
    check_sizes(path, config.model, model)
    return Stored(model, "a checkpoint of this project", config, *given, optimizer)


def _parsed(
    path: Path, metadata: Mapping[str, str]
) -> tuple[RunConfig, tuple[str, ...], Mapping[str, Any]]:
    try:
        header = {key: parse_json(metadata[key]) for key in ("config", "class_names", "progress")}
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged header: {error}") from None
    return parse_header(path, header)


def parse_header(path: Path, header: Any) -> tuple[RunConfig, tuple[str, ...], Mapping[str, Any]]:
    """Configuration, labels and progress, as both frameworks write them; `path` is for messages.

    Raises:
        CheckpointError: Something is missing or malformed.
    """
    try:
        config = from_dict(header["config"], source=f"{path} (header)")
        classes = config.model.num_labels
        if classes is None:
            raise ValueError("its configuration does not say how many classes there are")
        class_names = check_class_names(
            header["class_names"], "its labels", ValueError, classes=classes
        )
        progress = header.get("progress", {})
        if not isinstance(progress, dict):
            raise ValueError("its progress holds no keys")
        _check_progress(progress)
    except (KeyError, ValueError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{path}: damaged header: {error}") from None
    return config, class_names, progress


def _check_progress(progress: Mapping[str, Any]) -> None:
    """Of what commands take from it as it is: who was held out, and whom start or teachers saw."""
    match progress.get("recordings"):
        case {"fingerprint": str(), "clips": int(), "test_signers": [*names]}:
            sound = all(isinstance(name, str) for name in names)
        case _:
            sound = "recordings" not in progress
    if not sound:
        raise ValueError("its recordings need a fingerprint, clips (a count) and test_signers")
    for part, need in (("start", "its start needs"), ("teachers", "its teachers need")):
        match progress.get(part, {}):
            case {"seen": [*names]} if all(isinstance(name, str) for name in names):
                continue
            case {"seen": _}:
                pass
            case {}:
                continue
        raise ValueError(f"{need} keys, and of these 'seen' a list of texts")


def check_sizes(path: Path, config: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuses a model's configuration that promises more than the tensors beside it have.

    Nobody then builds a network of that size to find out. What fits here may still be wrong: the
    network compares each tensor.

    Raises:
        CheckpointError: A size is larger than any axis, there are more layers than tensors, or
            fewer numbers than square matrices in so many layers have.
    """
    layers = 0
    longest = max((size for array in tensors.values() for size in array.shape), default=0)
    for each in dataclasses.fields(config):
        value, limit = getattr(config, each.name), each.metadata.get("high")
        if type(value) is not int or type(limit) is not int or "stored" in each.metadata:
            continue
        layers += value if limit == DEEPEST else 0
        most, found = (
            (len(tensors), f"{len(tensors)} tensors")
            if limit == DEEPEST
            else (longest, f"no tensor longer than {longest}")
        )
        if value > most:
            raise CheckpointError(
                f"{path} does not fit the model: by its configuration model.{each.name} is "
                f"{value}, but it holds {found}; get it again"
            )
    # Every kind of layer has a matrix of the model's width, or a larger one.
    least = layers * getattr(config, "d_model", 0) ** 2
    numbers = sum(array.size for array in tensors.values())
    if least > numbers:
        raise CheckpointError(
            f"{path} does not fit the model: by its configuration it has more than {least:,} "
            f"numbers, but it holds {numbers:,}; get it again"
        )
