"""The count of operations against one made by hand."""

import torch

from signbart_torch.training.flops import count_flops


def test_operations_are_those_of_the_products_alone(model):
    config = model.config
    frames = 9
    d, k, c = config.d_model, config.num_keypoints, config.num_labels
    encoder = config.encoder_layers * frames * (4 * d * d + 2 * d * config.encoder_ffn_dim)
    encoder += config.encoder_layers * 2 * frames * frames * d

    def decoder_layer(queries):
        # Keys and values of every frame; queries, outputs and the feed-forward of those asked for.
        products = 2 * (2 * queries * d * d + 2 * frames * d * d)
        return products + 2 * 2 * queries * frames * d + 2 * queries * d * config.decoder_ffn_dim

    decoder = (config.decoder_layers - 1) * decoder_layer(frames) + decoder_layer(1)
    last_frame = frames * d  # picked by a product with a one-hot row
    expected = 2 * frames * k * d + encoder + decoder + last_frame + d * c
    inputs = {
        "keypoints": torch.rand(1, frames, k, 2),
        "attention_mask": torch.ones(1, frames, dtype=torch.int32),
    }
    assert count_flops(model, inputs) == 2 * expected
