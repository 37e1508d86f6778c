"""An output folder of `signbart_runtime.loso`, read into `results.Run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError
from bridge.quantization.schemes import FLOAT
from bridge.routes import is_raw_onnx
from signbart.artifacts.completeness import MANIFEST, require_complete
from signbart.configuration.reading import load_config
from signbart.json_text import read_json_file
from signbart.training.folds import ALL
from signbart.training.frameworks import FRAMEWORKS, TORCH, Framework, framework_of
from signbart.training.predictions import Predictions, read_predictions
from signbart.training.run_folder import EVALUATION
from signbart_runtime.book.results import CHECKPOINT, ONNX, Result, Run, read_json
from signbart_runtime.folds.layout import EXPORTS, LATENCY, PLAIN, QAT, training_folder


def holds_exports(folder: Path) -> bool:
    """Whether it is one of `signbart_runtime.loso`, with artifacts, or one fold of such."""
    return any(folder.glob(f"{EXPORTS}/")) or any(folder.glob(f"*/{EXPORTS}/"))


def read_run(folder: Path) -> Run:
    """Every model of every fold in an output folder of `signbart_runtime.loso`.

    Raises:
        BridgeError: It holds no fold with exports, is one itself, holds folds that do not belong
            together, or a file cannot be read.
    """
    if (folder / EXPORTS / MANIFEST).is_file():
        raise BridgeError(
            f"{folder} is one fold or export; give the output folder of signbart loso-report that "
            "holds the folds"
        )
    results: list[Result] = []
    latency = None
    for training in (PLAIN, *QAT):
        pattern = f"*/{EXPORTS}" if training == PLAIN else f"*/{training}/{EXPORTS}"
        for manifest in sorted(folder.glob(f"{pattern}/{MANIFEST}")):
            made, times = _read_training(manifest, training)
            results += made
            latency = latency or times
    if not results:
        found = "holds no fold with exports" if folder.is_dir() else "is no folder"
        raise BridgeError(f"{folder} {found}; give the output folder of signbart loso-report")
    folds = sorted({result.fold for result in results})
    _require_one_run(folder, folds)
    return Run(folder, _framework_of(folder / folds[0]), tuple(results), latency)


def _require_one_run(folder: Path, folds: Sequence[str]) -> None:
    """Refuses folds that have no mean.

    Those are of several frameworks or configurations, or one of them saw everybody.

    Raises:
        SignBartError: Says which, or which configuration cannot be read.
    """
    if ALL in folds and len(folds) > 1:
        raise BridgeError(
            f"{folder} holds {', '.join(folds)}: folds that leave a signer out and one trained on "
            "all are not one run; move one of them to another folder"
        )
    for training in (PLAIN, *QAT):
        paths = [training_folder(folder / fold, training) / "config.yaml" for fold in folds]
        # Of a fold that had no such training there is none.
        configs = {path: load_config(path) for path in paths if training == PLAIN or path.is_file()}
        for path, config in configs.items():
            first = next(iter(configs))
            if config != configs[first]:
                raise BridgeError(
                    f"{path} and {first} differ, so these folds are not one run; move one of them "
                    "to another folder"
                )
    first, framework = folder / folds[0], _framework_of(folder / folds[0])
    for other in (folder / fold for fold in folds):
        if (found := _framework_of(other)) != framework:
            raise BridgeError(
                f"{other} was trained in {found.title} and {first} in {framework.title}, so these "
                "folds are not one run; move one of them to another folder"
            )


def _read_training(path: Path, training: str) -> tuple[list[Result], Mapping[str, Any] | None]:
    """The models of one run folder, and what their times were measured on."""
    folder = path.parent.parent
    fold_folder = folder if training == PLAIN else folder.parent
    fold = fold_folder.name
    latency = read_json(folder / LATENCY)
    times = latency["artifacts"] if latency else {}
    try:
        require_complete(path)
        manifest = read_json_file(path)
        data, framework = manifest["name"], _framework_of(fold_folder)
        if framework != TORCH:  # so that both frameworks' runs can stand in one book
            data = f"{data} {framework.title}"
        files = [entry.get("file", "") for entry in manifest["artifacts"]]
        found = [
            _result(data, fold, training, entry, folder, times)
            for entry in manifest["artifacts"]
            # What takes raw landmarks says what the .onnx beside it says.
            if not is_raw_onnx(entry.get("file", ""), files)
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BridgeError(
            f"{path} is no manifest of this version ({type(error).__name__}: {error}); remove its "
            "folder and run signbart loso-report again"
        ) from None
    if training == PLAIN:
        reference = read_predictions(folder / EVALUATION, framework.best)
        if reference is not None:
            named = {"data": data, "fold": fold, "training": training, "scheme": FLOAT}
            found.append(Result(route=CHECKPOINT, verdict="pass", **named, **_scores(reference)))
    return found, latency


def _framework_of(fold: Path) -> Framework:
    framework = framework_of(fold)
    if framework is None:
        names = " nor ".join(framework.last for framework in FRAMEWORKS.values())
        raise BridgeError(
            f"{fold} holds neither {names}, so it is not known what it was trained in; remove that "
            "folder and run signbart loso-report again"
        )
    return framework


def _result(
    data: str,
    fold: str,
    training: str,
    entry: Mapping[str, Any],
    folder: Path,
    times: Mapping[str, Mapping[str, Any]],
) -> Result:
    measured = entry["parity"]
    agreement = measured.get("argmax_agreement")
    file, sha256 = entry.get("file", ""), entry.get("sha256")
    evaluation = None
    if file:
        evaluation = read_predictions(folder / EVALUATION, Path(file).name, sha256)
    time = times.get(file, {})
    if time.get("sha256") != sha256:
        time = {}  # of a file that has been made again since
    ratio = time.get("to_fp32")
    route = ONNX if file.endswith(ONNX) else entry["route"]
    return Result(
        data=data,
        fold=fold,
        training=training,
        route=route,
        scheme=entry["scheme"],
        verdict=entry["verdict"],
        reason=entry["reason"],
        agreement=None if agreement is None else 100 * agreement,
        scaled_rmse=measured.get("scaled_rmse"),
        max_abs=measured.get("max_abs"),
        bytes=entry.get("bytes"),
        latency_ms=time.get("median_ms"),
        speed_up=1 / ratio if ratio else None,
        noisy=bool(time.get("noisy")),  # files timed by earlier versions do not say
        operators=entry["operators"],
        multiply_accumulates=entry["multiply_accumulates"],
        **(_scores(evaluation) if evaluation else {}),
    )


def _scores(evaluation: Predictions) -> dict[str, Any]:
    scores = evaluation.scores
    return {
        "clips": scores.count,
        "accuracy": 100 * scores.accuracy,
        "top5": 100 * scores.top5,
        "mean_class_accuracy": 100 * scores.mean_class_accuracy,
        "evaluation": evaluation,
    }
