"""What accompanies a conversion's artifacts: manifest, model card, golden clips, parity report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.conversion.artifact_record import Artifact
from bridge.conversion.card_notes import CardNotes
from bridge.conversion.evidence import Evidence
from bridge.conversion.golden import GOLDEN, golden_json
from bridge.conversion.model_card import model_card
from bridge.conversion.route_run import describe
from bridge.quantization.schemes import FLOAT
from bridge.routes import get_route
from bridge.verification.report import write_reports
from bridge.weights.source import Source
from signbart.artifacts.completeness import MANIFEST
from signbart.artifacts.metadata import versions
from signbart.files import file_sha256

# Of the papers those that nobody writes in by hand, as in a model card.
_HASHED = (GOLDEN, "parity.json", "parity.md")


def write_records(
    folder: Path,
    source: Source,
    evidence: Evidence,
    artifacts: Sequence[Artifact],
    seed: int,
    notes: CardNotes | None = None,
) -> None:
    """Writes all of it into `folder`, where the artifacts are.

    `seed` is of the comparison's inputs, `notes` are for the card.
    """
    limits = evidence.limits[FLOAT]
    comparison = {
        "reference": source.checkpoint.name,
        "atol": limits.atol,
        "rtol": limits.rtol,
        "inputs": len(evidence.samples),
        "seed": seed,
        "inputs from": evidence.inputs,
    }
    quantization = evidence.describe_quantization()
    if quantization:
        comparison["quantized judged on"] = quantization["judged on"]
    told = describe(source, get_route(artifacts[0].route), FLOAT, evidence.raw, evidence.shorter)
    manifest = {
        "name": source.config.name,
        "comparison": comparison,
        "checkpoint_sha256": source.sha256,
        "versions": versions(),
        **({"lengths": told["lengths"]} if "lengths" in told else {}),
        **({"raw": told["raw"]} if "raw" in told else {}),
        **({"quantization": quantization} if quantization else {}),
        "artifacts": [entry(artifact, folder) for artifact in artifacts],
        "files": {},
    }
    products = {
        artifact.parity.artifact: artifact.multiply_accumulates
        for artifact in artifacts
        if artifact.multiply_accumulates
    }
    verdicts = [verdict for artifact in artifacts for verdict in artifact.verdicts]
    card = model_card(
        told,
        verdicts,
        products,
        quantization and quantization["calibration"],
        notes,
        sizes={a.path.name: a.path.stat().st_size for a in artifacts if a.path is not None},
        training=evidence.training,
        judged_on=evidence.clips.source if evidence.clips else "",
    )
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    golden = golden_json(source, artifacts, evidence, seed)
    if golden is not None:
        (folder / GOLDEN).write_text(golden, encoding="utf-8")
    write_reports(verdicts, comparison, folder, limits.atol)
    manifest["files"] = {
        name: file_sha256(folder / name) for name in _HASHED if (folder / name).is_file()
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def entry(artifact: Artifact, folder: Path) -> dict[str, Any]:
    """What the manifest in `folder` says of an artifact there."""
    path, facts, raw = artifact.path, artifact.file_facts(), artifact.raw_parity
    shorter = {
        verdict.signature: verdict.numbers() | {"verdict": verdict.verdict}
        for verdict in artifact.shorter_parities
    }
    return {
        "route": artifact.route,
        "scheme": artifact.scheme,
        "verdict": artifact.parity.verdict,
        "reason": artifact.parity.reason,
        "seconds": round(artifact.seconds, 1),
        **({"file": str(path.relative_to(folder)), **facts} if path else {}),
        "operators": artifact.operators,
        "multiply_accumulates": dict(artifact.multiply_accumulates),
        "parity": artifact.parity.numbers(),
        **({"raw_parity": raw.numbers() | {"verdict": raw.verdict}} if raw else {}),
        **({"shorter_parities": shorter} if shorter else {}),
        **({"repro": artifact.repro} if artifact.repro else {}),
    }
