"""The page that accompanies artifacts: what goes in, what comes out, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.conversion.card_notes import CardNotes
from bridge.conversion.card_parts import (
    about_training,
    front_matter,
    how_to_run,
    limits,
    which_file,
)
from bridge.conversion.training_facts import TrainingFacts
from bridge.verification.report import parity_tables
from bridge.verification.verdict import Verdict
from signbart.artifacts.metadata import carried_kind
from signbart.console import markdown_table


def model_card(
    metadata: dict[str, Any],
    verdicts: Sequence[Verdict],
    products: Mapping[str, Mapping[str, int]],
    calibration: Mapping[str, Any] | None,
    notes: CardNotes | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    training: TrainingFacts | None = None,
    judged_on: str = "",
) -> str:
    """Markdown from what is known of a conversion, with the front matter that model hubs read.

    Args:
        metadata: From `metadata.build_metadata`.
        verdicts: Of all artifacts.
        products: Artifact -> number format -> multiply-accumulates of one run.
        calibration: Record of what quantizers were shown; None where nothing was.
        notes: A person's part, if there is one.
        sizes: Artifact -> bytes, of those that are there.
        training: What the checkpoint was trained on, as far as it is known.
        judged_on: Which clips quantized artifacts were judged on; empty without any.
    """
    chosen, recommendation = which_file(verdicts, sizes or {}, judged_on)
    license = notes.license if notes else None
    preprocessing = metadata["preprocessing"]
    title = carried_kind(metadata).title
    threshold = metadata.get("threshold")
    groups = ", ".join(f"{name} {len(joints)}" for name, joints in preprocessing["groups"].items())
    return "\n".join(
        [
            front_matter(metadata["name"], verdicts, license, training, judged_on),
            "",
            f"# {metadata['name']}",
            "",
            f"An isolated-sign classifier ({title}). It scores one clip of keypoints against "
            f"{len(metadata['labels'])} classes.",
            "",
            *([notes.text, ""] if notes else []),
            *recommendation,
            *(how_to_run(chosen, metadata) if chosen else []),
            *about_training(training),
            *limits(metadata, training, judged_on),
            "## Input and output",
            "",
            f"Signature `{metadata['signature']}`; take tensors by name, not by position.",
            "",
            _tensors(metadata),
            *_integers(sizes),
            "`attention_mask` holds 1 for a frame and 0 for padding; what padded frames hold is "
            "never read. At least one frame must be 1. "
            f"The highest of `{metadata['outputs'][0]['name']}` is the class"
            + (", that of `category` its category." if "categories" in metadata else "."),
            f"Probabilities are the softmax of the logits over {metadata['temperature']:g}, the "
            f"temperature{'' if metadata['temperature'] != 1 else '; none was fitted'}."
            + (f" In a stream, from {threshold:g} on they are a sign." if threshold else ""),
            "",
            *_raw(metadata.get("raw")),
            *_lengths(metadata),
            "## Preprocessing",
            "",
            f"- layout `{preprocessing['layout']}`, {len(preprocessing['joint_idx'])} keypoints "
            f"({groups}), {preprocessing['unit']} coordinates",
            f"- normalisation `{preprocessing['normalization']}`",
            "",
            *(f"{at}. {step}" for at, step in enumerate(preprocessing["steps"], start=1)),
            "",
            "The artifact carries all of this, machine-readable: a .tflite in `metadata.json` of a "
            "zip archive appended to the file, an .onnx, whose batch and frames are open, in its "
            "metadata properties.",
            "",
            parity_tables(verdicts, level=2),
            *_arithmetic(products, calibration),
            "## Labels",
            "",
            ", ".join(metadata["labels"]),
            "",
            *_categories(metadata.get("categories", ())),
            "## Origin",
            "",
            f"Checkpoint SHA-256 `{metadata['checkpoint_sha256']}`. Versions: "
            + ", ".join(f"{name} {version}" for name, version in metadata["versions"].items())
            + ".",
            "",
        ]
    )


def _integers(sizes: Mapping[str, int] | None) -> list[str]:
    if not any(name.endswith("_io.tflite") for name in sizes or ()):
        return []
    return ["In `…_io.tflite` integers stand for float32, by scales in its metadata.", ""]


def _tensors(about: Mapping[str, Any]) -> str:
    rows = [
        [tensor["name"], f"({', '.join(map(str, tensor['shape']))})", tensor["dtype"], role]
        for role, name in (("input", "inputs"), ("output", "outputs"))
        for tensor in about[name]
    ]
    return markdown_table(["tensor", "shape", "dtype", "role"], rows)


def _raw(raw: Mapping[str, Any] | None) -> list[str]:
    """The second signature."""
    if raw is None:
        return []
    return [
        f"Signature `{raw['signature']}` of a .tflite does the preprocessing below by itself:",
        "",
        _tensors(raw),
        "`landmarks` are the layout's as recorded, from the array's beginning; NaN or zeros are "
        "missing ones, and what is behind the recording is not read. `num_frames` says how many "
        f"frames it has. It is cut to 1 … {raw['frames']}: compare `num_frames_used` with it. "
        "`probabilities` are the softmax of the class scores over the temperature.",
        "",
    ]


def _lengths(metadata: Mapping[str, Any]) -> list[str]:
    """The signatures for shorter clips."""
    known = [
        about["lengths"] for about in (metadata, metadata.get("raw", {})) if "lengths" in about
    ]
    if not known:
        return []
    rows = [[f"`{name}`", str(most)] for lengths in known for name, most in lengths.items()]
    return [
        "The same model for shorter clips, with inputs of so many frames and otherwise as above; "
        "the shortest that holds a clip is the fastest, and says the same:",
        "",
        markdown_table(["signature of a .tflite", "most frames"], rows),
    ]


def _categories(names: Sequence[str]) -> list[str]:
    return [f"Categories: {', '.join(names)}", ""] if names else []


def _arithmetic(
    products: Mapping[str, Mapping[str, int]], calibration: Mapping[str, Any] | None
) -> list[str]:
    """Which share of the work runs in which number format, and what fixed the ranges."""
    if not products:
        return []
    formats = sorted({name for counted in products.values() for name in counted})
    rows = [
        [artifact, *(f"{counted.get(name, 0) / sum(counted.values()):.1%}" for name in formats)]
        for artifact, counted in products.items()
    ]
    lines = [
        "## Arithmetic",
        "",
        "Shares of the multiply-accumulates of one run by number format; LayerNorm, softmax and "
        "GELU, which are none, stay in float32.",
        "",
        markdown_table(["artifact", *formats], rows),
    ]
    if calibration and calibration["random"]:
        lines.append(
            f"**Calibrated on {calibration['clips']} random inputs: not for use.** Their ranges "
            "fit no real clip.\n"
        )
    elif calibration:
        frames = calibration["frames"]
        lines.append(
            f"Calibrated on {calibration['clips']} of {calibration['of']} clips "
            f"({calibration['classes']} classes, {len(calibration['signers'])} signers, "
            f"{frames['shortest']} to {frames['longest']} of {frames['input']} frames).\n"
        )
    return lines
