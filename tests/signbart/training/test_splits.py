"""Nobody is tested on who trained, nothing is lost, and the same seed gives the same split."""

import numpy as np
import pytest

from signbart.configuration.reading import from_dict
from signbart.configuration.schema import TrainConfig
from signbart.errors import ClipError
from signbart.recordings.clip import Clip, ClipSet
from signbart.training.splits import (
    UNSEEN,
    Split,
    divide,
    split_as_begun,
    split_clips,
    split_further,
)


def make_clips(counts: dict[str, list[int]]) -> ClipSet:
    """Clips by signer: how many of each class. The order mixes signers and classes."""
    clips = [
        Clip(np.zeros((2, 1, 2), np.float32), label, signer, repetition, f"{signer}/{label}")
        for signer, per_class in counts.items()
        for label, count in enumerate(per_class)
        for repetition in range(count)
    ]
    order = np.random.default_rng(0).permutation(len(clips))
    classes = max(map(len, counts.values()))
    return ClipSet(tuple(clips[i] for i in order), tuple(f"class{i}" for i in range(classes)))


FIVE = make_clips({f"S{number}": [4, number, 3] for number in (3, 1, 5, 2, 4)})
TWO = make_clips({"S1": [10, 20], "S2": [30, 40]})
ONE = make_clips({"S1": [10, 20, 30]})


def signers(clips: ClipSet, indices: np.ndarray) -> set[str]:
    return {clips.clips[index].signer for index in indices}


def check_partition(clips: ClipSet, split: Split) -> None:
    together = np.concatenate([split.train, split.val, split.test])
    assert sorted(together.tolist()) == [*range(len(clips))]
    assert len(split.train)


CASES = {
    "no test signer": (FIVE, {}, []),
    "one test signer": (FIVE, {}, ["S2"]),
    "two test signers": (FIVE, {}, ["S5", "S1"]),
    "two validating": (FIVE, {"val_signers": 2}, ["S4"]),
    "too few for signers": (FIVE, {"val_signers": 4}, ["S4"]),
    "fraction asked for": (FIVE, {"val_signers": 0, "val_fraction": 0.25}, ["S4"]),
    "nothing held out": (FIVE, {"val_signers": 0, "val_fraction": 0.0}, []),
    "two signers": (TWO, {}, ["S2"]),
    "one signer": (ONE, {}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_a_split_is_disjoint_complete_and_repeatable(case):
    clips, settings, test_signers = CASES[case]
    split = split_clips(clips, TrainConfig(**settings), test_signers)
    check_partition(clips, split)
    again = split_clips(clips, TrainConfig(**settings), test_signers)
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(split, part), getattr(again, part))
    assert split.test_signers == tuple(test_signers)
    assert signers(clips, split.test) == set(test_signers)
    assert not signers(clips, split.train) & set(test_signers)
    assert not signers(clips, split.val) & set(test_signers)
    if split.val_signers:
        assert signers(clips, split.val) == set(split.val_signers)
        assert not signers(clips, split.train) & set(split.val_signers)


def test_a_partition_check_that_can_fail():
    """The control: a clip that is lost, and one that is used twice."""
    split = split_clips(FIVE, TrainConfig())
    for train in (split.train[1:], np.append(split.train, split.val[0])):
        with pytest.raises(AssertionError):
            check_partition(FIVE, Split(train, split.val, split.test))


@pytest.mark.parametrize("number", [1, 2])
def test_leaving_one_signer_out_every_signer_validates_equally_often(number):
    validated = []
    for signer in FIVE.signer_names:
        split = split_clips(FIVE, TrainConfig(val_signers=number), [signer])
        assert len(split.val_signers) == number
        validated += split.val_signers
    assert sorted(validated) == sorted(FIVE.signer_names * number)


def test_validation_signers_follow_the_test_signers_in_a_ring():
    def found(test_signers: list[str], number: int = 1) -> tuple[str, ...]:
        return split_clips(FIVE, TrainConfig(val_signers=number), test_signers).val_signers

    assert found(["S2"]) == ("S3",)
    assert found(["S5"]) == ("S1",)
    assert found(["S4"], 2) == ("S5", "S1")
    assert found(["S2", "S3"]) == ("S4",)
    assert found([]) == ("S5",)
    # The order in which they are named is no part of the question.
    assert found(["S3", "S1"]) == found(["S1", "S3"]) == ("S4",)
    assert found(["S1", "S5"]) == found(["S5", "S1"]) == found(["S5", "S1", "S5"]) == ("S2",)


def test_a_run_of_before_keeps_its_division():
    """Who validated followed the last test signer that was named."""
    config, known = TrainConfig(), {"test_signers": ["S3", "S1"]}
    assert split_as_begun(FIVE, config, known).val_signers == ("S2",)
    known = {"test_signers": ["S1", "S3"]}
    split, again = split_as_begun(FIVE, config, known), split_clips(FIVE, config, ["S1", "S3"])
    assert split.val_signers == again.val_signers == ("S4",)
    assert split.test_signers == again.test_signers
    assert split_as_begun(FIVE, config, {"test_signers": []}).val_signers == ("S5",)


@pytest.mark.parametrize(
    ("clips", "number", "test_signers", "by_signer"),
    [
        (FIVE, 3, [], True),
        (FIVE, 4, [], False),  # one would be left to train on
        (FIVE, 2, ["S1"], True),
        (FIVE, 3, ["S1"], False),
        (TWO, 1, [], False),
        (ONE, 1, [], False),
    ],
)
def test_a_share_of_the_clips_stands_in_where_signers_are_few(
    clips, number, test_signers, by_signer
):
    config = TrainConfig(val_signers=number, val_fraction=0.2)
    split = split_clips(clips, config, test_signers)
    assert bool(split.val_signers) == by_signer
    rest = len(clips) - len(split.test)
    if not by_signer:
        assert len(split.val) == round(0.2 * rest)
        assert len(split.val_signers) == 0


def test_the_share_is_stratified_and_drawn_by_the_seed():
    config = TrainConfig(val_signers=0, val_fraction=0.1)
    split = split_clips(TWO, config)
    assert np.bincount(TWO.labels[split.val]).tolist() == [4, 6]  # of 40 and 60
    other = split_clips(TWO, TrainConfig(val_signers=0, val_fraction=0.1, seed=1))
    assert np.bincount(TWO.labels[other.val]).tolist() == [4, 6]
    assert split.val.tolist() != other.val.tolist()
    assert split.val.tolist() == sorted(split.val.tolist())


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_share_leaves_every_class_to_train_on(fraction, seed):
    """Also those of one clip or two."""
    clips = make_clips({"S1": [40, 10, 8, 2, 1]})
    split = split_clips(clips, TrainConfig(val_fraction=fraction, seed=seed))
    check_partition(clips, split)
    assert set(clips.labels[split.train]) == {0, 1, 2, 3, 4}
    # Stratification takes at least as many clips as there are classes to take them from: four.
    assert len(split.val) == max(round(fraction * 61), 4)


def test_nothing_is_held_out_where_nothing_is_asked_for():
    split = split_clips(FIVE, TrainConfig(val_signers=0, val_fraction=0.0))
    assert split.train.tolist() == [*range(len(FIVE))]
    assert len(split.val) == len(split.test) == 0
    # Nor where there are too few signers and no share to stand in.
    split = split_clips(TWO, TrainConfig(val_fraction=0.0), ["S1"])
    assert len(split.val) == 0 and signers(TWO, split.train) == {"S2"}


@pytest.mark.parametrize(
    ("clips", "settings", "test_signers", "expected"),
    [
        (FIVE, {}, ["S9"], "'S9'; the signers are S1, S2, S3, S4, S5"),
        (FIVE, {}, ["S1", "s2"], "'s2'"),
        (FIVE, {}, ["S1", "S2", "S3", "S4", "S5"], "every clip is held out"),
        (ONE, {}, ["S1"], "every clip is held out"),
        (make_clips({"S1": [1, 1, 1]}), {}, [], "3 training clips"),
        (make_clips({"S1": [2, 1]}), {"val_fraction": 0.9}, [], "train.val_fraction=0"),
    ],
)
def test_what_cannot_be_split_is_said(clips, settings, test_signers, expected):
    with pytest.raises(ClipError) as raised:
        split_clips(clips, TrainConfig(**settings), test_signers)
    assert expected in str(raised.value)


def marked(split: str, label: int, signer: str) -> Clip:
    return Clip(np.zeros((2, 3, 2), np.float32), label, signer, 0, "x", split)


def test_recordings_that_come_divided_stay_divided():
    clips = ClipSet(
        tuple(
            marked(split, label, "unknown")
            for split in ("train", "val", "test")
            for label in (0, 1)
            for _ in range(4)
        ),
        ("a", "b"),
    )
    split = split_clips(clips, TrainConfig())
    assert [len(split.train), len(split.val), len(split.test)] == [8, 8, 8]
    assert {clips.clips[i].split for i in split.test} == {"test"}
    assert {clips.clips[i].split for i in split.val} == {"val"}
    undivided = ClipSet(tuple(marked("all", c.label, c.signer) for c in clips.clips), ("a", "b"))
    assert len(split_clips(undivided, TrainConfig()).test) == 0


def test_a_checkpoint_of_before_keeps_its_validation_signer_apart():
    """Its order says who validated; by today's another signer, whom it was trained on, would."""
    config = TrainConfig(val_signers=1)
    names = FIVE.signer_names
    named = [names[2], names[0]]  # so names[1] validated
    known = {"recordings": {"test_signers": named, "fingerprint": FIVE.fingerprint()}}
    for tested in (named, named[::-1]):
        split = split_further(FIVE, config, tested, known)
        assert split.val_signers == (names[1],) and split.test_signers == tuple(named)
    assert split_further(FIVE, config, named, {}).val_signers == (names[3],)
    run = from_dict({"train": {"val_signers": 1}}, source="tests")
    trained_on, judged, how = divide(FIVE, run, named, count=0, seed=0)
    assert how == UNSEEN and set(judged.signers) == set(names[:3])
    assert set(trained_on.signers) == set(names[3:])
