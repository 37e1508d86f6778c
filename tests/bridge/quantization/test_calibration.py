"""Clips to calibrate on and clips to judge by are never the same, and records tell which."""

import dataclasses

import numpy as np
import pytest

from bridge.artifact.runtimes import TorchRuntime
from bridge.conversion.evidence import Evidence, QuantizationOptions, with_clips
from bridge.conversion.quantized import quantization_record
from bridge.errors import BridgeError
from bridge.quantization.schemes import SCHEMES
from bridge.verification.clips import clips_to_judge
from bridge.verification.samples import make_samples
from bridge.weights.source import Source
from signbart.errors import ClipError, SignBartError
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.training.calibration import calibrate_on, calibrate_on_noise, calibrated_among
from signbart.training.splits import divide
from signbart_torch.training.checkpoint import load_checkpoint, load_model, save_checkpoint


def sources(clips: ClipSet) -> set[str]:
    return {clip.source for clip in clips.clips}


def test_the_division_is_the_trainings_own(performances, config):
    trained_on, judged, how = divide(performances, config, ["d"], count=100, seed=0)
    # d tests, and a, who follows in the ring, validates.
    assert trained_on.signer_names == ("b", "c") and judged.signer_names == ("a", "d")
    assert len(trained_on) + len(judged) == len(performances) == 240
    assert how == "that were not trained on"


@pytest.mark.parametrize("signers", [None, []])
def test_where_nothing_was_held_out_calibrations_own_clips_are(performances, config, signers):
    train = dataclasses.replace(config.train, val_signers=0, val_fraction=0.0)
    config = dataclasses.replace(config, train=train)
    shown, judged, how = divide(performances, config, signers, count=100, seed=4)
    assert len(shown) == 100 and not sources(shown) & sources(judged)
    assert sources(shown) | sources(judged) == sources(performances)
    assert "calibration does not take; the model may have been trained on them" in how
    # Calibration really takes those: the record carries the fingerprint of the chosen.
    record = calibrate_on(performances, config, count=100, seed=4, source="x").record
    from signbart.training.calibration import balanced_choice

    chosen = balanced_choice(performances.labels, performances.signers, 100, 4)
    assert record["fingerprint"] == performances.select(chosen).fingerprint()
    assert sources(performances.select(chosen)) == sources(shown)


def test_a_signer_who_is_not_there_is_an_error(performances, config):
    with pytest.raises(ClipError, match="no clips by signer 'z'; the signers are a, b, c, d"):
        divide(performances, config, ["z"], count=100, seed=0)


def test_labels_are_found_by_name(performances):
    turned = performances.class_names[::-1]
    found = performances.relabel(turned, "x.npz")
    assert found.class_names == turned
    for before, after in zip(performances.clips, found.clips, strict=True):
        assert performances.class_names[before.label] == turned[after.label]
        assert before.landmarks is after.landmarks
    assert performances.relabel(LABELS, "x.npz") == performances


LABELS = ("hello", "thank you", "naïve", "نعم", "no")


def test_a_class_that_the_model_does_not_know_is_an_error_if_it_has_clips(performances):
    used = sorted({performances.class_names[label] for label in performances.labels.tolist()})
    assert len(used) < len(LABELS)
    found = performances.relabel(used, "x.npz")
    assert set(found.labels.tolist()) == set(range(len(used)))
    with pytest.raises(ClipError, match=rf"x\.npz has clips of class '{used[0]}', which.*--labels"):
        performances.relabel([*used[1:], "other"], "x.npz")
    many = [f"class {i}" for i in range(20)]
    with pytest.raises(ClipError, match=r"class 7, …\. A published"):
        performances.relabel(many, "x.npz")


def test_a_calibration_gives_batches_of_one_and_says_where_they_come_from(performances, config):
    calibration = calibrate_on(performances, config, count=120, seed=2, source="x.npz")
    inputs = list(calibration.inputs())
    assert len(inputs) == 120
    assert {tuple(a.shape for a in one.values()) for one in inputs} == {((1, 12, 41, 2), (1, 12))}
    lengths = np.sort(calibration.attention_mask.sum(axis=1))
    assert calibration.record == {
        "data": "x.npz", "random": False, "clips": 120, "of": 240,
        "classes": len(set(performances.labels.tolist())), "signers": ["a", "b", "c", "d"],
        "seed": 2, "fingerprint": calibration.record["fingerprint"],
        "frames": {"shortest": 1, "median": int(lengths[60]), "longest": 12, "input": 12},
    }  # fmt: skip
    other = calibrate_on(performances, config, count=120, seed=3, source="x.npz")
    assert other.record["fingerprint"] != calibration.record["fingerprint"]


def test_noise_says_that_it_is_noise(config):
    one, same, other = (calibrate_on_noise(config, count=9, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.keypoints, same.keypoints)
    assert (one.keypoints != other.keypoints).any()
    assert one.record["random"] is True and one.record["data"] is None
    assert one.attention_mask.any(axis=1).all()


# What a conversion makes of its options


@pytest.fixture
def job(trained, config, performances, performances_file):
    """`job(scheme, checkpoint=…, data=…, **options)`: a conversion's quantization."""

    def make(scheme="int8", checkpoint=trained, data=True, recordings=performances, **options):
        model = load_model(checkpoint)[0]
        recordings = recordings if data else None
        evidence = Evidence(
            TorchRuntime(model, config), make_samples(config, clips=recordings), (), "", {}
        )
        return with_clips(
            evidence,
            Source(model, config, LABELS, checkpoint),
            [SCHEMES[scheme]],
            QuantizationOptions(**options),
            data=str(performances_file) if data else None,
            recordings=recordings,
            seed=0,
        )

    return make


def test_a_checkpoint_that_knows_the_recordings_divides_them(job, performances):
    made = job()
    assert made.calibration.record["signers"] == ["b", "c"] and made.calibration.record["of"] == 120
    assert len(made.clips) == 120
    assert made.clips.source.startswith("120 clips that were not trained on")
    by = {source for source, who in zip(
        [clip.source for clip in performances.clips], performances.signers, strict=True
    ) if who in "ad"}  # fmt: skip
    assert set(made.clips.descriptions) == by


def test_other_recordings_are_divided_by_calibration(job, checkpoint):
    made = job(checkpoint=checkpoint)
    assert made.calibration.record["signers"] == ["a", "b", "c", "d"] and len(made.clips) == 140
    assert "the model may have been trained on them" in made.clips.source


def test_a_user_may_name_the_test_signers(job, checkpoint):
    assert job(checkpoint=checkpoint, test_signers=["a"]).calibration.record["signers"] == [
        "c",
        "d",
    ]


def test_the_same_recordings_given_twice_are_divided_all_the_same(job, performances_file):
    """Given as --data and as --calibration-data: the clips to judge by are not shown."""
    made = job(calibration_data=str(performances_file))
    assert made.calibration.record["signers"] == ["b", "c"]


def test_nor_are_they_where_a_copy_is_given(job, checkpoint, performances_file, tmp_path):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(performances_file.read_bytes())
    assert len(job(checkpoint=checkpoint, calibration_data=str(copy)).clips) == 140


def test_test_signers_cannot_contradict_the_checkpoint(job):
    assert len(job(test_signers=["d"]).clips) == 120
    with pytest.raises(BridgeError, match=r"without d, and not without a, b; leave --test-signers"):
        job(test_signers=["a", "b"])


def test_integers_need_a_scheme_that_has_them(job):
    for scheme in ("fp32", "fp16"):
        with pytest.raises(BridgeError, match="--int8-io needs int8 or int16x8 among the schemes"):
            job(scheme, int8_io=True)


def test_a_record_tells_whether_clips_are_those_that_calibrated(job, checkpoint, performances):
    record = job(checkpoint=checkpoint).calibration.record
    assert calibrated_among(performances, record) == (100, 0)
    assert calibrated_among(performances.select(range(120)), record) == (0, 0)
    assert calibrated_among(performances, {"random": True, "clips": 100, "seed": 0}) == (0, 0)


def test_a_scheme_without_calibration_judges_by_all_that_was_not_trained_on(
    job, checkpoint, performances
):
    made = job("dynamic_int8")
    assert made.calibration is None and len(made.clips) == 120
    # No clip is set aside for a calibration that does not take place.
    few = performances.select(range(30))
    assert len(job("dynamic_int8", checkpoint=checkpoint, recordings=few).clips) == 30


def test_calibration_without_recordings_is_refused_unless_asked_for(job):
    with pytest.raises(BridgeError, match=r"give --calibration-data .*fit no real clip"):
        job(data=False)
    made = job(data=False, allow_random_calibration=True)
    assert made.calibration.record["random"] and "random inputs; give --data" in made.clips.source
    assert made.clips.labels is None


def test_too_few_clips_are_refused(job, performances, tmp_path):
    few = tmp_path / "few.npz"
    write_packed(performances.select(range(99)), few)
    with pytest.raises(SignBartError, match="99 clips are too few to calibrate"):
        job(calibration_data=str(few))
    # Recordings that are there are never replaced by noise.
    with pytest.raises(SignBartError, match="99 clips are too few to calibrate"):
        job(calibration_data=str(few), allow_random_calibration=True)


def test_parity_judges_by_the_same_clips_as_the_conversion(
    job, trained, config, performances, performances_file
):
    model = load_model(trained)[0]
    trained_on, clips = clips_to_judge(
        Source(model, config, LABELS, trained), TorchRuntime(model, config), [],
        str(performances_file), performances,
    )  # fmt: skip
    assert clips.descriptions == job().clips.descriptions
    assert trained_on.signer_names == ("b", "c")


@pytest.mark.slow
def test_what_a_file_says_of_its_making(quantized, calibration):
    record = quantization_record(quantized("onnx", "int8"), SCHEMES["int8"], calibration)
    assert record["multiply_accumulates"] == {"int8": 262_392, "float32": 48_672}
    assert record["shares"] == {"int8": 0.8435, "float32": 0.1565}
    assert record["calibration"] == dict(calibration.record)
    dynamic = quantized("onnx", "dynamic_int8")
    assert quantization_record(dynamic, SCHEMES["dynamic_int8"], calibration)["calibration"] is None


def test_whom_a_teacher_may_know_is_no_stranger(job, trained, tmp_path):
    assert "that were not trained on" in job("dynamic_int8").clips.source
    known = load_checkpoint(trained)
    for part in ("teachers", "start"):
        progress = {**known.progress, part: {"seen": ["d"]}}
        taught = tmp_path / f"{part}.safetensors"
        save_checkpoint(dataclasses.replace(known, progress=progress), taught)
        made = job("dynamic_int8", checkpoint=taught)
        assert len(made.clips) == 120 and "perhaps its teachers" in made.clips.source
        assert "that were not trained on" not in made.clips.source
