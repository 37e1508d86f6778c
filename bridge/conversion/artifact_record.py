"""One artifact, from the request to the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.verification.samples import Sample
from bridge.verification.verdict import Verdict
from signbart.files import file_sha256


@dataclass(frozen=True)
class Artifact:
    """One file of one route.

    Attributes:
        route: The route's name.
        scheme: Name of its quantization scheme; an .onnx is ``fp32``.
        path: The file; None where there is none. What does not agree with PyTorch is in
            ``rejected/``, so that it cannot be shipped by accident.
        parity: The comparison with PyTorch; its verdict is that of both signatures.
        raw_parity: That of the signature of raw landmarks; None where the file has only that, or
            none.
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
    seconds: float = 0.0
    operators: Mapping[str, int] = field(default_factory=dict)
    multiply_accumulates: Mapping[str, int] = field(default_factory=dict)
    inputs: str = ""
    tried: Sequence[Sample] = field(default=(), repr=False, compare=False)
    preprocessing: Mapping[str, Any] = field(default_factory=dict, repr=False)
    repro: str = ""

    @property
    def verdicts(self) -> list[Verdict]:
        """One a signature that was compared."""
        return [self.parity, *([self.raw_parity] if self.raw_parity else [])]

    def file_facts(self) -> dict[str, int | str | None]:
        """Size and hash of the file, for manifests; None where there is none."""
        if self.path is None:
            return {"bytes": None, "sha256": None}
        return {"bytes": self.path.stat().st_size, "sha256": file_sha256(self.path)}
