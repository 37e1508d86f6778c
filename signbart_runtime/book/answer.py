"""What the results report opens with: which file to ship and why, and what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bridge.conversion.recommendation import Candidate, recommend
from bridge.routes import ROUTES
from bridge.verification.verdict import PASS
from signbart.artifacts.completeness import MANIFEST
from signbart.configuration.reading import load_config
from signbart.models import kind_of
from signbart.training.folds import ALL
from signbart_runtime.book.results import (
    CHECKPOINT,
    FP32,
    Result,
    Run,
    Variant,
    mean,
    read_json,
    relative_time,
    values,
)
from signbart_runtime.book.tables import TOO_NOISY
from signbart_runtime.folds.layout import COMMAND, EXPORTS, LATENCY

_MADE_BY = ("signbart", "torch", "tensorflow", "ai-edge-litert", "ai-edge-quantizer")
_CHANCE = 1.5  # times as good as guessing is no recommendation
Kind = tuple[Variant, str]


class Answer(NamedTuple):
    """A sentence, what was measured of it by name, and what else to know."""

    headline: str
    measured: list[tuple[str, str]]
    notes: list[str]


def answer(run: Run) -> Answer:
    """What to ship, how good, large and fast it is, and why that."""
    kinds = {_called(run, kind): kind for kind in run.kinds if kind[1] in ROUTES}
    made = {name: run.all_folds(*kind) for name, kind in kinds.items()}
    usable = {
        name: models
        for name, models in made.items()
        if all(one is not None and one.verdict == PASS for one in models)
    }
    found = recommend(_candidate(name, models) for name, models in usable.items())
    if found is None:
        return _none_agrees(made)
    chosen = found.candidate
    kind, models = kinds[chosen.name], usable[chosen.name]
    agree = "its file agrees" if len(models) == 1 else f"all of its {len(models)} files agree"
    measured = [
        ("accuracy", _recognised(run, kind, chosen)),
        ("size", _size(run, kind, chosen)),
        ("time", _time(run, kind)),
        ("agreement", f"{agree} with PyTorch, within the limits of its scheme"),
    ]
    notes = [_why(found.reason, made, usable), _where(run)]
    if chosen.accuracy is not None and chosen.accuracy < _CHANCE * 100 / run.classes:
        notes.insert(0, "That is hardly more than guessing: look at the data, or train longer.")
    headline = f"Ship {chosen.name}."
    return Answer(headline, [(name, text) for name, text in measured if text], notes)


def facts(run: Run) -> list[tuple[str, str]]:
    """What was done, on what, by which command and with which seed, as far as folders tell."""
    first = run.folds[0]
    config = load_config(run.folder / first / "config.yaml")
    trained, manifest = run.trained(first), read_json(run.folder / first / EXPORTS / MANIFEST) or {}
    clips = sum(max(r.clips for r in run.results if r.fold == fold) for fold in run.folds)
    data = [f"{trained['data']}: "] if trained.get("data") else []
    signers = "" if run.folds == [ALL] else f" by {len(run.folds)} signers"
    classes = f", of {run.classes} classes" if run.classes else ""
    model = [kind_of(config.model).title]
    if trained.get("parameters"):
        model.append(f"{trained['parameters']:,} parameters")
    points = f"{config.num_keypoints} keypoints of layout {config.data.layout}"
    model += [points, f"{config.data.max_frames} frames"]
    found = [("data", f"{''.join(data)}{clips:,} clips evaluated{classes}{signers}")]
    found += [("model", ", ".join(model)), ("training", _training(run, config.train, trained))]
    if run.latency is not None:
        found.append(("times", _times(run.latency)))
    command = run.folder / COMMAND
    if command.is_file():
        found.append(("command", command.read_text(encoding="utf-8").strip()))
    versions = manifest.get("versions", {})
    known = [f"{name} {versions[name]}" for name in _MADE_BY if name in versions]
    return [*found, ("made with", ", ".join(known))] if known else found


def _called(run: Run, kind: Kind) -> str:
    variant, route = kind
    how = {
        "FP32": "",
        "PTQ": ", quantized after training (PTQ)",
        "QAT": " of quantization-aware training (QAT)",
    }
    by = f" by route {route}" if len(run.routes) > 1 else ""
    scheme = "float32" if variant == FP32 else variant.scheme
    return f"the {scheme} .tflite{by}{how[variant.precision]}"


def _candidate(name: str, models: Sequence[Result]) -> Candidate:
    time, _ = relative_time(models)
    accuracy, size = (mean(values(models, what)) for what in ("accuracy", "bytes"))
    return Candidate(name, size, accuracy, time)


def _recognised(run: Run, kind: Kind, chosen: Candidate) -> str:
    """How many clips, of whom, beside the float file and the checkpoint."""
    if chosen.accuracy is None:
        return ""
    said = [f"{chosen.accuracy:.2f} % of {judges(run)}"]
    found = values(run.all_folds(*kind), "accuracy")
    if len(found) > 1:
        said.append(f"mean of {len(found)}, {min(found):.2f} to {max(found):.2f}")
    others = [(run.framework.title, CHECKPOINT)]
    if kind[0] != FP32:
        others.insert(0, ("float32", kind[1]))
    for name, route in others:
        accuracy = mean(values(run.all_folds(FP32, route), "accuracy"))
        if accuracy is not None:
            said.append(f"{name} {accuracy:.2f} %")
    return "; ".join(said)


def judges(run: Run) -> str:
    """Whose clips the scores are of, and how much that says."""
    if run.folds != [ALL]:
        return "the clips of signers it never saw"
    held_out = run.held_out(ALL)
    if held_out["test"]:
        return "the clips that are marked test"
    if held_out["val"]:
        return "the validation clips, which it did not train on, but which chose its best epoch"
    return "the clips that it was trained on, which says nothing of others"


def _size(run: Run, kind: Kind, chosen: Candidate) -> str:
    floats = mean(values(run.all_folds(FP32, kind[1]), "bytes"))
    beside = f", {chosen.bytes / floats:.2f} of float32's" if floats and kind[0] != FP32 else ""
    return f"{chosen.bytes:,.0f} bytes{beside}"


def _time(run: Run, kind: Kind) -> str:
    models = run.all_folds(*kind)
    share, noisy = relative_time(models)
    if noisy:
        return (
            f"{TOO_NOISY}: something else kept the machine busy; remove {LATENCY} in the folds and "
            "give the command again, with --resume, on an idle machine"
        )
    milliseconds = mean(values(models, "latency_ms"))
    if milliseconds is None:
        return ""
    beside = f", {share:.2f} of float32's" if share and kind[0] != FP32 else ""
    return f"{milliseconds:.2g} ms a call{beside}"


def _why(reason: str, made: Mapping[str, Sequence], usable: Mapping[str, Sequence]) -> str:
    if len(made) == 1:
        return "Nothing else was asked for."
    rejected = [name for name in made if name not in usable]
    return f"{reason} Rejected in some fold: {'; '.join(rejected)}." if rejected else reason


def _where(run: Run) -> str:
    """Which file that is; of folds none is."""
    if run.folds == [ALL]:
        return f"It stands below {run.folder / ALL}."
    return (
        "The file itself is yet to be made: each of these was trained without a signer, to be "
        "tested on them. The same command with --full-data and another --output trains on "
        "everybody and makes it."
    )


def _none_agrees(made: Mapping[str, Sequence[Result | None]]) -> Answer:
    counts = [
        (name, f"{sum(one is not None and one.verdict == PASS for one in models)} of {len(models)}")
        for name, models in made.items()
    ]
    note = (
        "There is no kind of file that agrees with PyTorch in every fold. What was rejected, and "
        "why, stands below."
    )
    return Answer("Ship nothing yet.", counts, [note])


def _training(run: Run, config, trained: Mapping) -> str:
    count = trained.get("epochs")
    epochs = f", {count} epoch{'s' if count > 1 else ''}" if count else ""
    how = f"{run.framework.title}, seed {config.seed}{epochs}"
    if run.folds == [ALL]:
        return f"{how}; one training on all signers, evaluated on {judges(run)}"
    each = f"{len(run.folds)} trainings, each" if len(run.folds) > 1 else "1 training,"
    return f"{how}; {each} evaluated on the signer it never saw"


def _times(latency: Mapping) -> str:
    return (
        f"medians of {latency['rounds']} bare calls, {latency['frames']} frames, "
        f"{latency['threads']} thread, by turns with the float32 of the same route, on "
        f"{latency['machine']}; only the ratios mean anything elsewhere"
    )
