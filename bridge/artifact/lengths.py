"""Signatures of one .tflite for shorter clips: the same model for fewer frames, the same weights.

The first signature is for the configuration's `max_frames`, T. For each further length L below
there is ``serving_L``, and ``landmarks_L`` for recordings of at most L frames, which preprocessing
keeps whole: both say what the longer ones say, and cost what L frames cost.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError
from signbart.artifacts.compaction import read_model, write_model
from signbart.artifacts.contents import read_tables
from signbart.artifacts.graphs import reached_graphs, refers_to_graphs, same_code
from signbart.artifacts.lengths import STEMS, signature_at

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig

_SHORTER = re.compile(rf"({'|'.join(STEMS.values())})_(\d+)")


def check_lengths(lengths: Sequence[int], config: RunConfig, *, open_length: bool) -> list[int]:
    """Those of `lengths` that need a signature of their own, ascending: T has one.

    Raises:
        BridgeError: The model sees every clip at one length, or a length cannot be.
    """
    if not lengths:
        return []
    data = config.data
    if not open_length or data.resample == "linear":
        why = "data.resample is linear" if open_length else "its kind takes one length alone"
        raise BridgeError(
            f"--lengths: {config.name} sees every clip at {data.max_frames} frames ({why}), so a "
            "short one is not cheaper; leave the option out, or train with data.resample nearest "
            "or a smaller data.max_frames"
        )
    for length in lengths:
        if not 1 <= length <= data.max_frames:
            raise BridgeError(
                f"--lengths: {length} is not from 1 to {data.max_frames}, the model's "
                "data.max_frames, to which longer clips are resampled"
            )
        if lengths.count(length) > 1:
            raise BridgeError(f"--lengths: {length} is there twice; name each length once")
    return sorted(set(lengths) - {data.max_frames})


def add_lengths(path: Path, shorter: Mapping[int, Path]) -> None:
    """Adds the signatures of other files to a .tflite, none of which has metadata.

    Constants that are the same to the byte are there once: of weights only what depends on the
    number of frames is added, such as a table of positions that a converter added to a bias.

    Args:
        path: The file, rewritten; its own graphs stay as they are.
        shorter: Frames -> a file with `SIGNATURE` and maybe `RAW_SIGNATURE` for them.
    """
    if not shorter:
        return
    model = read_model(path)
    places = {_content(buffer): at for at, buffer in reversed([*enumerate(model.buffers)])}
    for frames, other in shorter.items():
        _append(model, read_model(other), frames, places)
    write_model(model, path)


def split_lengths(path: Path, whole: Path, folder: Path) -> dict[int, Path]:
    """The reverse: writes the file without its shorter signatures, and each length's own file.

    Args:
        path: A .tflite.
        whole: Another file, to write; where there are no shorter signatures, it is as `path` is.
        folder: Receives a file a length.

    Returns:
        Frames -> file.
    """
    keys = [found.signatureKey.decode() for found in read_tables(path).signatureDefs or ()]
    if {*keys} <= {*STEMS}:  # spares reading it once more, and writing it
        shutil.copyfile(path, whole)
        return {}
    lengths = sorted({int(found[2]) for found in map(_SHORTER.fullmatch, keys) if found})
    parts = {frames: folder / f"{frames}.tflite" for frames in lengths}
    for frames, part in (*parts.items(), (None, whole)):
        kept = {signature_at(name, frames): name for name in STEMS}
        model = read_model(path)
        _keep(model, {key: kept[key] for key in keys if key in kept})
        write_model(model, part)
    return parts


def _content(buffer: Any) -> bytes:
    return b"" if buffer.data is None else bytes(buffer.data)


def _append(model: Any, added: Any, frames: int, places: dict[bytes, int]) -> None:
    """Appends all graphs of `added`; `places` are those of constants, and grows."""
    for buffer in added.buffers:
        content = _content(buffer)
        if content not in places:
            places[content] = len(model.buffers)
            model.buffers.append(buffer)
    codes = [same_code(model, code) for code in added.operatorCodes]
    first = len(model.subgraphs)
    for graph in added.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = places[_content(added.buffers[tensor.buffer])]
        for operator in graph.operators:
            operator.opcodeIndex = codes[operator.opcodeIndex]
        _renumber(graph, range(first, first + len(added.subgraphs)))
        model.subgraphs.append(graph)
    for definition in added.signatureDefs:
        key = definition.signatureKey.decode()
        definition.signatureKey = signature_at(key, frames).encode()
        definition.subgraphIndex += first
        model.signatureDefs.append(definition)


def _keep(model: Any, names: Mapping[str, str]) -> None:
    """Drops all signatures but those of `names`, which get their new ones, and their graphs."""
    definitions = [d for d in model.signatureDefs if d.signatureKey.decode() in names]
    kept = sorted(reached_graphs(model, (d.subgraphIndex for d in definitions)))
    place = {old: new for new, old in enumerate(kept)}
    model.subgraphs = [model.subgraphs[at] for at in kept]
    for graph in model.subgraphs:
        _renumber(graph, place)
    for definition in definitions:
        definition.signatureKey = names[definition.signatureKey.decode()].encode()
        definition.subgraphIndex = place[definition.subgraphIndex]
    model.signatureDefs = definitions


def _renumber(graph: Any, place: Mapping[int, int] | Sequence[int]) -> None:
    """Loops and branches name other graphs by their number."""
    for options, attribute, at in refers_to_graphs(graph):
        setattr(options, attribute, place[at])
