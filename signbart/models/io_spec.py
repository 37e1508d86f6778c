"""What goes in and what comes out: one object that every route and runtime works by.

Legend: B batch, T frames, K keypoints, D coordinates, F features a frame, C classes, G categories
of classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from signbart.errors import RuntimeInputError

SIGNATURE = "serving_default"
KEYPOINTS, ATTENTION_MASK, LOGITS = "keypoints", "attention_mask", "logits"
GLOSS, CATEGORY = "gloss", "category"
# The second signature of artifacts: from landmarks as they were recorded to probabilities.
RAW_SIGNATURE = "landmarks"
LANDMARKS, NUM_FRAMES = "landmarks", "num_frames"
PROBABILITIES, FRAMES_USED = "probabilities", "num_frames_used"


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor; None in `shape` stands for any size.

    Where integers stand for real numbers, ``real = (integer - zero_point) * scale``; otherwise
    `scale` is 0.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    def describe(self) -> str:
        """For messages, for example ``keypoints float32 (1, 64, 90, 2)``."""
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        real = f", real = (integer - {self.zero_point}) * {self.scale:g}" if self.scale else ""
        return f"{self.name} {self.dtype} ({sizes}){real}"

    def quantize(self, array: np.ndarray) -> np.ndarray:
        """Real numbers as this tensor's integers, the nearest ones; what is beyond is cut off.

        Where it has no scale, the array itself; and so in `dequantize`.
        """
        if not self.scale:
            return array
        limits = np.iinfo(self.dtype)
        # In float64, where infinity's stand-in can still be divided by a small scale.
        real = np.nan_to_num(array).astype(np.float64)
        integers = np.rint(real / self.scale) + self.zero_point
        return np.clip(integers, limits.min, limits.max).astype(self.dtype)

    def dequantize(self, array: np.ndarray) -> np.ndarray:
        """This tensor's integers as real numbers, float32."""
        if not self.scale:
            return array
        wide = array.astype(np.int64) - self.zero_point
        return (wide * np.float64(self.scale)).astype(np.float32)

    def accepts_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of `shape` fits."""
        return len(shape) == len(self.shape) and all(
            wanted in (None, found) for wanted, found in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class IOSpec:
    """A model's inputs and outputs, by name, under one signature.

    Attributes:
        inputs: What goes in.
        outputs: What comes out.
        signature: What the artifact calls the pair.
        longest: Most frames that positions exist for, where their number is open; None: not known.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    signature: str = SIGNATURE
    longest: int | None = None

    def keeps(self, promised: IOSpec) -> bool:
        """Whether names, shapes and dtypes are those that were promised, in whatever order."""

        def told(tensors: tuple[TensorSpec, ...]) -> list[str]:
            return sorted(str((tensor.name, tensor.shape, tensor.dtype)) for tensor in tensors)

        return all(
            told(getattr(self, side)) == told(getattr(promised, side))
            for side in ("inputs", "outputs")
        )

    def describe(self) -> str:
        """For messages."""
        inputs = "; ".join(tensor.describe() for tensor in self.inputs)
        return f"{inputs} -> {'; '.join(tensor.describe() for tensor in self.outputs)}"

    def check_inputs(self, arrays: Mapping[str, np.ndarray], where: str) -> None:
        """Refuses what the model was not made for; nothing is resampled, padded or cast.

        Args:
            arrays: Input name -> array.
            where: The runtime or artifact, for the message.

        Raises:
            RuntimeInputError: Names, shapes or dtypes differ, the mask holds something but 0 and 1,
                or a row of the mask holds no frame.
        """
        expected = "; ".join(spec.describe() for spec in self.inputs)
        names = {spec.name for spec in self.inputs}
        if set(arrays) != names:
            raise RuntimeInputError(
                f"{where} takes {expected}; it was given {', '.join(sorted(arrays)) or 'nothing'}"
            )
        for spec in self.inputs:
            array = arrays[spec.name]
            if not spec.accepts_shape(np.shape(array)) or str(array.dtype) != spec.dtype:
                raise RuntimeInputError(
                    f"{where} takes {spec.describe()}; it was given {spec.name} {array.dtype} "
                    f"{np.shape(array)}"
                )
        mask = arrays.get(ATTENTION_MASK)
        if mask is not None:
            if self.longest is not None and mask.shape[1] > self.longest:
                raise RuntimeInputError(
                    f"{where} has positions for {self.longest} frames; it was given {mask.shape[1]}"
                )
            if not np.isin(mask, (0, 1)).all():
                raise RuntimeInputError(f"{where}: {ATTENTION_MASK} must hold 0 and 1 only")
            empty = np.flatnonzero(~mask.any(axis=1))
            if len(empty):
                raise RuntimeInputError(
                    f"{where}: row {empty[0]} of {ATTENTION_MASK} has no frame; a clip needs at "
                    "least one"
                )


def raw_input(spec: IOSpec, landmarks: np.ndarray, behind: float = 0.0) -> dict[str, np.ndarray]:
    """One recording as the signature of raw landmarks takes it.

    Args:
        spec: Of that signature, for S frames.
        landmarks: (T, N, D) with T of at most S.
        behind: What the S - T frames behind them hold; it is not read.
    """
    padded = np.full(spec.inputs[0].shape, behind, np.float32)
    padded[0, : len(landmarks)] = landmarks
    return {LANDMARKS: padded, NUM_FRAMES: np.array([len(landmarks)], np.int32)}


def class_output(names: Iterable[str]) -> str:
    """Which of a model's outputs scores the classes that recordings are labelled with."""
    known = set(names)
    return next(name for name in (LOGITS, GLOSS) if name in known)


def with_integers(spec: IOSpec, dtype: str) -> IOSpec:
    """`spec` with integers of `dtype` for every float tensor; the scales are the artifact's."""

    def replaced(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            dataclasses.replace(tensor, dtype=dtype) if tensor.dtype == "float32" else tensor
            for tensor in tensors
        )

    return dataclasses.replace(spec, inputs=replaced(spec.inputs), outputs=replaced(spec.outputs))


def points_spec(config: Any, batch: int | None, frames: int | None) -> IOSpec:
    """Of kinds that take landmarks and score classes.

    Args:
        config: Has ``num_keypoints`` K, ``coordinates`` D, ``num_labels`` C and
            ``max_position_embeddings``.
        batch: B; None for any.
        frames: T; None for any.

    Returns:
        Keypoints (B, T, K, D) and a mask (B, T) -> logits (B, C).
    """
    shape = (batch, frames, config.num_keypoints, config.coordinates)
    return IOSpec(
        inputs=(
            TensorSpec(KEYPOINTS, shape, "float32"),
            TensorSpec(ATTENTION_MASK, (batch, frames), "int32"),
        ),
        outputs=(TensorSpec(LOGITS, (batch, config.num_labels), "float32"),),
        longest=config.max_position_embeddings,
    )


def classifier_spec(config: Any, batch: int | None, frames: int | None) -> IOSpec:
    """Of kinds that take features and score classes (glosses) and their categories.

    Args:
        config: Has ``num_features`` F, ``num_labels`` C, ``num_categories`` G and ``longest``.
        batch: B; None for any.
        frames: T; None for any.

    Returns:
        Features (B, T, F) and a mask (B, T) -> a score a gloss (B, C) and one a category (B, G).
    """
    return IOSpec(
        inputs=(
            TensorSpec(KEYPOINTS, (batch, frames, config.num_features), "float32"),
            TensorSpec(ATTENTION_MASK, (batch, frames), "int32"),
        ),
        outputs=(
            TensorSpec(GLOSS, (batch, config.num_labels), "float32"),
            TensorSpec(CATEGORY, (batch, config.num_categories), "float32"),
        ),
        longest=config.longest,
    )
