"""What an artifact carries: labels, layout, preprocessing, origin. Written and read back.

A .tflite gets a zip archive appended, as TFLite Metadata does for associated files: any zip reader
opens it and the interpreter does not mind. It holds ``metadata.json`` and ``labels.txt``. An .onnx
keeps the same JSON in its metadata properties. A checksum stands behind both.
"""

from __future__ import annotations

import io
import json
import platform
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from signbart import __version__
from signbart.archives import open_zip
from signbart.artifacts.lengths import lengths_of
from signbart.artifacts.metadata_fields import check_fields
from signbart.checksums import append_checksum
from signbart.class_names import check_class_names
from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.configuration.values import shown
from signbart.errors import ArtifactError, NoMetadataError
from signbart.json_text import parse_json
from signbart.memory import raise_shortage
from signbart.models import DEFAULT_KIND, MODEL_KINDS, io_spec
from signbart.models.fields import LONGEST
from signbart.models.io_spec import RAW_SIGNATURE, SIGNATURE, IOSpec
from signbart.models.kind import ModelKind
from signbart.models.raw_spec import RawSignature
from signbart.preprocessing import BOX_MARGIN, describe_steps, joint_groups
from signbart.training.confidence import temperature_of

# Distributions whose versions artifacts carry.
PACKAGES = (
    *("torch", "litert-torch", "ai-edge-litert", "onnx", "onnx2tf", "onnxruntime"),
    *("tensorflow", "keras", "numpy", "ai-edge-quantizer"),
)
_JSON, _LABELS = "metadata.json", "labels.txt"
_FORMAT = "signbart-artifact-1"
_IDENTIFIER = b"TFL3"  # of the flatbuffer, behind the offset of its root
_LONGEST = 64 << 20  # bytes of metadata; a million labels have some 20 million
_EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same conversion gives the same bytes


def build_metadata(
    config: RunConfig,
    class_names: Sequence[str],
    spec: IOSpec,
    *,
    checkpoint_sha256: str,
    route: str,
    scheme: str,
    temperature: float = 1.0,
    threshold: float | None = None,
    raw: RawSignature | None = None,
    lengths: Collection[int] = (),
    packages: Sequence[str] = PACKAGES,
) -> dict[str, Any]:
    """Everything that a program needs to feed the artifact and to read what it says.

    Args:
        config: The run's configuration.
        class_names: C labels, in the order of the logits.
        spec: The artifact's inputs and outputs.
        checkpoint_sha256: Hash of the checkpoint file.
        route: Name of the route that made it.
        scheme: Name of the quantization scheme.
        temperature: Of the softmax that makes shares of the logits.
        threshold: Probability from which on a stream's answer is a sign, if one was chosen.
        raw: The artifact's second signature, if it has one.
        lengths: Frames of its signatures for shorter clips.
        packages: Distributions whose versions are recorded.
    """
    data, layout = config.data, config.data.landmark_layout
    return {
        "format": _FORMAT,
        "name": config.name,
        "route": route,
        "scheme": scheme,
        "labels": list(class_names),
        "temperature": temperature,
        **({"threshold": threshold} if threshold is not None else {}),
        **({"categories": list(names)} if (names := config.data.category_names) else {}),
        **tensors_of(spec),
        "signature": spec.signature,
        **({"lengths": lengths_of(SIGNATURE, data.max_frames, lengths)} if lengths else {}),
        "preprocessing": {
            "layout": layout.name,
            "unit": layout.unit,
            "num_landmarks": layout.num_keypoints,
            "landmarks": list(layout.names),
            "joint_idx": list(config.joint_idx),
            "joint_names": [layout.names[joint] for joint in config.joint_idx],
            "groups": {name: list(members) for name, members in joint_groups(config).items()},
            "max_frames": data.max_frames,
            "max_positions": io_spec(config).longest,
            # Only where it is not the published one: artifacts from before it had a choice stay
            # the same.
            **({"resample": data.resample} if data.resample != "nearest" else {}),
            "normalization": data.normalization,
            "box_margin": BOX_MARGIN,
            "steps": [
                *describe_steps(config),
                f"Put the T frames first in arrays of {data.max_frames}; attention_mask is "
                "1 for them and 0 behind.",
            ],
        },
        **({"raw": describe_raw(raw, lengths)} if raw else {}),
        "config": config.to_dict(),
        "checkpoint_sha256": checkpoint_sha256,
        "versions": versions(packages),
    }


def describe_raw(raw: RawSignature, lengths: Collection[int] = ()) -> dict[str, Any]:
    """The second signature, for programs that bring landmarks as they were recorded."""
    holistic = raw.config.data.landmark_layout.holistic
    shorter = [frames for frames in lengths if frames < raw.frames]
    return {
        "signature": raw.spec.signature,
        "frames": raw.frames,
        **({"lengths": lengths_of(RAW_SIGNATURE, raw.frames, shorter)} if lengths else {}),
        **tensors_of(raw.spec),
        # Which of MediaPipe Holistic's landmarks to bring, where it is a selection from them.
        "holistic": None if holistic is None else list(holistic),
    }


def carried_raw(metadata: dict[str, Any], config: RunConfig) -> RawSignature | None:
    """The second signature that an artifact says it has; None where it has none.

    Raises:
        ArtifactError: It takes no number of frames, or more than any clip has.
    """
    known = metadata.get("raw")
    if not known:
        return None
    frames = known.get("frames") if isinstance(known, dict) else None
    if type(frames) is not int or not 1 <= frames <= LONGEST:
        raise ArtifactError(
            f"{config.name}: raw.frames of its metadata is {shown(frames)}; it must be a whole "
            f"number from 1 to {LONGEST:,}"
        )
    return RawSignature(config, frames, temperature_of(metadata, config.name))


# What `versions` adds of itself.
OWN_VERSIONS = {"signbart", "python"}


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed versions of distributions, this project's and Python's own among them."""
    import importlib.metadata  # which brings the standard library's e-mail along

    found = {"signbart": __version__, "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def embed_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """Puts the metadata into a .tflite or .onnx that has none yet, and a checksum behind it."""
    text = json.dumps(metadata, indent=2, ensure_ascii=False)
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, {_JSON: text})
        onnx.save(model, str(path))
        append_checksum(path)
        return
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in ((_JSON, text), (_LABELS, "\n".join(metadata["labels"]) + "\n")):
            file.writestr(zipfile.ZipInfo(name, _EPOCH), content.encode(), zipfile.ZIP_DEFLATED)
    with open(path, "ab") as file:
        file.write(archive.getvalue())
    append_checksum(path)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What `embed_metadata` wrote.

    Raises:
        NoMetadataError: The file has none of this project's.
        ArtifactError: It is missing, of another kind, or says what cannot be.
    """
    if not Path(path).is_file():
        found = "a folder; name a file in it" if Path(path).is_dir() else "no such file"
        raise ArtifactError(f"no artifact at {path}: {found}")
    if Path(path).suffix == ".tflite":
        with open(path, "rb") as file:
            if file.read(8)[4:] != _IDENTIFIER:
                raise ArtifactError(f"{path} is not a .tflite file")
    try:
        metadata = parse_json(_read_text(Path(path)))
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError):
        raise NoMetadataError(
            f"{path} carries no SignBART metadata: another tool made it, or its end is cut off. "
            "Labels and preprocessing are unknown; convert the checkpoint with signbart convert"
        ) from None
    found = metadata.get("format") if isinstance(metadata, dict) else None
    if found != _FORMAT:
        kind = ArtifactError if found else NoMetadataError  # a .keras has Keras's, of that name
        raise kind(f"{path}: metadata format {shown(found)}, expected {_FORMAT!r}")
    check_class_names(metadata.get("labels"), str(path), ArtifactError)
    check_fields(metadata, path)
    return metadata


def carried_config(metadata: dict[str, Any], path: str | Path) -> RunConfig:
    """The configuration that an artifact carries, and with it the preprocessing.

    `metadata` is from `read_metadata`; `path` is for messages.

    Raises:
        ArtifactError: The preprocessing is not known.
    """
    if metadata["preprocessing"] is None:
        raise ArtifactError(
            f"{path} does not say how recordings are prepared for it, for its checkpoint did not: "
            "prepare them as in its training, and give them to the artifact's own inputs"
        )
    return from_dict(metadata["config"], source=str(path))


def carried_kind(metadata: dict[str, Any]) -> ModelKind:
    """The kind of model that an artifact says it is of.

    Raises:
        ArtifactError: It is none that is known.
    """
    name = metadata["config"]["model"].get("kind", DEFAULT_KIND.name)
    if name not in MODEL_KINDS:
        raise ArtifactError(f"the artifact is of a model '{name}'; known: {', '.join(MODEL_KINDS)}")
    return MODEL_KINDS[name]


def _read_text(path: Path) -> str:
    if path.suffix == ".onnx":
        import onnx

        try:
            properties = onnx.load(str(path)).metadata_props
        except Exception as error:  # protobuf's DecodeError has no common base
            raise_shortage(path, error)
            raise ValueError(str(error)) from None
        return {entry.key: entry.value for entry in properties}[_JSON]
    with open_zip(path, ArtifactError) as file:
        size = sum(member.file_size for member in file.infolist())
        if size > _LONGEST:
            raise ArtifactError(
                f"{path}: its metadata unpacks to {size:,} bytes, over {_LONGEST:,}; get it again"
            )
        text = file.read(_JSON).decode()
        if _LABELS in file.namelist():
            _check_same_labels(path, text, file.read(_LABELS).decode())
        return text


def _check_same_labels(path: Path, text: str, labels: str) -> None:
    """Other programs read ``labels.txt``, this one the metadata; both must say the same."""
    said = parse_json(text)
    said = said.get("labels") if isinstance(said, dict) else None
    if isinstance(said, list) and "\n".join(map(str, said)) + "\n" != labels:
        raise ArtifactError(
            f"{path}: its {_LABELS} names other classes than its metadata, or in another order; "
            "convert the checkpoint again"
        )


def tensors_of(spec: IOSpec) -> dict[str, list[dict[str, Any]]]:
    """The metadata's ``inputs`` and ``outputs``; null stands for any size."""
    return {
        side: [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                **(
                    {"scale": tensor.scale, "zero_point": tensor.zero_point} if tensor.scale else {}
                ),
            }
            for tensor in getattr(spec, side)
        ]
        for side in ("inputs", "outputs")
    }
