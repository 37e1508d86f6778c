"""What the folder of a conversion promises, each promise held to the files that lie there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.artifact.runtimes import open_runtime
from bridge.conversion.golden import GOLDEN
from bridge.conversion.manifest import MANIFEST
from bridge.errors import BridgeError
from bridge.verification.report import NOT_ASKED, parity_tables
from bridge.verification.verdict import NOT_VERIFIED, PASS, Verdict
from signbart.artifacts.contents import multiply_accumulates, operators
from signbart.artifacts.lengths import carried_lengths, signature_at
from signbart.artifacts.metadata import read_metadata, tensors_of
from signbart.checksums import checksum_holds
from signbart.configuration.values import shown
from signbart.console import NOT_RUN
from signbart.errors import ArtifactError, SignBartError
from signbart.files import file_sha256
from signbart.json_text import read_json_file
from signbart.models.io_spec import LOGITS, RAW_SIGNATURE
from signbart.waiting import stage
from signbart_runtime.integrity.answers import reproduces

CARD, PARITY = "MODEL_CARD.md", "parity.json"
_LONGEST = 64 << 20  # bytes of a paper


@dataclass(frozen=True)
class Finding:
    """What came of one promise.

    Attributes:
        file: Whose.
        promise: What was promised.
        problem: Why it does not hold; empty where it does.
        note: What could not be held to anything; empty where all could.
    """

    file: str
    promise: str
    problem: str = ""
    note: str = ""


def check_folder(folder: Path) -> list[Finding]:
    """Holds everything that a folder of `bridge.conversion.pipeline.convert` says to its files.

    Raises:
        BridgeError: It has no manifest that can be read.
        ArtifactError: That names a file of another folder.
    """
    manifest = _json(folder / MANIFEST)
    entries = manifest.get("artifacts")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BridgeError(f"{folder / MANIFEST}: lists no artifacts; convert the checkpoint again")
    found = _papers(folder, manifest)
    listed = set()
    for entry in entries:
        name = entry.get("file")
        if name is None:
            continue  # a route that failed made none
        path = _inside(folder, name)
        listed.add(path)
        found.append(_attempt(name, "bytes and SHA-256", lambda e=entry, p=path: _same_file(e, p)))
        if path.is_file():
            found += _artifact(name, path, entry, manifest)
    for path in sorted(_artifacts_in(folder) - listed):
        found.append(Finding(path.name, "listed", note="is in no manifest: made here later"))
        found += _artifact(path.name, path, {}, manifest)
    if (folder / GOLDEN).is_file():
        golden = _json(folder / GOLDEN)
        again = _quantized_again(manifest)
        for path in sorted(path for path in listed if path.parent == folder.resolve()):
            promise = f"answers of {GOLDEN}"
            if path.name in again:
                found.append(Finding(path.name, promise, note="has none: quantized again since"))
            else:
                found.append(_attempt(path.name, promise, lambda p=path: reproduces(p, golden)))
    return found


def _papers(folder: Path, manifest: Mapping[str, Any]) -> list[Finding]:
    """The hashes of the other files, and whether the card and the report say the same."""
    hashes = manifest.get("files")
    if not isinstance(hashes, dict) or not hashes:
        found = [Finding(MANIFEST, "hashes of the papers", note="has none: made before it had")]
    else:
        found = [
            _attempt(name, "SHA-256", lambda n=name: _same_hash(_inside(folder, n), hashes[n]))
            for name in hashes
        ]
    if (folder / PARITY).is_file():
        found.append(_attempt(PARITY, "figures", lambda: _same_figures(folder, manifest)))
    if (folder / CARD).is_file():
        found.append(_attempt(CARD, "figures and origin", lambda: _card(folder, manifest)))
    return found


def _artifact(
    name: str, path: Path, entry: Mapping[str, Any], manifest: Mapping[str, Any]
) -> list[Finding]:
    """What a file says of itself, and what the manifest says of it beside its bytes."""
    promise, note = "checksum inside", ""
    try:
        if not checksum_holds(path):
            note = "has none: damage would not be noticed"
    except SignBartError as error:
        return [Finding(name, promise, str(error))]  # what else it says counts no more
    return [
        Finding(name, promise, note=note),
        _attempt(name, "metadata", lambda: _metadata(path, entry, manifest)),
        _attempt(name, "inputs and outputs", lambda: _signatures(path)),
        _attempt(name, "operators", lambda: _operators(path, entry)),
    ]


def _same_file(entry: Mapping[str, Any], path: Path) -> str | None:
    if not path.is_file():
        return "is not there"
    if path.stat().st_size != entry.get("bytes"):
        return f"has {path.stat().st_size:,} bytes; the manifest says {shown(entry.get('bytes'))}"
    if (entry.get("verdict") in (PASS, NOT_VERIFIED)) == (path.parent.name == "rejected"):
        return f"its verdict is {shown(entry.get('verdict'))}, and it lies in {path.parent.name}/"
    return _same_hash(path, entry.get("sha256"))


def _same_hash(path: Path, said: Any) -> str | None:
    if not path.is_file():
        return "is not there"
    found = file_sha256(path)
    return None if found == said else f"SHA-256 {found[:12]}…; the manifest says {str(said)[:12]}…"


def _metadata(path: Path, entry: Mapping[str, Any], manifest: Mapping[str, Any]) -> str | None:
    metadata = read_metadata(path)
    for key in ("route", "scheme"):
        if key in entry and metadata.get(key) != entry[key]:
            return f"{key} {shown(metadata.get(key))}; the manifest says {shown(entry[key])}"
    said, ours = metadata.get("checkpoint_sha256"), manifest.get("checkpoint_sha256")
    if said != ours:
        return f"is of checkpoint {str(said)[:12]}…; the manifest is about {str(ours)[:12]}…"
    if metadata.get("raw") and metadata["raw"] != manifest.get("raw", metadata["raw"]):
        return "takes other raw landmarks than the manifest says"
    return None


def _signatures(path: Path) -> str | None:
    """Whether graph and metadata name the same tensors, and as many classes as labels."""
    metadata = read_metadata(path)
    promised = [(metadata["signature"], metadata)]
    if metadata.get("raw"):
        promised.append((metadata["raw"]["signature"], metadata["raw"]))
    for frames in carried_lengths(metadata, path):
        promised += [
            (signature_at(signature, frames), _shorter(about, frames))
            for signature, about in promised[:2]
            if signature_at(signature, frames) in about.get("lengths", ())
        ]
    for signature, about in promised:
        found = tensors_of(open_runtime(path, signature).spec)
        for side in ("inputs", "outputs"):
            told, kept = (
                {one["name"]: (_open_sizes(one["shape"]), one["dtype"]) for one in tensors}
                for tensors in (about[side], found[side])
            )
            if told != kept:
                return f"{signature}: {side} are {kept}; its metadata say {told}"
            for tensor in found[side]:
                if tensor["name"] == LOGITS and tensor["shape"][-1] != len(metadata["labels"]):
                    return f"{tensor['shape'][-1]} classes, {len(metadata['labels'])} labels"
    return None


def _shorter(about: Mapping[str, Any], frames: int) -> dict[str, Any]:
    """What metadata say of a signature, for fewer frames: the second size of what has several."""
    inputs = [
        {**one, "shape": [one["shape"][0], frames, *one["shape"][2:]]}
        if len(one["shape"]) > 1
        else one
        for one in about["inputs"]
    ]
    return {"inputs": inputs, "outputs": about["outputs"]}


def _open_sizes(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else None for size in shape)


def _operators(path: Path, entry: Mapping[str, Any]) -> str | None:
    if not entry:
        return None
    if dict(operators(path)) != entry.get("operators"):
        return "has others than the manifest says"
    products = dict(multiply_accumulates(path)) if path.suffix == ".tflite" else {}
    if products != entry.get("multiply_accumulates"):
        return f"multiplies {products}; the manifest says {shown(entry['multiply_accumulates'])}"
    return None


def _same_figures(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    said = {(v.artifact, v.signature): v for v in _verdicts(folder)}
    for entry in manifest["artifacts"]:
        if "file" not in entry:
            continue
        name = Path(entry["file"]).name
        for key, wanted in (("parity", None), ("raw_parity", RAW_SIGNATURE)):
            if key not in entry:
                continue
            numbers = {k: v for k, v in entry[key].items() if k != "verdict"}
            same = [
                verdict.numbers() == numbers
                for (artifact, signature), verdict in said.items()
                if artifact == name and (wanted is None or signature == wanted)
            ]
            if not any(same):
                return f"has other figures of {name} than the manifest"
    return None


def _card(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    card = (folder / CARD).read_text(encoding="utf-8")
    if str(manifest.get("checkpoint_sha256")) not in card:
        return "is of another checkpoint than the manifest"
    again = _quantized_again(manifest)
    told = [verdict for verdict in _verdicts(folder) if verdict.artifact not in again]
    card = card.replace(NOT_RUN, NOT_ASKED)  # as cards of earlier versions have it
    for line in parity_tables(told, level=2).replace(NOT_RUN, NOT_ASKED).splitlines():
        if line not in card:
            return f"lacks what {PARITY} says: {line}"
    return None


def _quantized_again(manifest: Mapping[str, Any]) -> set[str]:
    """Files that ``signbart quantize`` made anew; card and golden answers are of those before."""
    entries = (entry for entry in manifest["artifacts"] if "judged by" in entry)
    return {Path(str(entry.get("file"))).name for entry in entries}


def _verdicts(folder: Path) -> list[Verdict]:
    return [Verdict(**result) for result in _json(folder / PARITY)["results"]]


def _attempt(file: str, promise: str, check: Callable[[], str | None]) -> Finding:
    """A check's outcome; papers and files may be anything, and what reads them fails anyhow."""
    try:
        with stage(f"checking {file}, {promise}"):
            return Finding(file, promise, check() or "")
    except SignBartError as error:
        return Finding(file, promise, str(error))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError) as error:
        return Finding(file, promise, f"cannot be read as such: {type(error).__name__}: {error}")


def _artifacts_in(folder: Path) -> set[Path]:
    return {p.resolve() for ending in ("tflite", "onnx") for p in folder.glob(f"*.{ending}")}


def _inside(folder: Path, name: Any) -> Path:
    """A file that a paper names.

    Raises:
        ArtifactError: It lies elsewhere.
    """
    try:
        path = (folder / str(name)).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, or no name at all
        raise ArtifactError(f"{folder / MANIFEST}: names {shown(name)}: {error}") from None
    if not path.is_relative_to(folder.resolve()):
        raise ArtifactError(f"{folder / MANIFEST}: names {shown(name)}, which lies elsewhere")
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError(f"has {path.stat().st_size:,} bytes")
        tree = read_json_file(path)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BridgeError(
            f"{path}: cannot be read ({reason}); name the folder that signbart convert wrote"
        ) from None
    if not isinstance(tree, dict):
        raise BridgeError(f"{path}: is no JSON object; convert the checkpoint again")
    return tree
