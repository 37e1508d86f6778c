"""The content of ``export_results.json``: what `models_export` made, and how good it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bridge.artifact.metadata import versions
from bridge.verification.limits import load_sequence_tolerance
from signbart.files import file_sha256

if TYPE_CHECKING:
    from bridge.weights.model_sources import Source

PACKAGES = (
    *("torch", "litert-torch", "ai-edge-litert", "onnx", "onnx2tf", "onnxruntime"),
    *("tensorflow", "keras", "numpy", "ai-edge-quantizer"),
)


def export_results(
    sources: Sequence[Source],
    artifacts: Sequence[Any],
    seconds: Mapping[str, float],
    skipped: Mapping[str, str],
    data: str | None,
    seed: int,
    verify: bool,
) -> dict[str, Any]:
    """JSON containers.

    Args:
        sources: What was exported.
        artifacts: What came of it.
        seconds: Model -> duration of all its files, the comparison included.
        skipped: Model -> why it was not exported.
        data: Path of the recordings that were compared on.
        seed: Of the random sequences.
        verify: Whether anything was compared.
    """
    schemes = sorted({artifact.scheme for artifact in artifacts})
    return {
        "versions": versions(PACKAGES),
        "verified": verify,
        "real_sequences": data or "synthetic signs",
        "seed": seed,
        "limits": {name: vars(load_sequence_tolerance(name)) for name in schemes},
        "skipped": dict(skipped),
        "models": {
            source.row.name: {
                "checkpoint": str(source.checkpoint),
                "checkpoint_sha256": file_sha256(source.checkpoint),
                "sizes": dataclasses.asdict(source.config.model),
                "parameters": sum(p.numel() for p in source.model.parameters()),
                "sequence_length": source.config.data.max_frames,
                "seconds": round(seconds[source.row.name], 1),
                "verdict": next(
                    (a.parity.verdict for a in made if not a.parity.passed), made[0].parity.verdict
                ),
                "artifacts": [_facts(artifact) for artifact in made],
            }
            for source in sources
            if (made := [a for a in artifacts if a.model == source.row.name])
        },
    }


def _facts(artifact: Any) -> dict[str, Any]:
    parity, path = artifact.parity, artifact.path
    return {
        "path": str(path) if path else None,
        "bytes": path.stat().st_size if path else None,
        "sha256": file_sha256(path) if path else None,
        "scheme": artifact.scheme,
        "route": artifact.route,
        "seconds": round(artifact.seconds, 1),
        "verdict": parity.verdict,
        "reason": parity.reason,
        "sequences": parity.samples,
        "cosine_similarity": parity.cosine,
        "max_difference": parity.max_abs,
        "outputs": {name: dict(values) for name, values in parity.outputs.items()},
        "operators": dict(artifact.operators),
    }
