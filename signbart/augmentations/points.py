"""Where a clip's points lie: another body, seen from elsewhere.

Legend: B batch, T frames, K keypoints, D coordinates (2 or 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from signbart.configuration.schema import AugmentConfig


def draw_matrices(
    settings: AugmentConfig,
    batch: int,
    coordinates: int,
    generators: Sequence[np.random.Generator],
) -> np.ndarray:
    """(B, D, D): scales bodies, shears them, and turns them through their depth, if they have one.

    Args:
        settings: How far each may go.
        batch: B.
        coordinates: D.
        generators: One each for scale, shear, yaw and pitch.
    """
    axes = range(coordinates)
    scale, shear, yaw, pitch = generators
    matrices = np.zeros((batch, coordinates, coordinates))
    matrices[:, axes, axes] = scale.uniform(
        1.0 - settings.scale, 1.0 + settings.scale, (batch, coordinates)
    )
    matrices[:, 0, 1] = shear.uniform(-settings.shear, settings.shear, batch) * matrices[:, 1, 1]
    if coordinates == 3:
        for degrees, rng, plane in (
            (settings.yaw_degrees, yaw, (2, 0)),
            (settings.pitch_degrees, pitch, (1, 2)),
        ):
            limit = np.radians(degrees)
            turned = rotations(rng.uniform(-limit, limit, batch), plane, coordinates)
            matrices = turned @ matrices
    return matrices


def rotations(angles: np.ndarray, plane: tuple[int, int], coordinates: int) -> np.ndarray:
    """(B, D, D) that turn by angles (B,), in radians, the plane's first axis towards its second."""
    matrices = np.zeros((len(angles), coordinates, coordinates))
    matrices[:, range(coordinates), range(coordinates)] = 1.0
    first, second = plane
    matrices[:, first, first] = matrices[:, second, second] = np.cos(angles)
    matrices[:, second, first] = np.sin(angles)
    matrices[:, first, second] = -matrices[:, second, first]
    return matrices


def transform(
    points: np.ndarray, matrices: np.ndarray, centres: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Maps each clip by its matrix, its centre to its target.

    Args:
        points: (B, T, K, D).
        matrices: (B, D, D).
        centres: (B, D).
        targets: (B, D).
    """
    centred = np.moveaxis(points - centres[:, None, None, :], -1, 0)
    rows = matrices.transpose(1, 2, 0)[..., None, None]  # (D, D, B, 1, 1)
    moved = []
    # Spelt out: a product with small matrices takes three times as long.
    for row in rows:
        total = row[0] * centred[0]
        for factor, axis in zip(row[1:], centred[1:], strict=True):
            total += factor * axis
        moved.append(total)
    return np.stack(moved, axis=-1) + targets[:, None, None, :]


def flip(points: np.ndarray, exchange: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Mirrors each clip about the vertical through its centre and exchanges left and right.

    Without the exchange a mirrored right hand would arrive in the left hand's columns.

    Args:
        points: (B, T, K, 2 or 3).
        exchange: (K,) from `preprocessing.joint_flip`.
        centres: (B, 2 or 3).
    """
    mirrored = points.copy()
    mirrored[..., 0] = 2 * centres[:, None, None, 0] - mirrored[..., 0]
    return mirrored[:, :, exchange]
