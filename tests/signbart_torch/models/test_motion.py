"""Motion: differences to later frames, never with one that is not there."""

import torch

from signbart.models.motion import MOTIONS, num_inputs
from signbart_torch.models.motion import with_motion


def test_differences_are_taken_between_frames_that_are_there():
    torch.manual_seed(0)
    frames, present = torch.randn(2, 7, 3), torch.ones(2, 7, 1, dtype=torch.int32)
    present[0, 5:] = 0
    present[1, 2] = 0
    found = with_motion(frames, present)
    assert found.shape == (2, 7, num_inputs(3, True)) and num_inputs(3, False) == 3
    expected = torch.zeros(2, 7, 9)
    expected[..., :3] = frames
    for part, (step, factor) in enumerate(MOTIONS, start=1):
        for clip in range(2):
            for at in range(7 - step):
                if present[clip, at] and present[clip, at + step]:
                    moved = frames[clip, at + step] - frames[clip, at]
                    expected[clip, at, 3 * part : 3 * part + 3] = factor * moved
    torch.testing.assert_close(found, expected)
    # The clip's last frames have nothing to move to, and frames beside a hole less.
    assert (found[0, 4, 3:] == 0).all() and (found[1, 1, 3:6] == 0).all()
    assert (found[1, 1, 6:] != 0).all()


def test_a_clip_may_be_shorter_than_a_difference():
    frames = torch.randn(1, 1, 4)
    found = with_motion(frames, torch.ones(1, 1, 1))
    assert torch.equal(found[..., :4], frames) and (found[..., 4:] == 0).all()


def test_one_clip_without_a_batch_is_the_same():
    frames, present = torch.randn(1, 6, 4), torch.ones(1, 6, 1)
    assert torch.equal(with_motion(frames[0], present[0]), with_motion(frames, present)[0])
