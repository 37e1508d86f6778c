"""Parts of a model card that are about its use: front matter, which file, how, and the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from bridge.conversion.recommendation import Candidate, recommend
from bridge.conversion.training_facts import TrainingFacts
from bridge.quantization.schemes import FLOAT
from bridge.verification.verdict import Verdict
from signbart.models.io_spec import SIGNATURE
from signbart.recordings.names import UNKNOWN_SIGNER
from signbart.training.splits import UNSEEN

# Of https://huggingface.co/tasks the one whose models answer what a video shows.
_TASK = "video-classification"
_MANY = 10  # signers; of fewer the card says that they are few


def front_matter(
    name: str,
    verdicts: Sequence[Verdict],
    license: str | None,
    training: TrainingFacts | None,
    judged_on: str,
) -> str:
    """The YAML that model hubs read, in the form of https://huggingface.co/docs/hub/model-cards.

    Results are listed where clips judged that the model was not trained on, and no others.
    """
    data = [training.data] if training and training.data else []
    measured = [v for v in _first_signatures(verdicts) if v.accuracy is not None]
    tree: dict[str, Any] = {
        "license": license or "other",
        "library_name": "litert",
        "pipeline_tag": _TASK,
        "tags": ["sign-language-recognition", "keypoints", "signbart", "tflite"],
    }
    if data:
        tree["datasets"] = data
    if measured:
        tree["metrics"] = ["accuracy"]
    if measured and UNSEEN in judged_on:
        task = {"type": _TASK, "name": "isolated sign recognition"}
        judged = data[0] if data else "recordings"
        results = [
            {
                "task": task,
                # Not `samples`, which of float files are the inputs that are compared.
                "dataset": {"type": judged, "name": f"{judged}, {_clips(judged_on)}"},
                "metrics": [
                    {
                        "type": "accuracy",
                        "value": round(verdict.accuracy, 2),
                        "name": f"accuracy in percent, {verdict.artifact}",
                    }
                ],
            }
            for verdict in measured
        ]
        tree["model-index"] = [{"name": name, "results": results}]
    # No anchors: a task stands in every result.
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda self, value: True})
    text = yaml.dump(tree, Dumper=dumper, sort_keys=False, allow_unicode=True, width=1000)
    if license is None:
        text = text.replace("license: other\n", "license: other  # the weights' owner decides\n", 1)
    return f"---\n{text}---"


def which_file(
    verdicts: Sequence[Verdict], sizes: Mapping[str, int], judged_on: str
) -> tuple[str | None, list[str]]:
    """The file to ship, and in words what it costs beside float32; None and nothing of none."""
    tflite = {
        verdict.artifact: verdict
        for verdict in _first_signatures(verdicts)
        if verdict.artifact in sizes and verdict.artifact.endswith(".tflite")
    }
    usable = [
        Candidate(name, sizes[name], verdict.accuracy)
        for name, verdict in tflite.items()
        if verdict.passed
    ]
    found = recommend(usable)
    if found is None:
        return None, []
    chosen = found.candidate
    verdict = tflite[chosen.name]
    said = f"**`{chosen.name}`**, {chosen.bytes:,} bytes"
    floats = [one for one in usable if tflite[one.name].scheme == FLOAT]
    if floats and verdict.scheme != FLOAT:
        said += f" ({chosen.bytes / floats[0].bytes:.2f} of float32's {floats[0].bytes:,})"
    if verdict.accuracy is not None:
        said += f": it recognises {verdict.accuracy:.2f} % of {_clips(judged_on)}"
        if verdict.reference_accuracy is not None:
            said += f"; PyTorch {verdict.reference_accuracy:.2f} %"
    why = found.reason if len(tflite) > 1 else "It is the only .tflite that was made."
    rejected = [f"`{name}`" for name, verdict in tflite.items() if not verdict.passed]
    if rejected:
        why += f" Rejected: {', '.join(rejected)}."
    return chosen.name, ["## Which file", "", f"{said}. {why}", ""]


def how_to_run(name: str, metadata: Mapping[str, Any]) -> list[str]:
    """One recording, from the command line and in Python; and the frame rate."""
    prepared = metadata["preprocessing"]
    frames = prepared["max_frames"]
    coordinates = "3" if prepared["unit"] == "metres" else "2 or 3"
    rate = (
        "that of the recordings it was trained on, which it does not carry. Frames are taken as "
        f"they come; only of clips of more than {frames} some are left out."
    )
    if prepared.get("resample") == "linear":
        rate = (
            f"any. The model sees {frames} frames, spread over all of the clip, however many that "
            "has; a clip is one sign from its beginning to its end."
        )
    return [
        "## How to run it",
        "",
        "```",
        f"signbart classify {name} CLIP",
        "```",
        "",
        "```python",
        "from bridge import open_model",
        "",
        f'label, score = open_model("{name}").classify("CLIP")[0]',
        "```",
        "",
        "CLIP is a recording of landmarks, such as an .npy of (frames, "
        f"{prepared['num_landmarks']}, {coordinates}). Without this project: LiteRT's interpreter "
        "and the signatures below.",
        "",
        f"Frame rate: {rate}",
        "",
    ]


def about_training(training: TrainingFacts | None) -> list[str]:
    """Whose signing the model has seen; nothing where the checkpoint does not say."""
    if training is None:
        return []
    signers = _known_signers(training)
    said = f"{training.clips:,} clips" + (f" of {training.data}" if training.data else "")
    if signers:
        count = f"{len(signers)} signer{'s' if len(signers) > 1 else ''}"
        said += f"; trained on {count}: {', '.join(signers)}"
    elif training.data:
        said += "; their signers are not told apart"
    if training.validated:
        said += f"; the epoch was chosen by {', '.join(training.validated)}"
    said += f"; tested on {', '.join(training.held_out)}" if training.held_out else ""
    epoch = "" if training.epoch is None else f" The weights are those of epoch {training.epoch}."
    return ["## Training", "", f"{said}.{epoch}", ""]


def limits(
    metadata: Mapping[str, Any], training: TrainingFacts | None, judged_on: str
) -> list[str]:
    """What the model cannot do, and what nobody has measured."""
    lines = [
        f"- It knows {len(metadata['labels'])} classes, each a whole clip, and gives every clip "
        "one of them: what is none of them is not noticed, but by a low probability.",
    ]
    signers = len(_known_signers(training)) if training else 0
    if 0 < signers < _MANY:
        few = "One signer is little" if signers == 1 else f"{signers} signers are few"
        lines.append(
            f"- {few}: others, above all left-handed ones and those of other regions, may be "
            "recognised less well."
        )
    if UNSEEN not in judged_on:
        lines.append(
            "- The figures below say that the files compute what PyTorch computes, and nothing of "
            "strangers; `signbart loso` and `signbart evaluate` measure those."
        )
    lines.append(
        "- It sees landmarks, not pictures: what the landmark finder misses, such as a hand behind "
        "the other, is lost."
    )
    return ["## Limits", "", *lines, ""]


def _known_signers(training: TrainingFacts) -> list[str]:
    return [name for name in training.signers if name != UNKNOWN_SIGNER]


def _clips(judged_on: str) -> str:
    """How many, and which: without their path, which is of one machine."""
    return judged_on.partition(" (")[0]


def _first_signatures(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.signature == SIGNATURE]
