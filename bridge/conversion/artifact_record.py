"""One artifact, from the request to the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.verification.samples import Sample
from bridge.verification.verdict import Verdict
from signbart.files import file_sha256

if TYPE_CHECKING:
    from bridge.conversion.evidence import Evidence


@dataclass(frozen=True)
class Artifact:
    """One file of one route.

    Attributes:
        route: The route's name.
        scheme: Name of its quantization scheme; an .onnx is ``fp32``.
        path: The file; None where there is none. What does not agree with PyTorch is in
            ``rejected/``, so that it cannot be shipped by accident.
        parity: The comparison with PyTorch; its verdict is that of all signatures.
        raw_parity: That of the signature of raw landmarks; None where the file has only that, or
            none.
        shorter_parities: Those of the signatures for shorter clips.
        seconds: Duration of the route's export, which may have made several artifacts, or of the
            quantization.
        operators: Operator -> count; empty where there is no file that could be read.
        multiply_accumulates: Number format -> count, of a .tflite.
        inputs: How many inputs artifacts of its scheme are compared on, and where they came from.
        tried: Those inputs.
        preprocessing: What the artifact says of it; empty where its checkpoint does not say.
        repro: A command that repeats the comparison on the worst input; empty on a pass.
    """

    route: str
    scheme: str
    path: Path | None
    parity: Verdict
    raw_parity: Verdict | None = None
    shorter_parities: tuple[Verdict, ...] = ()
    seconds: float = 0.0
    operators: Mapping[str, int] = field(default_factory=dict)
    multiply_accumulates: Mapping[str, int] = field(default_factory=dict)
    inputs: str = ""
    tried: Sequence[Sample] = field(default=(), repr=False, compare=False)
    preprocessing: Mapping[str, Any] = field(default_factory=dict, repr=False)
    repro: str = ""

    def with_others(self, evidence: Evidence) -> Artifact:
        """Adds the verdicts on a .tflite's other signatures.

        The first that does not pass spoils `parity`, and `tried` is what that was reached on.
        """
        judged = []
        if evidence.raw:
            judged.append((evidence.judge_raw(self.path, self.scheme), evidence.raw_samples))
        raw = judged[0][0] if judged else None
        judged += evidence.judge_shorter(self.path, self.scheme)
        parity, tried = self.parity, self.tried
        for verdict, samples in judged:
            if parity.passed and not verdict.passed:
                parity, tried = parity.spoilt_by(verdict), samples
        shorter = tuple(verdict for verdict, _ in judged if verdict is not raw)
        return dataclasses.replace(
            self, parity=parity, raw_parity=raw, shorter_parities=shorter, tried=tried
        )

    @property
    def verdicts(self) -> list[Verdict]:
        """One a signature that was compared."""
        second = [self.raw_parity] if self.raw_parity else []
        return [self.parity, *second, *self.shorter_parities]

    def file_facts(self) -> dict[str, int | str | None]:
        """Size and hash of the file, for manifests; None where there is none."""
        if self.path is None:
            return {"bytes": None, "sha256": None}
        return {"bytes": self.path.stat().st_size, "sha256": file_sha256(self.path)}
