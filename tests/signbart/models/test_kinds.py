"""Sizes of the other classifiers, and their table of positions."""

import dataclasses
import math

import numpy as np
import pytest

from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart.models.sign_transformer import POOLINGS, SignTransformerConfig, sinusoidal_positions


@pytest.mark.parametrize("width", [8, 7])
def test_positions_are_the_papers(width):
    table = sinusoidal_positions(300, width)
    assert table.shape == (300, width) and table.dtype == np.float32
    for position in (0, 1, 299):
        for column in range(width):
            angle = position / 10000 ** (2 * (column // 2) / width)
            wave = math.cos if column % 2 else math.sin
            assert table[position, column] == pytest.approx(wave(angle), abs=1e-7)


@pytest.mark.parametrize("kind", [SignTransformerConfig, MediapipeGruConfig])
def test_defaults_lie_within_their_ranges(kind):
    for field in dataclasses.fields(kind):
        limits, value = field.metadata, field.default
        if "choices" in limits:
            assert value in limits["choices"]
        elif "low" in limits and value is not None:
            assert limits["low"] <= value < limits["high"]
    assert {kind().num_features, kind().max_frames} == {178, 300}
    assert (kind().num_labels, kind().num_categories) == (105, 10)


def test_a_class_token_takes_one_of_the_positions():
    assert [SignTransformerConfig(pooling=p).longest for p in POOLINGS] == [300, 300, 299]
    assert MediapipeGruConfig().longest is None
