"""What the masks promise: padding is never seen, the decoder never looks ahead, one query does."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from signbart_torch.models.signbart import decoder as decoder_module
from signbart_torch.models.signbart.attention import Attention
from signbart_torch.models.signbart.layers import MASK_BIAS, last_frame_selector, padding_bias


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def decoder_states(model, keypoints, mask):
    """(B, T, D): what the decoder says at every frame."""
    x_embed, y_embed = model.projection(keypoints, mask)
    encoded = model.encoder(x_embed, mask)
    return model.decoder(y_embed, encoded, mask, last_frame_only=False)


def read_at_the_last_frame(states, mask):
    last = [int(row.nonzero().max()) for row in mask]
    return states[torch.arange(len(mask)), torch.tensor(last)]


def test_one_query_gives_what_all_queries_give(model, keypoints, mask):
    keypoints = keypoints * mask[:, :, None, None]
    everything = decoder_states(model, keypoints, mask)
    wanted = model.classification_head(read_at_the_last_frame(everything, mask))
    assert (model(keypoints, mask) - wanted).abs().max() <= 1e-6
    # Any other frame would say something else.
    assert (model.classification_head(everything[:, 0]) - wanted)[:2].abs().max() > 1e-3


@pytest.mark.parametrize("bits", range(1, 64, 3))
def test_the_selector_finds_the_last_frame_of_any_mask(bits):
    row = [bits >> at & 1 for at in range(6)]
    selected = last_frame_selector(torch.tensor([row], dtype=torch.int32), torch.float32)
    wanted = np.eye(6)[max(np.flatnonzero(row))]
    np.testing.assert_array_equal(selected[0, 0].numpy(), wanted)


def test_training_and_inference_compute_the_same(model, keypoints, mask):
    inference = model(keypoints, mask)
    model.train()  # dropout is 0 in this model
    assert (model(keypoints, mask) - inference).abs().max() <= 1e-5
    for module in model.modules():
        if isinstance(module, Attention):
            module.dropout = 0.5
    assert (model(keypoints, mask) - inference).abs().max() > 1e-3


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30, -7.5])
@pytest.mark.parametrize("training", [False, True])
def test_what_padded_frames_hold_changes_no_bit(model, keypoints, mask, garbage, training):
    model.train(training)
    clean = model(keypoints, mask)
    dirty = keypoints.clone()
    dirty[mask == 0] = garbage
    assert torch.isfinite(clean).all()
    assert torch.equal(model(dirty, mask), clean)
    # ... whereas what a frame holds does, missing or not.
    dirty = keypoints.clone()
    dirty[:, :, 0] += 0.1 * mask[:, :, None]
    assert not torch.equal(model(dirty, mask), clean)


@pytest.mark.parametrize("frames", [1, 4, 10])
def test_the_amount_of_padding_does_not_matter(model, keypoints, frames):
    alone = torch.ones(len(keypoints), frames, dtype=torch.int32)
    wanted = model(keypoints[:, :frames], alone)
    padded = nn.functional.pad(alone, (0, 11 - frames))
    assert (model(keypoints, padded) - wanted).abs().max() <= 1e-6
    one_more = padded.clone()
    one_more[:, frames] = 1
    assert (model(keypoints, one_more) - wanted).abs().max() > 1e-3


def test_a_mask_with_holes_equals_the_frames_moved_together_with_their_positions(
    model, keypoints, mask
):
    # Frames keep their own position embeddings: closing the holes is the same only if those move
    # along. So it says both that holes are nothing and that positions are those of the original.
    for points, row in zip(keypoints, mask, strict=True):
        wanted = model(points[None], row[None])[0]
        frames = row.nonzero()[:, 0]
        count = len(frames)
        kept = points[None, frames], torch.ones(1, count, dtype=torch.int32)
        if int(frames[-1]) >= count:
            assert (model(*kept)[0] - wanted).abs().max() > 1e-3
        tables = [side.embed_positions.weight for side in (model.encoder, model.decoder)]
        saved = [table.clone() for table in tables]
        for table in tables:
            table[2 : 2 + count] = table[2 + frames]
        assert (model(*kept)[0] - wanted).abs().max() <= 1e-5
        for table, values in zip(tables, saved, strict=True):
            table.copy_(values)


def test_the_decoder_looks_back_and_the_encoder_both_ways(model, keypoints):
    everything = torch.ones(len(keypoints), 11, dtype=torch.int32)
    before = decoder_states(model, keypoints, everything)
    for axis, sees_the_future in ((0, True), (1, False)):
        later = keypoints.clone()
        later[:, 7, :, axis] += 1.0
        change = (decoder_states(model, later, everything) - before).abs().amax(dim=(0, 2))
        assert change[7:].min() > 1e-3
        if sees_the_future:
            assert change[:7].min() > 1e-4
        else:
            assert change[:7].max() == 0


def test_x_and_y_are_different_roads(model, keypoints, mask):
    exchanged = model(keypoints.flip(-1), mask)
    assert (exchanged - model(keypoints, mask)).abs().max() > 1e-3


def test_the_order_of_frames_matters(model, keypoints):
    everything = torch.ones(len(keypoints), 11, dtype=torch.int32)
    wanted = model(keypoints, everything)
    backwards = keypoints.clone()
    backwards[:, :10] = keypoints[:, :10].flip(1)  # the frame that is read stays
    assert (model(backwards, everything) - wanted).abs().max() > 1e-3


def test_rows_of_a_batch_do_not_see_each_other(model, keypoints, mask):
    together = model(keypoints, mask)
    for row in range(len(mask)):
        alone = model(keypoints[row : row + 1], mask[row : row + 1])
        assert (alone[0] - together[row]).abs().max() <= 1e-5


@pytest.mark.parametrize("training", [False, True])
def test_a_row_without_a_frame_gives_finite_logits(model, keypoints, mask, training):
    model.train(training)
    wanted = model(keypoints, mask)
    mask[1] = 0
    keypoints[1] = math.nan
    logits = model(keypoints, mask)
    assert torch.isfinite(logits).all()
    others = [0, *range(2, len(mask))]
    assert torch.equal(logits[others], wanted[others])


def test_the_mask_bias_removes_a_key_entirely():
    # Two biases may add up; the result must stay finite in half precision too.
    assert math.exp(MASK_BIAS) < np.finfo(np.float32).tiny
    assert abs(2 * MASK_BIAS) < np.finfo(np.float16).max
    bias = padding_bias(torch.tensor([[1, 0]]), torch.float32)
    assert bias.shape == (1, 1, 1, 2) and bias.flatten().tolist() == [0.0, MASK_BIAS]


def test_a_selector_that_is_off_by_one_is_noticed(model, keypoints, mask, monkeypatch):
    wanted = model(keypoints, mask)
    monkeypatch.setattr(
        decoder_module,
        "last_frame_selector",
        lambda mask, dtype: last_frame_selector(mask, dtype).roll(-1, dims=-1),
    )
    assert (model(keypoints, mask) - wanted).abs().max() > 1e-3
