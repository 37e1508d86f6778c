"""The page that accompanies artifacts: what goes in, what comes out, and how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.parity import Parity
from bridge.parity_report import COLUMNS, table_row
from signbart.console import markdown_table


def model_card(metadata: dict[str, Any], parities: Sequence[Parity]) -> str:
    """Markdown from what `metadata.build_metadata` made and from the comparison with PyTorch."""
    preprocessing = metadata["preprocessing"]
    tensors = [
        [tensor["name"], f"({', '.join(map(str, tensor['shape']))})", tensor["dtype"], role]
        for role, name in (("input", "inputs"), ("output", "outputs"))
        for tensor in metadata[name]
    ]
    groups = ", ".join(f"{name} {len(joints)}" for name, joints in preprocessing["groups"].items())
    return "\n".join(
        [
            "---",
            "license: other  # the weights' owner decides",
            "library_name: litert",
            "tags:",
            "- sign-language-recognition",
            "- keypoints",
            "- signbart",
            "- tflite",
            "---",
            "",
            f"# {metadata['name']}",
            "",
            "An isolated-sign classifier (SignBART). It scores one clip of keypoints against "
            f"{len(metadata['labels'])} classes.",
            "",
            "## Input and output",
            "",
            f"Signature `{metadata['signature']}`; take tensors by name, not by position.",
            "",
            markdown_table(["tensor", "shape", "dtype", "role"], tensors),
            "`attention_mask` holds 1 for a frame and 0 for padding; what padded frames hold is "
            "never read. At least one frame must be 1. The highest of `logits` is the class.",
            "",
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
            "## Agreement with PyTorch",
            "",
            markdown_table(COLUMNS, [table_row(parity) for parity in parities]),
            "## Labels",
            "",
            ", ".join(metadata["labels"]),
            "",
            "## Origin",
            "",
            f"Checkpoint SHA-256 `{metadata['checkpoint_sha256']}`. Versions: "
            + ", ".join(f"{name} {version}" for name, version in metadata["versions"].items())
            + ".",
            "",
        ]
    )
