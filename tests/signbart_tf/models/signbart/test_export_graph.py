"""The twin's graph for export gives the original's logits."""

import numpy as np
import pytest
import torch

from signbart_tf.models.signbart.export_graph import for_export

ATOL = 5e-6


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")  # one frame is allowed
@pytest.mark.parametrize("frames", [1, 2, 11, 16])
def test_logits_are_the_originals(original, twin, make_inputs, frames):
    inputs = make_inputs(6, frames)
    graph = for_export(twin)
    with torch.no_grad():
        expected = original(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    for row in range(6):
        logits = graph({name: array[row : row + 1] for name, array in inputs.items()})["logits"]
        assert logits.shape == (1, 7)
        np.testing.assert_allclose(logits[0], expected[row], rtol=0, atol=ATOL)


def test_a_clip_without_frames_gives_finite_logits(twin, make_inputs):
    inputs = make_inputs(1, 11)
    inputs["attention_mask"][:] = 0
    assert np.isfinite(for_export(twin)(inputs)["logits"]).all()


def test_a_batch_is_refused(twin, make_inputs):
    with pytest.raises(ValueError, match="one clip, and not 2"):
        for_export(twin)(make_inputs(2, 11))


def test_variables_are_the_twins_own(twin):
    lent = {id(variable) for variable in for_export(twin).trainable_variables}
    assert lent == {id(variable) for variable in twin.trainable_variables}
