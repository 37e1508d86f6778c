"""The Keras twins of the two classifiers; that they score as PyTorch does is the bridge's test."""

import keras
import numpy as np
import pytest

from signbart.errors import ConfigError
from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart.models.sign_transformer import SignTransformerConfig
from signbart_tf.models import export_graph as for_export
from signbart_tf.models.mediapipe_gru.model import MediapipeGru
from signbart_tf.models.sign_transformer.model import SignTransformer


def run(model, keypoints, mask=None, **options):
    mask = np.ones(keypoints.shape[:2], np.int32) if mask is None else mask
    outputs = model({"keypoints": keypoints, "attention_mask": mask}, **options)
    return {name: value.numpy() for name, value in outputs.items()}


def close(one, other, atol=2e-6) -> bool:
    """Whether every score agrees to `atol` of the largest."""
    return one.keys() == other.keys() and all(
        np.abs(one[name] - other[name]).max() <= atol * np.abs(other[name]).max() for name in one
    )


def holes(clip):
    """Frames 0, 3, 4 and 8 of 11, and NaN and infinity in the others."""
    mask = np.zeros((1, 11), np.int32)
    mask[0, [0, 3, 4, 8]] = 1
    padded = clip.copy()
    padded[0, mask[0] == 0] = [np.nan, np.inf] * 7
    return padded, mask


@pytest.mark.parametrize(
    ("kind", "config", "parameters"),
    [
        (SignTransformer, SignTransformerConfig(), 3_286_259),
        (MediapipeGru, MediapipeGruConfig(), 497_907),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(kind, config, parameters):
    model = kind(config)
    assert model.num_parameters == parameters
    # Beside them there is the table of positions, which is not learned.
    fixed = 300 * 256 if kind is SignTransformer else 0
    assert model.count_params() == parameters + fixed


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"d_model \(24\) is not divisible by .*heads \(5\)"):
        SignTransformer(SignTransformerConfig(d_model=24, attention_heads=5))
    for kind, config in (
        (SignTransformer, SignTransformerConfig),
        (MediapipeGru, MediapipeGruConfig),
    ):
        with pytest.raises(ConfigError, match="num_labels is not set"):
            kind(config(num_labels=None))


def test_what_padding_holds_is_never_read(model, clip):
    padded, mask = holes(clip)
    scores = run(model, padded, mask)
    assert all(np.isfinite(score).all() for score in scores.values())
    other = np.where(mask[..., None] > 0, clip, np.float32(-1e30))
    assert close(scores, run(model, other, mask), atol=0)
    changed = clip.copy()
    changed[0, 8] += 1
    assert not close(scores, run(model, changed, mask), atol=1e-3)


def test_padding_at_the_end_changes_nothing(model, clip):
    padded, mask = clip.copy(), (np.arange(11) < 6).astype(np.int32)[None]
    padded[:, 6:] = np.nan
    assert close(run(model, padded, mask), run(model, clip[:, :6]))
    assert not close(run(model, clip), run(model, clip[:, :6]), atol=1e-3)


@pytest.mark.parametrize("model", ["gru", "gru-projected", "gru-bidirectional"], indirect=True)
def test_a_gru_reads_a_clip_with_holes_as_if_they_were_cut_out(model, clip):
    padded, mask = holes(clip)
    assert close(run(model, padded, mask), run(model, clip[:, [0, 3, 4, 8]]))
    assert not close(run(model, padded, mask), run(model, clip * mask[..., None]), atol=1e-3)


def test_a_row_without_a_frame_stays_finite(model, clip):
    for graph in (model, for_export(model)):
        scores = run(graph, np.full_like(clip, np.nan), np.zeros((1, 11), np.int32))
        assert all(np.isfinite(score).all() for score in scores.values())


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")  # one frame is allowed
@pytest.mark.parametrize("length", [1, 11])
def test_the_graph_for_export_scores_the_same(model, clip, length):
    padded, mask = (array[:, :length] for array in holes(clip))
    assert close(run(for_export(model), padded, mask), run(model, padded, mask))
    with pytest.raises(ValueError, match="takes one clip, and not 2"):
        run(for_export(model), np.concatenate([clip, clip]))


def test_a_batch_scores_as_its_clips_do(model, clip):
    batch = np.concatenate([clip, clip[:, ::-1], clip * 2])
    mask = np.ones((3, 11), np.int32)
    mask[1, 7:] = mask[2, [0, 5]] = 0
    together = run(model, batch, mask)
    for i in range(3):
        alone = run(model, batch[i : i + 1], mask[i : i + 1])
        assert close(alone, {name: score[i : i + 1] for name, score in together.items()})


def test_a_model_is_made_again_from_its_config_and_weights(model, clip, tmp_path):
    other = type(model).from_config(model.get_config())
    assert not close(run(other, clip), run(model, clip), atol=1e-3)
    model.save_weights(tmp_path / "x.weights.h5")
    other.load_weights(tmp_path / "x.weights.h5")
    assert close(run(other, clip), run(model, clip), atol=0)


def test_every_parameter_learns_through_a_traced_step(model, clip):
    import tensorflow as tf

    padded, mask = holes(clip)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            outputs = model({"keypoints": padded, "attention_mask": mask}, training=False)
            loss = sum(keras.ops.sum(score**2) for score in outputs.values())
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    still = {
        variable.path
        for variable, gradient in zip(model.trainable_variables, gradients(), strict=True)
        if gradient is None or np.abs(gradient).max() < 1e-6
    }
    still -= {path for path in still if path.endswith("W_k/bias")}  # the softmax cancels it
    unused = getattr(model.config, "pooling", "cls") != "cls"
    assert still == ({"sign_transformer/cls_token"} if unused else set())


def test_dropout_is_for_training(model, clip):
    assert not close(run(model, clip, training=True), run(model, clip, training=True))
    assert close(run(model, clip, training=False), run(model, clip), atol=0)
