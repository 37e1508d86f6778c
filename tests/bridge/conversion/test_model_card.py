"""The model card: what hubs read, which file it names, and what it admits."""

import dataclasses

import pytest
import yaml

from bridge.conversion.model_card import model_card
from bridge.conversion.recommendation import Candidate, recommend
from bridge.conversion.training_facts import TrainingFacts, training_facts
from bridge.verification.verdict import PASS, WRONG, Verdict
from bridge.weights.source import Source
from signbart.artifacts.metadata import build_metadata
from signbart.models import io_spec
from signbart.training.splits import UNSEEN
from signbart_torch.training.checkpoint import Checkpoint, load_model, save_checkpoint

LABELS = ("a", "b", "c", "d", "e")
FACTS = TrainingFacts(90, ("S3",), 12, "signs", ("S1", "S2"))


@pytest.fixture
def metadata(config):
    return build_metadata(
        config, LABELS, io_spec(config), checkpoint_sha256="ab12", route="litert", scheme="fp32"
    )


def verdict(name, scheme, accuracy, passed=PASS):
    return Verdict(
        f"{name}.tflite", passed, scheme=scheme, samples=30, accuracy=accuracy,
        reference_accuracy=91.0, top5=100.0,
    )  # fmt: skip


@pytest.fixture
def verdicts():
    return [
        verdict("float", "fp32", 91.0), verdict("dynamic", "dynamic_int8", 90.7),
        verdict("static", "int8", 88.0), verdict("broken", "int16x8", 91.0, WRONG),
    ]  # fmt: skip


SIZES = {"float.tflite": 1000, "dynamic.tflite": 300, "static.tflite": 200, "broken.tflite": 100}


def front(card):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("\n---\n")[0])


def test_hubs_read_results_on_strangers(metadata, verdicts):
    card = model_card(
        metadata,
        verdicts,
        {},
        None,
        sizes=SIZES,
        training=FACTS,
        judged_on=f"40 clips {UNSEEN} (/a/path)",
    )
    found = front(card)
    assert "/a/path" not in card
    assert (found["license"], found["library_name"]) == ("other", "litert")
    assert found["pipeline_tag"] and "signbart" in found["tags"]
    assert found["datasets"] == ["signs"] and found["metrics"] == ["accuracy"]
    (model,) = found["model-index"]
    values = [result["metrics"][0]["value"] for result in model["results"]]
    assert model["name"] == "small" and values == [91.0, 90.7, 88.0, 91.0]
    # Thirty inputs were compared, which is not what accuracy is of.
    assert {r["dataset"]["name"] for r in model["results"]} == {f"signs, 40 clips {UNSEEN}"}
    # What https://github.com/huggingface/hub-docs/blob/main/modelcard.md requires of each.
    for result in model["results"]:
        assert {"type"} <= result["task"].keys() and {"type", "name"} <= result["dataset"].keys()
    assert "was not measured here" not in card


def test_what_was_trained_on_is_no_result(metadata, verdicts):
    card = model_card(
        metadata,
        verdicts,
        {},
        None,
        sizes=SIZES,
        judged_on="30 clips that the model was trained on",
    )
    assert "model-index" not in front(card) and "datasets" not in front(card)
    assert "90.70 % of 30 clips that the model was trained on" in card
    assert "nothing of strangers" in card


def test_the_file_it_names_is_the_smallest_that_is_as_good(metadata, verdicts):
    card = model_card(metadata, verdicts, {}, None, sizes=SIZES, judged_on="30 clips")
    assert (
        "**`dynamic.tflite`**, 300 bytes (0.30 of float32's 1,000): it recognises 90.70 %" in card
    )
    assert "signbart classify dynamic.tflite CLIP" in card
    alone = model_card(metadata, verdicts[3:], {}, None, sizes=SIZES)
    assert "## Which file" not in alone and "signbart classify" not in alone


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([], None),
        ([Candidate("a", 9), Candidate("b", 5)], "b"),
        # Half a point is nothing, more is.
        ([Candidate("a", 9, 90.0), Candidate("b", 5, 89.5), Candidate("c", 1, 89.4)], "b"),
        # One without labels: accuracy tells nothing.
        ([Candidate("a", 9, 90.0), Candidate("b", 5)], "b"),
        ([Candidate("a", 9, 90.0, 1.0), Candidate("b", 5, 90.0, 1.06)], "a"),
        ([Candidate("a", 9, 90.0, 1.0), Candidate("b", 5, 90.0, 1.05)], "b"),
        # Of one the time is not known: no time counts.
        ([Candidate("a", 9, 90.0, 1.0), Candidate("b", 5, 90.0, None)], "b"),
    ],
)
def test_the_rule(candidates, chosen):
    found = recommend(candidates)
    assert (found and found.candidate.name) == chosen


BY_NOTHING = "It is, of the files that agree with PyTorch, the smallest."


@pytest.mark.parametrize(
    ("accuracies", "times", "said"),
    [
        (
            (90.0, 90.0),
            (1.0, 1.0),
            "at most 0.5 points of accuracy below the best, the smallest of t",
        ),
        ((90.0, 90.0), (1.0, None), "0.5 points of accuracy below the best, the smallest."),
        ((90.0, None), (1.0, 1.0), "with PyTorch, the smallest of those within 5 % of the fastest"),
        ((90.0, None), (1.0, None), BY_NOTHING),
        ((None,), (None,), "It is the only one that agrees with PyTorch."),
    ],
)
def test_the_reason_names_what_counted_alone(accuracies, times, said):
    candidates = [
        Candidate(str(at), at, *numbers)
        for at, numbers in enumerate(zip(accuracies, times, strict=True))
    ]
    assert said in recommend(candidates).reason


def test_the_card_names_what_was_rejected(metadata, verdicts):
    card = model_card(metadata, [verdicts[0], verdicts[3]], {}, None, sizes=SIZES)
    assert "only one that agrees with PyTorch. Rejected: `broken.tflite`." in card
    assert "that was made" not in card
    alone = model_card(metadata, verdicts[:1], {}, None, sizes=SIZES)
    assert "It is the only .tflite that was made.\n" in alone


def test_accuracy_that_was_not_measured_is_no_reason(metadata):
    unlabelled = [verdict("float", "fp32", None), verdict("dynamic", "dynamic_int8", None)]
    assert BY_NOTHING in model_card(metadata, unlabelled, {}, None, sizes=SIZES)


def test_frames_and_signers_are_told(metadata, verdicts):
    card = model_card(metadata, verdicts, {}, None, sizes=SIZES, training=FACTS)
    assert "90 clips of signs; trained on 2 signers: S1, S2; tested on S3." in card
    assert "\n- 2 signers are few" in card and "epoch 12" in card
    assert "Frame rate: that of the recordings it was trained on" in card
    metadata["preprocessing"]["resample"] = "linear"
    assert "Frame rate: any." in model_card(metadata, verdicts, {}, None, sizes=SIZES)


def test_a_recording_in_metres_has_three_coordinates(metadata, verdicts):
    """Without depth there is no telling which way somebody stands."""
    assert "(frames, 63, 2 or 3)" in model_card(metadata, verdicts, {}, None, sizes=SIZES)
    metadata["preprocessing"]["unit"] = "metres"
    assert "(frames, 63, 3)" in model_card(metadata, verdicts, {}, None, sizes=SIZES)


@pytest.mark.parametrize(
    ("signers", "said"),
    [(("S1", "unknown"), "- One signer is little: others,"), (("unknown",), None)],
)
def test_nobody_is_no_signer(metadata, verdicts, signers, said):
    facts = dataclasses.replace(FACTS, signers=signers)
    card = model_card(metadata, verdicts, {}, None, sizes=SIZES, training=facts)
    assert "signers are few" not in card and ("One signer is" in card) == bool(said)
    assert (said or "their signers are not told apart") in card


def test_a_checkpoint_knows_its_signers_by_its_recordings(checkpoint, recordings, tmp_path):
    model, config, names = load_model(checkpoint)
    clips = dataclasses.replace(
        recordings,
        clips=tuple(
            dataclasses.replace(clip, signer=f"S{at % 3}")
            for at, clip in enumerate(recordings.clips)
        ),
    )
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, val_signers=0, val_fraction=0.0)
    )
    known = {"fingerprint": clips.fingerprint(), "clips": len(clips), "test_signers": ["S1"]}
    path = tmp_path / "best.safetensors"
    progress = {"epoch": 4, "recordings": known}
    save_checkpoint(Checkpoint(model.state_dict(), config, names, progress=progress), path)
    source = Source(model, config, names, path)
    assert training_facts(source, clips, "data/signs.npz") == TrainingFacts(
        6, ("S1",), 4, "signs", ("S0", "S2")
    )
    assert training_facts(source, recordings, "others.npz") == TrainingFacts(6, ("S1",), 4)
    assert training_facts(Source(model, config, names, checkpoint), clips, "x") is None
