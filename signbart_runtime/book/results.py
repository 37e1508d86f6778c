"""What the folds of `signbart_runtime.loso` measured, read from their folders as plain rows."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError
from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES
from signbart.json_text import read_json_file
from signbart.training.frameworks import Framework
from signbart.training.predictions import Predictions
from signbart.training.run_folder import RESULTS
from signbart_runtime.folds.layout import PLAIN, QAT, training_folder

# Stand for a route where the checkpoint itself was evaluated, in the framework that it was trained
# in, and for the .onnx, of any batch and length.
CHECKPOINT, ONNX = "checkpoint", ".onnx"
_APART = 1.25  # folds have the same graph: times further apart than this are not of the file


@dataclass(frozen=True)
class Result:
    """One model of one fold.

    Attributes:
        data: Name of the configuration, which names the data; behind it that of the framework,
            where it is not PyTorch.
        fold: The signer that was tested on, or `ALL`.
        training: `PLAIN` or a key of `QAT`.
        route: Name of the route, `CHECKPOINT` or `ONNX`.
        scheme: Name of the quantization scheme.
        verdict: Of the comparison with PyTorch.
        reason: Of a verdict that is no pass.
        clips: How many it was evaluated on.
        accuracy: Percent; None where it was not measured.
        top5: Percent.
        mean_class_accuracy: Percent.
        agreement: Percent of clips with the class that PyTorch gives the same weights.
        scaled_rmse: Error of the logits over their root mean square, in the comparison.
        max_abs: Largest difference of a logit in the comparison.
        bytes: Size of the file.
        latency_ms: Median of one call.
        speed_up: How many times faster than its route's float32 in the same turns.
        noisy: Whether those turns differ too much for the two to be believed.
        operators: Operator -> count.
        multiply_accumulates: Number format -> count.
        evaluation: The predictions.
    """

    data: str
    fold: str
    training: str
    route: str
    scheme: str
    verdict: str
    reason: str = ""
    clips: int = 0
    accuracy: float | None = None
    top5: float | None = None
    mean_class_accuracy: float | None = None
    agreement: float | None = None
    scaled_rmse: float | None = None
    max_abs: float | None = None
    bytes: int | None = None
    latency_ms: float | None = None
    speed_up: float | None = None
    noisy: bool = False
    operators: Mapping[str, int] = field(default_factory=dict)
    multiply_accumulates: Mapping[str, int] = field(default_factory=dict)
    evaluation: Predictions | None = field(default=None, repr=False, compare=False)

    @property
    def share_int8(self) -> float | None:
        """Percent of multiply-accumulates that run in int8; None where none were counted."""
        products = self.multiply_accumulates
        return 100 * products.get("int8", 0) / sum(products.values()) if products else None


@dataclass(frozen=True)
class Variant:
    """One kind of number format: ``FP32``, or a scheme after training (PTQ) or in it (QAT)."""

    precision: str
    training: str
    scheme: str

    @property
    def name(self) -> str:
        """For tables, for example ``QAT int8``."""
        return "FP32" if self.precision == "FP32" else f"{self.precision} {self.scheme}"


FP32 = Variant("FP32", PLAIN, FLOAT)


@dataclass(frozen=True)
class Run:
    """An output folder of `signbart_runtime.loso`, read.

    Attributes:
        folder: Where it stands.
        framework: What all of its folds were trained in.
        results: One a model.
        latency: What the times were measured on; None where they were not.
    """

    folder: Path
    framework: Framework
    results: tuple[Result, ...]
    latency: Mapping[str, Any] | None

    @property
    def data(self) -> str:
        """See `Result`."""
        return self.results[0].data

    @property
    def folds(self) -> list[str]:
        """Signers left out, sorted; `ALL` alone in full-data training."""
        return sorted({result.fold for result in self.results})

    @property
    def routes(self) -> list[str]:
        """Those that anything was made by, in the order of `ROUTES`."""
        found = {result.route for result in self.results}
        return [route for route in ROUTES if route in found]

    @property
    def variants(self) -> list[Variant]:
        """What files were made of, in the order of `SCHEMES`: after training (PTQ), or in it."""
        found = {(r.training, r.scheme) for r in self.results if r.route != CHECKPOINT}
        variants = []
        for scheme in SCHEMES:
            kinds = [FP32 if scheme == FLOAT else Variant("PTQ", PLAIN, scheme)]
            kinds += [Variant("QAT", name, scheme) for name, s in QAT.items() if s == scheme]
            variants += [kind for kind in kinds if (kind.training, scheme) in found]
        return variants

    @property
    def main_route(self) -> str:
        """The route whose artifacts are shown where there is room for one: the first."""
        return self.routes[0] if self.routes else next(iter(ROUTES))

    @property
    def classes(self) -> int | None:
        """How many the models tell apart; None where none was evaluated."""
        found = (result.evaluation for result in self.results)
        return next((len(one.class_names) for one in found if one is not None), None)

    @property
    def kinds(self) -> list[tuple[Variant, str]]:
        """What files there are to expect: every variant by every route, and the float .onnx."""
        kinds = []
        for variant in self.variants:
            kinds += [(variant, route) for route in self.routes]
            if variant.scheme == FLOAT and any(r.route == ONNX for r in self.results):
                kinds.append((variant, ONNX))
        return kinds

    def find(self, variant: Variant, route: str, fold: str) -> Result | None:
        """That model; None where it was not made."""
        for result in self.results:
            key = (result.training, result.scheme, result.route, result.fold)
            if key == (variant.training, variant.scheme, route, fold):
                return result
        return None

    def all_folds(self, variant: Variant, route: str) -> list[Result | None]:
        """That model of every fold, in the order of `folds`."""
        return [self.find(variant, route, fold) for fold in self.folds]

    def trained(self, fold: str) -> dict[str, Any]:
        """What the training of a fold wrote of itself; empty where there is nothing."""
        return read_json(self.folder / fold / RESULTS) or {}

    def held_out(self, fold: str) -> dict[str, int]:
        """How many clips validated (``val``) and tested (``test``) the training of a fold."""
        found = self.trained(fold).get("clips", {})
        return {part: found.get(part, 0) for part in ("val", "test")}

    def history(self, fold: str, training: str) -> list[dict[str, float]]:
        """Rows of a training's ``summary.csv`` as numbers; none where it was not run."""
        path = training_folder(self.folder / fold, training) / "summary.csv"
        if not path.is_file():
            return []
        with open(path, encoding="utf-8", newline="") as file:
            return [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]


def read_json(path: Path) -> dict[str, Any] | None:
    """What a file holds; None where there is none.

    Raises:
        BridgeError: It is damaged.
    """
    try:
        return read_json_file(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BridgeError(f"{path} is damaged ({error}); remove it and measure again") from None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean, if there is anything and all of it was measured."""
    values = list(values)
    return None if not values or None in values else statistics.fmean(values)


def deviation(values: Iterable[float | None]) -> float | None:
    """The standard deviation over the folds themselves, on the terms of `mean`."""
    values = list(values)
    return None if not values or None in values else statistics.pstdev(values)


def relative_time(results: Sequence[Result | None]) -> tuple[float | None, bool]:
    """A kind's time as a share of float32's, the median of its folds, and whether that is noise.

    None where a fold was not timed, and where it is noise: most folds' turns are, or they are
    further apart than files of one graph can be.
    """
    if not results or any(one is None or not one.speed_up for one in results):
        return None, False
    calm = [1 / one.speed_up for one in results if not one.noisy]
    if 2 * len(calm) < len(results) or max(calm) > _APART * min(calm):
        return None, True
    return statistics.median(calm), False


def values(results: Sequence[Result | None], name: str) -> list[float | None]:
    """One attribute of several models; None where one was not made."""
    return [None if result is None else getattr(result, name) for result in results]
