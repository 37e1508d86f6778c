"""What the folds of `bridge.loso` measured, read back from their folders as plain rows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError
from bridge.quantize import FLOAT, SCHEMES
from bridge.routes import ROUTES

PLAIN = "float32"  # training that knew nothing of quantization
NOT_RUN = "not run"


@dataclass(frozen=True)
class Result:
    """One artifact of one fold.

    Attributes:
        data: Name of the configuration, which names the data.
        fold: The signer that was tested on, or ``all``.
        training: `PLAIN`, ``qat_dynamic`` or ``qat_static``.
        route: Name of the route.
        scheme: Name of the quantization scheme.
        verdict: Of the comparison with PyTorch.
        clips: How many it was judged on.
        accuracy: Percent; None where it was not measured.
        top5: Percent.
        agreement: Percent of clips with the class that PyTorch gives the same weights.
        scaled_rmse: Error of the logits over their root mean square.
        float_accuracy: PyTorch's accuracy in float32, with the same weights.
        float_top5: PyTorch's top-5.
        bytes: Size of the file.
        share_int8: Percent of multiply-accumulates that run in int8.
    """

    data: str
    fold: str
    training: str
    route: str
    scheme: str
    verdict: str
    clips: int
    accuracy: float | None
    top5: float | None
    agreement: float | None
    scaled_rmse: float | None
    float_accuracy: float | None
    float_top5: float | None
    bytes: int | None
    share_int8: float | None


def read_results(run: Path) -> list[Result]:
    """Every .tflite of every fold of a run.

    Args:
        run: The output folder of `bridge.loso`.

    Raises:
        BridgeError: It holds no fold with exports, or a manifest cannot be read.
    """
    found = []
    for manifest in sorted(run.glob("*/exports/manifest.json")):
        found += _read_manifest(manifest, manifest.parent.parent.name, PLAIN)
    for manifest in sorted(run.glob("*/qat_*/exports/manifest.json")):
        training = manifest.parent.parent
        found += _read_manifest(manifest, training.parent.name, training.name)
    if not found:
        raise BridgeError(f"{run} holds no fold with exports; run python -m bridge.loso first")
    return found


def _read_manifest(path: Path, fold: str, training: str) -> list[Result]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return [
            _result(manifest["name"], fold, training, entry)
            for entry in manifest["artifacts"]
            if not entry.get("file", "").endswith(".onnx")
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BridgeError(
            f"{path} is no manifest of this version ({type(error).__name__}: {error}); remove its "
            "folder and run python -m bridge.loso again"
        ) from None


def _result(data: str, fold: str, training: str, entry: dict[str, Any]) -> Result:
    measured = entry["parity"]
    products = entry["multiply_accumulates"]
    agreement = measured.get("argmax_agreement")
    return Result(
        data=data,
        fold=fold,
        training=training,
        route=entry["route"],
        scheme=entry["scheme"],
        verdict=entry["verdict"],
        clips=measured["samples"],
        accuracy=measured.get("accuracy"),
        top5=measured.get("top5"),
        agreement=None if agreement is None else 100 * agreement,
        scaled_rmse=measured.get("scaled_rmse"),
        float_accuracy=measured.get("reference_accuracy"),
        float_top5=measured.get("reference_top5"),
        bytes=entry.get("bytes"),
        share_int8=100 * products.get("int8", 0) / sum(products.values()) if products else None,
    )


def mean(values: Iterable[float | None]) -> float | None:
    """The mean, if there is anything and all of it was measured."""
    values = list(values)
    return None if not values or None in values else statistics.fmean(values)


def cell(value: float | None, form: str = ".2f") -> str:
    """A number for a table; what was not measured says so."""
    return NOT_RUN if value is None else format(value, form)


SCHEME_COLUMNS = (
    "scheme",
    "route",
    "accuracy",
    "to float32",
    "top-5",
    "agreement",
    "rmse / rms",
    "bytes",
    "in int8",
    "latency to fp32",
)


def scheme_rows(results: Sequence[Result], latency: dict[str, Any] | None) -> list[list[str]]:
    """Cells of `SCHEME_COLUMNS`, each the mean over the folds of one run.

    Args:
        results: Of one run; quantization-aware training does not count here.
        latency: What `bridge.loso` wrote of it; None where it did not.
    """
    rows = []
    for scheme in SCHEMES:
        for route in ROUTES:
            here = [r for r in results if (r.training, r.scheme, r.route) == (PLAIN, scheme, route)]
            if not here:
                continue
            accuracy, reference = (
                mean(getattr(r, name) for r in here) for name in ("accuracy", "float_accuracy")
            )
            lost = None if accuracy is None else accuracy - reference
            # Judged on clips are quantized artifacts; float32 ones on inputs of their own.
            agreement = mean(r.agreement for r in here)
            ratio = None
            if latency is not None:
                ratio = latency["to_fp32"].get(f"{route} {scheme}")
            rows.append(
                [
                    scheme,
                    route,
                    cell(accuracy),
                    cell(lost, "+.2f"),
                    cell(mean(r.top5 for r in here)),
                    cell(agreement),
                    cell(mean(r.scaled_rmse for r in here), ".4f" if scheme != FLOAT else ".1e"),
                    cell(mean(r.bytes for r in here), ",.0f"),
                    cell(mean(r.share_int8 for r in here), ".1f"),
                    cell(ratio),
                ]
            )
    return rows


QAT_COLUMNS = (
    "signer",
    "float32",
    "PTQ dynamic_int8",
    "QAT dynamic_int8",
    "PTQ int8",
    "QAT int8",
)


def qat_rows(results: Sequence[Result]) -> list[list[str]]:
    """Cells of `QAT_COLUMNS`: accuracy of the .tflite, mean over the routes, a row a fold.

    Then mean ± standard deviation over the folds that have all of them.
    """
    folds = sorted({r.fold for r in results if r.training != PLAIN})
    table = []
    for fold in folds:

        def of(training: str, scheme: str, fold: str = fold) -> float | None:
            here = [
                r.accuracy
                for r in results
                if (r.fold, r.training, r.scheme) == (fold, training, scheme)
            ]
            return mean(here)

        table.append(
            [
                of(PLAIN, FLOAT),
                of(PLAIN, "dynamic_int8"),
                of("qat_dynamic", "dynamic_int8"),
                of(PLAIN, "int8"),
                of("qat_static", "int8"),
            ]
        )
    rows = [[fold, *map(cell, values)] for fold, values in zip(folds, table, strict=True)]
    if len(folds) > 1:
        columns = list(zip(*table, strict=True))
        rows.append(
            [
                "mean ± std",
                *(
                    NOT_RUN
                    if None in column
                    else f"{statistics.fmean(column):.2f} ± {statistics.pstdev(column):.2f}"
                    for column in columns
                ),
            ]
        )
    return rows
