"""Batches: a function of seed and epoch, each clip once, little padding, shards that add up."""

import dataclasses
import threading

import numpy as np
import pytest
import torch

from signbart import batches as made
from signbart.batches import CHUNK_BATCHES, Batch, prepare_clips, training_rows
from signbart.errors import ClipError
from signbart.landmarks.layouts import get_layout
from signbart.preprocessing import preprocess
from signbart.recordings.clip import Clip, ClipSet
from signbart_torch.training.data import (
    evaluation_batches,
    made_ahead,
    training_batches,
    training_steps,
)

N, LONGEST = 150, 14


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    """150 clips of 2 to 30 frames: more than a chunk, and no multiple of the batch size."""
    rng = np.random.default_rng(1)
    lengths = rng.permutation(np.resize(np.arange(2, 31), N))
    return ClipSet(
        tuple(
            Clip(rng.normal(size=(t, 20, 3)).astype(np.float32), i % 3, "a", 0, f"[{i}]")
            for i, t in enumerate(lengths)
        ),
        ("one", "two", "three"),
    )


@pytest.fixture(scope="module")
def config(tiny_config):
    model = dataclasses.replace(tiny_config.model, num_labels=3)
    return dataclasses.replace(tiny_config, model=model)


@pytest.fixture(scope="module")
def prepared(clips, config):
    return prepare_clips(clips, config)


def plain(config):
    """Without augmentation."""
    augment = dataclasses.replace(config.augment, probability=0.0)
    return dataclasses.replace(config, augment=augment)


def same(one, other) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("keypoints", "attention_mask", "labels")
    ) and np.array_equal(one.indices, other.indices)


def test_prepared_clips_are_the_recordings(clips, config, prepared):
    assert prepared.points.shape == (N, LONGEST, 6, 2)
    np.testing.assert_array_equal(prepared.labels, clips.labels)
    for clip, points, length in zip(clips.clips, prepared.points, prepared.lengths, strict=True):
        assert length == min(len(clip.landmarks), LONGEST)
        np.testing.assert_array_equal(points[:length], preprocess(clip.landmarks, config))
        assert not points[length:].any()


def test_recordings_of_another_layout_are_refused(clips, config):
    bad = Clip(np.zeros((3, 21, 3), np.float32), 0, "a", 0, "bad[0]")
    with pytest.raises(ClipError, match=r"bad\[0\].*21 keypoints"):
        prepare_clips(dataclasses.replace(clips, clips=(bad,)), config)


def test_no_clips_give_no_batches(clips, config):
    nothing = prepare_clips(clips.select([]), config)
    assert len(nothing) == 0
    assert list(training_batches(nothing, config, 0)) == []
    assert list(evaluation_batches(nothing, config)) == []


@pytest.mark.parametrize("epoch", [0, 5])
def test_every_clip_comes_once_an_epoch(prepared, config, epoch):
    batches = list(training_batches(prepared, config, epoch))
    size = config.train.batch_size
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(N))
    assert len(batches) == -(-N // size)
    assert sorted(len(batch.labels) for batch in batches)[1:] == [size] * (N // size)
    for batch in batches:
        np.testing.assert_array_equal(batch.labels, prepared.labels[batch.indices])


def test_batches_depend_on_seed_and_epoch_alone(prepared, config):
    batches = list(training_batches(prepared, config, 3))
    np.random.seed(99)  # global state must have no say
    torch.manual_seed(99)
    again = list(training_batches(prepared, config, 3))
    assert all(same(*pair) for pair in zip(batches, again, strict=True))
    train = dataclasses.replace(config.train, seed=config.train.seed + 1)
    for others in (
        training_batches(prepared, config, 4),
        training_batches(prepared, dataclasses.replace(config, train=train), 3),
    ):
        assert not any(same(*pair) for pair in zip(batches, others, strict=True))


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("kept", [True, False], ids=["prepared", "prepared when taken"])
def test_shards_together_are_the_batches_of_one_process(
    clips, prepared, config, world_size, kept, monkeypatch
):
    if not kept:
        monkeypatch.setattr(made, "_KEPT", 0)
        prepared = prepare_clips(clips, config)
        assert not isinstance(prepared.points, np.ndarray)
    whole = list(training_batches(prepared, config, 1))
    shards = [
        list(training_batches(prepared, config, 1, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert {len(shard) for shard in shards} == {len(whole)}, "a rank would wait for ever"
    for number, batch in enumerate(whole):
        row = {index: at for at, index in enumerate(batch.indices)}
        parts = [shard[number] for shard in shards]
        assert sorted(i for part in parts for i in part.indices) == sorted(batch.indices)
        for part in parts:
            rows = [row[index] for index in part.indices]
            frames = part.keypoints.shape[1]
            assert torch.equal(part.keypoints, batch.keypoints[rows, :frames])
            assert torch.equal(part.attention_mask, batch.attention_mask[rows, :frames])
            assert not batch.attention_mask[rows, frames:].any()
            assert torch.equal(part.labels, batch.labels[rows])


def test_a_rank_left_without_a_clip_still_gets_a_batch(clips, config):
    nine = prepare_clips(clips.select(range(9)), config)  # a batch of 8, and one of 1
    lone = prepare_clips(clips.select(range(1)), config)
    (batch,) = training_batches(lone, config, 0, rank=1, world_size=2)
    assert not len(batch.labels), "of a whole chunk"
    shard = list(training_batches(nine, config, 0, rank=1, world_size=2))
    assert sorted(len(batch.labels) for batch in shard) == [0, 4]


@pytest.mark.parametrize("rows", [training_batches, evaluation_batches])
def test_masks_come_from_lengths_and_padding_is_zero(prepared, config, rows):
    config = plain(config)
    batches = rows(prepared, config, *([0] if rows is training_batches else []))
    for batch in batches:
        lengths = prepared.lengths[batch.indices]
        assert batch.attention_mask.dtype == torch.int32 and batch.keypoints.dtype == torch.float32
        assert batch.attention_mask.shape[1] == lengths.max()
        np.testing.assert_array_equal(batch.attention_mask.sum(1), lengths)
        np.testing.assert_array_equal(
            batch.attention_mask, np.arange(lengths.max()) < lengths[:, None]
        )
        assert not batch.keypoints[batch.attention_mask == 0].any()
        for points, index, length in zip(batch.keypoints, batch.indices, lengths, strict=True):
            np.testing.assert_array_equal(points[:length], prepared.points[index, :length])


def test_a_frame_without_any_landmark_is_still_a_frame(tiny_config):
    layout = get_layout("kp63")
    data = dataclasses.replace(tiny_config.data, layout="kp63", normalization="bbox")
    config = plain(dataclasses.replace(tiny_config, data=data))
    landmarks = np.random.default_rng(0).random((5, layout.num_keypoints, 2), np.float32)
    landmarks[[0, 3, 4]] = 0
    clip = Clip(landmarks, 0, "a", 0, "[0]")
    prepared = prepare_clips(ClipSet((clip,), ("one",)), config)
    for batch in (*training_batches(prepared, config, 0), *evaluation_batches(prepared, config)):
        assert batch.attention_mask.tolist() == [[1] * 5]


def test_evaluation_batches_show_every_clip_once_the_shortest_first(prepared, config):
    batches = list(evaluation_batches(prepared, config))
    order = np.concatenate([batch.indices for batch in batches])
    assert sorted(order) == list(range(N))
    assert (np.diff(prepared.lengths[order]) >= 0).all()


def padded_share(batches) -> float:
    masks = [batch.attention_mask for batch in batches]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def test_bucketing_saves_most_of_the_padding(prepared, config):
    config = plain(config)
    size = config.train.batch_size
    assert size * CHUNK_BATCHES < N, "there must be more than one chunk to shuffle"
    order = np.random.default_rng(0).permutation(N)
    lengths = [prepared.lengths[order[at : at + size]] for at in range(0, N, size)]
    shuffled = 1 - sum(rows.sum() for rows in lengths) / sum(
        rows.max() * len(rows) for rows in lengths
    )
    # Measured: 0.21 shuffled, 0.03 in buckets.
    assert padded_share(training_batches(prepared, config, 0)) < shuffled / 3


def test_augmentation_changes_clips_anew_each_epoch(prepared, config):
    always = dataclasses.replace(
        config, augment=dataclasses.replace(config.augment, probability=1.0)
    )

    def by_clip(config, epoch):
        found = {}
        for batch in training_batches(prepared, config, epoch):
            for index, points, row in zip(
                batch.indices, batch.keypoints, batch.attention_mask, strict=True
            ):
                found[index] = points[: int(row.sum())]
        return found

    first, second, untouched = by_clip(always, 0), by_clip(always, 1), by_clip(plain(config), 0)
    for index in range(N):
        assert not torch.equal(first[index], second[index])
        assert 1 <= len(first[index]) <= LONGEST
        np.testing.assert_array_equal(
            untouched[index], prepared.points[index, : prepared.lengths[index]]
        )


# Clips mixed in pairs


@pytest.fixture(scope="module")
def mixing(config):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, mixup=0.4))


def test_mixed_batches_are_the_weighted_sums_of_the_plain_ones(prepared, config, mixing):
    """The same clips, in the same order, augmented alike: mixing shifts no other number."""
    pairs = zip(
        training_batches(prepared, config, 3), training_batches(prepared, mixing, 3), strict=True
    )
    mixed_at_all = 0
    for plain_batch, batch in pairs:
        np.testing.assert_array_equal(batch.indices, plain_batch.indices)
        assert torch.equal(batch.labels, plain_batch.labels)
        partners, shares = batch.mixed
        assert ((shares >= 0.5) & (shares <= 1)).all() and len(partners) == len(batch.labels)
        assert plain_batch.mixed is None
        of = {}
        for row in range(len(batch.labels)):
            share, own = shares[row], plain_batch.keypoints[row]
            # The partner is the clip of this batch that explains what was mixed in.
            explained = [
                other
                for other in range(len(batch.labels))
                if torch.allclose(
                    batch.keypoints[row],
                    share * own + (1 - share) * plain_batch.keypoints[other],
                    atol=1e-6,
                )
            ]
            assert explained
            if len(explained) == 1:
                (of[row],) = explained
                assert partners[row] == plain_batch.labels[of[row]]
                masks = plain_batch.attention_mask[[row, of[row]]]
                assert torch.equal(batch.attention_mask[row], masks.max(dim=0).values)
        mixed_at_all += sum(row != other for row, other in of.items())
    assert mixed_at_all > 50


def test_a_piece_of_up_to_half_a_clip_is_another_ones(prepared, config):
    train = dataclasses.replace(config.train, cutmix=0.7)
    cutting = dataclasses.replace(config, train=train)
    cuts, clips, sizes = 0, 0, set()
    for plain_batch, batch in zip(
        training_batches(prepared, config, 3), training_batches(prepared, cutting, 3), strict=True
    ):
        assert torch.equal(batch.attention_mask, plain_batch.attention_mask), "lengths stay"
        partners, shares = batch.mixed
        for row, (share, label) in enumerate(zip(shares, partners, strict=True)):
            length = int(batch.attention_mask[row].sum())
            own = (batch.keypoints[row] == plain_batch.keypoints[row]).all(dim=(-1, -2))[:length]
            clips, cuts = clips + 1, cuts + int(share < 1)
            if own.all():
                continue  # not cut, or a piece of itself
            piece = torch.nonzero(~own)[:, 0]
            assert len(piece) == piece[-1] - piece[0] + 1 <= length / 2 + 0.5, "one piece"
            assert share == pytest.approx(1 - len(piece) / length) and share >= 0.5 - 0.5 / length
            sizes.add(len(piece))
            assert any(
                torch.equal(batch.keypoints[row, piece], other[piece])
                and label == plain_batch.labels[at]
                for at, other in enumerate(plain_batch.keypoints)
            )
    assert 0.4 < cuts / clips < 0.8 and len(sizes) >= 3


def test_mixing_and_cutting_do_not_shift_each_others_numbers(prepared, mixing):
    train = dataclasses.replace(mixing.train, cutmix=0.5)
    both = dataclasses.replace(mixing, train=train)
    same_share = []
    for one, other in zip(
        training_batches(prepared, mixing, 2), training_batches(prepared, both, 2), strict=True
    ):
        assert torch.equal(one.mixed[0], other.mixed[0])
        same_share += (one.mixed[1] == other.mixed[1]).tolist()
    assert 0.3 < np.mean(same_share) < 0.7


def test_shards_of_mixed_batches_are_those_of_one_process(prepared, mixing):
    whole = list(training_batches(prepared, mixing, 1))
    shards = [list(training_batches(prepared, mixing, 1, rank=r, world_size=2)) for r in (0, 1)]
    for batch, *parts in zip(whole, *shards, strict=True):
        for rank, part in enumerate(parts):
            longest = part.keypoints.shape[1]
            assert torch.equal(part.keypoints, batch.keypoints[rank::2, :longest])
            assert all(
                torch.equal(one, all_of_it[rank::2])
                for one, all_of_it in zip(part.mixed, batch.mixed, strict=True)
            )


def test_targets_are_of_both_labels():
    labels, partners = np.array([0, 2, 1]), np.array([1, 2, 0])
    batch = Batch(None, None, labels, None, partners, np.float32([0.75, 0.6, 1.0]))
    np.testing.assert_allclose(batch.targets(3), [[0.75, 0.25, 0], [0, 0, 1], [0, 1, 0]], atol=1e-7)
    np.testing.assert_array_equal(Batch(None, None, labels, None).targets(3), np.eye(3)[labels])


def test_depth_is_turned_in_training_and_never_shown(clips, config):
    augment = dataclasses.replace(config.augment, probability=1.0, yaw_degrees=30.0)
    turning = dataclasses.replace(config, augment=augment)
    deep = prepare_clips(clips, turning)
    assert deep.points.shape == (N, LONGEST, 6, 3)
    batch = next(training_batches(deep, turning, 0))
    assert batch.keypoints.shape[2:] == (6, 2)
    flat = prepare_clips(clips, config)
    for one, other in zip(
        evaluation_batches(deep, turning), evaluation_batches(flat, config), strict=True
    ):
        assert same(one, other)


def test_linear_clips_are_all_of_one_length(clips, config):
    linear = dataclasses.replace(config, data=dataclasses.replace(config.data, resample="linear"))
    prepared = prepare_clips(clips, linear)
    assert (prepared.lengths == LONGEST).all()
    for batch in training_batches(prepared, linear, 0):
        assert batch.keypoints.shape[1] == LONGEST and batch.attention_mask.all()


@pytest.mark.parametrize("which", ["plain", "mixed"])
def test_parts_of_a_batch_are_its_clips_in_order(prepared, config, mixing, which):
    base = config if which == "plain" else mixing
    base = dataclasses.replace(base, train=dataclasses.replace(base.train, accumulate=3))
    batches, steps = (list(make(prepared, base, 1)) for make in (training_batches, training_steps))
    assert len(steps) == len(batches)
    for batch, parts in zip(batches, steps, strict=True):
        sizes = [len(part.labels) for part in parts]
        assert len(parts) == min(3, len(batch.labels)) and max(sizes) - min(sizes) <= 1
        assert np.array_equal(np.concatenate([part.indices for part in parts]), batch.indices)
        for name in ("keypoints", "attention_mask"):
            whole = getattr(batch, name)
            for part, rows in zip(parts, whole.split(sizes), strict=True):
                found = getattr(part, name)
                assert torch.equal(found, rows[:, : found.shape[1]])
                assert not rows[:, found.shape[1] :].any(), "it is cut to its own longest clip"
        if which == "mixed":
            for at, whole in enumerate(batch.mixed):
                assert torch.equal(torch.cat([part.mixed[at] for part in parts]), whole)


def test_more_parts_than_clips_leave_none_empty(prepared, config):
    (rows, *_) = training_rows(prepared, config, 0)
    few = rows.take(np.arange(2))
    assert [len(part.labels) for part in few.split(5)] == [1, 1]
    # A process without a clip has to take part in the step nevertheless.
    assert [len(part.labels) for part in few.take(np.arange(0)).split(5)] == [0]


def test_what_is_made_ahead_is_the_same_in_order_and_so_is_an_error():
    made = []

    def items():
        for number in range(20):
            made.append((number, threading.current_thread()))
            yield number
        raise ValueError("the twentieth")

    found = []
    with pytest.raises(ValueError, match="the twentieth"):
        for number in made_ahead(items()):
            found.append(number)
    assert found == list(range(20))
    assert threading.main_thread() not in {thread for _, thread in made}
    # Who stops early waits for no more than what is on its way.
    made.clear()
    coming = made_ahead(items())
    assert next(coming) == 0
    coming.close()
    assert 1 <= len(made) <= 3
