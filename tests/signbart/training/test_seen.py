"""Whom a model may know is remembered: through --init, qat, prune and distill, in both frameworks.

The first model is trained on anna, ben and cleo; dan is kept out.
"""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from signbart.errors import ConfigError
from signbart.recordings.clip import ClipSet
from signbart.training.distillation import Settings
from signbart.training.frameworks import FRAMEWORKS
from signbart.training.learner import Start
from signbart.training.pruning import Target
from signbart.training.qat import training_config
from signbart.training.seen import MARKED, kept_out, seen_by
from signbart.training.warm_start import Init
from signbart.weights.stored import read_progress

# Of TensorFlow and Keras, about their own eager mode.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Even though the `tf.config"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
]


def marked(clips: ClipSet, signer: str) -> ClipSet:
    """The same clips, those of a signer marked for testing: other recordings."""
    return ClipSet(
        tuple(
            dataclasses.replace(clip, split="test" if clip.signer == signer else "train")
            for clip in clips.clips
        ),
        clips.class_names,
    )


def model(clips, test_signers, **parts) -> SimpleNamespace:
    recordings = {"fingerprint": clips.fingerprint(), "test_signers": test_signers}
    return SimpleNamespace(progress={"recordings": recordings, **parts})


# What a header says


@pytest.mark.parametrize("part", ["start", "teachers"])
def test_what_a_model_learned_from_knows_the_model_may_know(tiny_clips, part):
    plain = model(tiny_clips, ["ben", "dan"])
    assert kept_out(plain, tiny_clips) == ["ben", "dan"]
    assert seen_by(plain, tiny_clips, ["dan", "anna"]) == ["anna"]
    # Headers of before have such a part without `seen`.
    assert seen_by(model(tiny_clips, ["dan"], **{part: {}}), tiny_clips, ["dan"]) == []
    taught = model(tiny_clips, ["ben", "dan"], **{part: {"seen": ["dan"]}})
    assert kept_out(taught, tiny_clips) == ["ben"]
    assert seen_by(taught, tiny_clips, ["ben", "dan"]) == ["dan"]
    divided = marked(tiny_clips, "dan")
    assert seen_by(model(divided, []), divided, []) == []
    assert seen_by(model(divided, [], **{part: {"seen": [MARKED]}}), divided, []) == [MARKED]
    assert seen_by(SimpleNamespace(progress={}), tiny_clips, ["dan"]) == ["dan"]


def test_a_start_notes_whom_the_model_may_know(tiny_clips):
    progress = model(tiny_clips, ["dan"], teachers={"seen": ["dan"]}).progress
    start = Start(None, "x", {"scheme": "none"}, notes=["a note"], progress=progress)
    found = start.tested_on(tiny_clips, ["dan", "ben"])
    assert found.identity == {"scheme": "none", "seen": ["ben", "dan"]}
    assert found.notes[0] == "a note"
    assert "warning: x may have been trained on dan, ben" in found.notes[1]
    assert "nobody was kept out" in found.notes[1]
    # Without anybody to test on nothing is said.
    assert start.tested_on(tiny_clips, []) is start


# Whole runs


@pytest.fixture(scope="module")
def eagerly(eager_keras):
    """These runs have a handful of steps."""
    with eager_keras():
        yield


@pytest.fixture(scope="module", params=["torch", "keras"])
def framework(request, eagerly) -> str:
    return request.param


@pytest.fixture(scope="module")
def package(framework):
    import signbart_tf
    import signbart_torch

    return {"torch": signbart_torch, "keras": signbart_tf}[framework]


@pytest.fixture(scope="module")
def short(tiny_config):
    return dataclasses.replace(
        tiny_config, train=dataclasses.replace(tiny_config.train, epochs=1, batch_size=16)
    )


def fit(function, clips, config, folder, framework, **options):
    """Trains: the checkpoint, and what was announced."""
    said: list[str] = []
    options = {"device": "cpu", "announce": said.append, **options}
    function(clips, config, folder, **options)
    return folder / FRAMEWORKS[framework].best, said[0]


@pytest.fixture(scope="module")
def first(framework, package, made_clips, short, tmp_path_factory):
    """Knows anna, ben and cleo."""
    folder = tmp_path_factory.mktemp("first")
    train = package.train_model
    return fit(train, made_clips, short, folder, framework, test_signers=["dan"])[0]


@pytest.fixture(scope="module")
def second(framework, package, first, made_clips, short, tmp_path_factory):
    """Starts from it and is tested on anna, whom its start knows: checkpoint, words."""
    folder = tmp_path_factory.mktemp("second")
    options = {"test_signers": ["anna"], "init": Init(first)}
    return fit(package.train_model, made_clips, short, folder, framework, **options)


def test_a_start_from_a_start_warns_too(
    framework, package, first, second, made_clips, short, tmp_path
):
    checkpoint, said = second
    assert "may have been trained on anna" in said and "dan was kept out" in said
    assert read_progress(checkpoint)["start"]["seen"] == ["anna"]
    results = json.loads((checkpoint.parent / "results.json").read_text())
    assert results["start"]["seen"] == ["anna"]
    train = package.train_model
    options = {"test_signers": ["anna"], "init": Init(checkpoint)}
    third, said = fit(train, made_clips, short, tmp_path / "third", framework, **options)
    assert "may have been trained on anna" in said and "nobody was kept out" in said
    assert read_progress(third)["start"]["seen"] == ["anna"]
    # It is gone on with; and strangers stay strangers, of whom nothing is said.
    train(made_clips, short, tmp_path / "third", device="cpu", resume=True, **options)
    options = {"test_signers": ["dan"], "init": Init(first)}
    stranger, said = fit(train, made_clips, short, tmp_path / "dan", framework, **options)
    assert "may have been trained" not in said and "seen" not in read_progress(stranger)["start"]


def test_clips_marked_for_testing_are_asked_after(
    framework, package, first, made_clips, short, tmp_path
):
    divided = marked(made_clips, "ben")
    found, said = fit(package.train_model, divided, short, tmp_path, framework, init=Init(first))
    assert "may have been trained on the clips marked test" in said
    assert read_progress(found)["start"]["seen"] == [MARKED]


def test_training_for_int8_on_other_recordings(
    framework, package, first, made_clips, short, tmp_path
):
    """Those it was trained on without the name of who is tested: so the command names them."""
    config = training_config(short, ["train.lr=1e-4"], source="here")

    def train(clips, config, folder, **options):
        checkpoint = package.load_checkpoint(first)
        package.train_quantized(clips, checkpoint, config, folder, source=first, **options)

    divided = marked(made_clips, "ben")
    for signer, known in (("anna", True), ("dan", False)):
        folder, options = tmp_path / signer, {"test_signers": [signer]}
        found, said = fit(train, divided, config, folder, framework, **options)
        assert ("may have been trained on anna" in said) == known
        assert read_progress(found)["start"].get("seen", []) == [signer] * known


@pytest.fixture(scope="module")
def in_torch(framework):
    if framework != "torch":
        pytest.skip("distillation and pruning are in PyTorch only")


@pytest.mark.usefixtures("in_torch")
def test_a_teacher_whose_start_knows_the_test_signer(package, second, made_clips, short, tmp_path):
    def distil(name, teacher, test_signers, *, allow_seen=False, **options):
        options |= {"settings": Settings(allow_seen=allow_seen), "test_signers": test_signers}
        train = package.train_distilled
        return fit(
            train, made_clips, short, tmp_path / name, "torch", teachers=[teacher], **options
        )

    with pytest.raises(ConfigError, match=r"second\d*/best.* may have been trained on anna"):
        distil("refused", second[0], ["anna"])
    student, said = distil("taught", second[0], ["anna"], allow_seen=True)
    assert read_progress(student)["teachers"]["seen"] == ["anna"]
    # What goes on from the student knows her as well, however it goes on.
    options = {"test_signers": ["anna"], "init": Init(student)}
    found, said = fit(package.train_model, made_clips, short, tmp_path / "init", "torch", **options)
    assert "may have been trained on anna" in said
    assert read_progress(found)["start"]["seen"] == ["anna"]

    def prune(clips, config, folder, **options):
        checkpoint = package.load_checkpoint(student)
        options |= {"source": student, "target": Target(keep=0.9)}
        package.train_pruned(clips, checkpoint, checkpoint.config, folder, **options)

    pruned, said = fit(prune, made_clips, short, tmp_path / "pruned", "torch")
    assert "may have been trained on anna" in said
    with pytest.raises(ConfigError, match=r"pruned/best.* may have been trained on anna"):
        distil("refused", pruned, ["anna"])
