"""The dataclasses of a run's configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from signbart.landmarks.layouts import Layout, get_layout
from signbart.landmarks.own_layout import own_layout
from signbart.models import DEFAULT_KIND, kind_of
from signbart.models.fields import (
    LARGEST,
    LONGEST,
    NOT_NEGATIVE,
    PROBABILITY,
    SHARE,
    in_range,
    positive,
    unless_default,
)
from signbart.models.kind import FEATURES

NORMALIZATIONS = {
    "bbox": "each group into its bounding box, missing (0, 0) points counted (published, PyTorch)",
    "bbox_ignore_missing": "each group into the box of its detected points (published, on device)",
    "gaps_filled": "shares of the image as they are, short gaps filled (published, 89 landmarks)",
    "body_centred": "3-D joints in metres: neck at the origin, facing the camera, torso length 1",
}
RESAMPLINGS = {
    "nearest": "longer clips keep `max_frames` of their frames, shorter ones all (published)",
    "linear": "every clip gets `max_frames` frames, between two of its own where need be",
}
SCHEDULERS = ("cosine", "plateau", "constant", "one_cycle")
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class DataConfig:
    """The preprocessing contract, which travels with every checkpoint and artifact.

    Attributes:
        layout: Name of the recordings' landmark layout: of `signbart.landmarks.layouts.LAYOUTS`, or
            any where `landmarks` says what it is. In a file also the path of a YAML file, as for
            ``--source-layout``, which is read into the last two fields.
        max_frames: Longest clip T, in frames; longer clips are resampled uniformly.
        resample: One of `RESAMPLINGS`.
        normalization: One of `NORMALIZATIONS`.
        categories: Class -> its category, for models that tell those too; every class, or none.
        landmarks: Landmark -> its group, in order, of a layout of one's own; else empty.
        flip_pairs: Landmark -> its mirror image, of a layout of one's own.
    """

    layout: str = "kp90"
    max_frames: int = field(default=64, metadata=positive(LONGEST))
    normalization: str = field(default="bbox", metadata={"choices": tuple(NORMALIZATIONS)})
    resample: str = field(
        default="nearest", metadata=unless_default({"choices": tuple(RESAMPLINGS)})
    )
    categories: dict[str, str] = field(default_factory=dict, hash=False)
    landmarks: dict[str, str] = field(default_factory=dict, hash=False, metadata=unless_default({}))
    flip_pairs: dict[str, str] = field(
        default_factory=dict, hash=False, metadata=unless_default({})
    )

    @property
    def landmark_layout(self) -> Layout:
        """The layout; raises `ConfigError` where there is none of that name, or it is malformed."""
        if not self.landmarks:
            return get_layout(self.layout)
        unit = "metres" if self.normalization == "body_centred" else "image"
        return own_layout(self.layout, self.landmarks, self.flip_pairs, unit)

    @property
    def category_names(self) -> tuple[str, ...]:
        """The categories, in the order of a model's outputs: the alphabet's."""
        return tuple(sorted(set(self.categories.values())))


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training clips, drawn anew each epoch.

    Attributes:
        probability: Share of clips that are changed at all; 0 switches augmentation off.
        rotation_degrees: Rotation about the clip's centre and the axis of view, uniform in ± this
            many degrees.
        noise: Standard deviation of Gaussian noise on detected points, in the unit of the plane:
            image sizes, or torso lengths where bodies are centred.
        drop_frames: Up to this share of a clip's frames is dropped; one frame always stays. Where
            clips are resampled linearly, those that stay are stretched again.
        time_warp: Speed changes by a factor uniform in [1 - this, 1 + this]. A clip of `max_frames`
            does not get longer.
        flip: Share of the changed clips that are mirrored, left and right exchanged.
        crop: Up to this share of a clip is cut off at either end.
        time_curve: Time u in [0, 1] becomes u + w sin(πu), w uniform in ± this: the clip's
            beginning plays faster and its end slower, or the other way round.
        yaw_degrees: Rotation about the vertical, uniform in ± this; for layouts with a depth, which
            need not be one that the model sees.
        pitch_degrees: Likewise about the horizontal from left to right.
        scale: Each axis is scaled by a factor of its own, uniform in [1 - this, 1 + this].
        shear: x moves by y times a number uniform in ± this.
        joint_offset: Standard deviation of an offset that each landmark keeps through a clip, as if
            another body signed; in the unit of the plane.
    """

    probability: float = field(default=0.4, metadata=SHARE)
    rotation_degrees: float = field(default=15.0, metadata=in_range(0.0, 180.0))
    noise: float = field(default=0.005, metadata=NOT_NEGATIVE)
    drop_frames: float = field(default=0.3, metadata=PROBABILITY)
    time_warp: float = field(default=0.3, metadata=PROBABILITY)
    flip: float = field(default=0.0, metadata=SHARE)
    crop: float = field(default=0.0, metadata=unless_default(in_range(0.0, 0.4)))
    # Beyond 1 / π time would run backwards.
    time_curve: float = field(default=0.0, metadata=unless_default(in_range(0.0, 0.3)))
    yaw_degrees: float = field(default=0.0, metadata=unless_default(in_range(0.0, 180.0)))
    pitch_degrees: float = field(default=0.0, metadata=unless_default(in_range(0.0, 180.0)))
    scale: float = field(default=0.0, metadata=unless_default(PROBABILITY))
    shear: float = field(default=0.0, metadata=unless_default(PROBABILITY))
    joint_offset: float = field(default=0.0, metadata=unless_default(NOT_NEGATIVE))


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation.

    Attributes:
        seed: The run's only source of randomness.
        batch_size: Clips a step, over all processes.
        accumulate: In how many parts a process works on its clips of a step, one after the other;
            their gradients add up to those of the whole, except that BatchNorm counts by the part.
            Takes less memory and more time.
        lr: Peak learning rate of AdamW.
        body_lr_scale: The rate of all but the heads is the rate times this, for models that start
            from trained weights.
        warmup_epochs: Epochs of linear warm-up; whole ones for ``plateau``.
        scheduler: One of `SCHEDULERS`, after the warm-up; ``one_cycle`` has a warm-up of its own.
        warmup_share: Share of the steps in which ``one_cycle`` warms up.
        plateau_factor: ``plateau`` multiplies the rate by this …
        plateau_patience: … after this many epochs without a lower validation loss.
        patience: Early stopping after this many epochs without improvement; 0 switches it off.
        grad_clip: Largest gradient norm; 0 switches clipping off.
        val_signers: Signers held out of training to choose the best epoch by, never the test
            signers. Where too few signers exist, `val_fraction` of the clips stands in.
        val_fraction: Share of training clips, stratified by class. With `val_signers` 0 and this 0
            nothing is held out: the last epoch is the best one.
        precision: ``float32`` or ``bf16`` (automatic mixed precision).
        cuda_graphs: On a GPU, all kernels of a step are started by one call.
        mixup: Clips are mixed in pairs, by a share from Beta(this, this) (mixup, arXiv:1710.09412),
            inputs and losses; 0 switches it off.
        cutmix: Instead of that, this share of the clips gets a piece of another one, up to half of
            their frames (CutMix, arXiv:1905.04899, in time), and its loss by the piece's share.
        ema: Decay by step of a moving average of the weights, which is then what is validated,
            tested and saved; 0 switches it off.
    """

    seed: int = field(default=0, metadata=in_range(0, 2**32 - 1))
    epochs: int = field(default=60, metadata=positive())
    batch_size: int = field(default=64, metadata=positive())
    accumulate: int = field(default=1, metadata=unless_default(positive()))
    lr: float = field(default=1e-3, metadata=NOT_NEGATIVE)
    body_lr_scale: float = field(default=1.0, metadata=NOT_NEGATIVE)
    weight_decay: float = field(default=0.01, metadata=NOT_NEGATIVE)
    warmup_epochs: float = field(default=3.0, metadata=NOT_NEGATIVE)
    scheduler: str = field(default="cosine", metadata={"choices": SCHEDULERS})
    warmup_share: float = field(default=0.15, metadata=unless_default(PROBABILITY))
    plateau_factor: float = field(default=0.1, metadata=in_range(0.0, 1.0, open_high=True))
    plateau_patience: int = field(default=5, metadata=in_range(0, LARGEST))
    label_smoothing: float = field(default=0.1, metadata=PROBABILITY)
    grad_clip: float = field(default=1.0, metadata=NOT_NEGATIVE)
    patience: int = field(default=20, metadata=in_range(0, LARGEST))
    val_signers: int = field(default=1, metadata=in_range(0, LARGEST))
    val_fraction: float = field(default=0.1, metadata=PROBABILITY)
    precision: str = field(default="float32", metadata={"choices": PRECISIONS})
    cuda_graphs: bool = field(default=False, metadata=unless_default({}))
    mixup: float = field(default=0.0, metadata=unless_default(NOT_NEGATIVE))
    cutmix: float = field(default=0.0, metadata=unless_default(SHARE))
    ema: float = field(default=0.0, metadata=unless_default(PROBABILITY))

    @property
    def mixes(self) -> bool:
        """Whether a clip may be of two classes in training."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run, apart from the data.

    Attributes:
        name: What artifacts are called; the file's name by default.
        model: The configuration of one of `signbart.models.MODEL_KINDS`.
    """

    name: str = "signbart"
    model: Any = field(default_factory=DEFAULT_KIND.config)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for YAML and checkpoint headers; `from_dict` reads them back."""
        tree = dataclasses.asdict(self)
        for section in SECTIONS:
            part = getattr(self, section)
            default = dataclasses.asdict(type(part)())
            for each in dataclasses.fields(part):
                same = tree[section][each.name] == default[each.name]
                if same and "unless_default" in each.metadata:
                    del tree[section][each.name]
        model = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in tree["model"].items()
        }
        tree["model"] = model if self.kind == DEFAULT_KIND.name else {"kind": self.kind, **model}
        return tree

    @property
    def kind(self) -> str:
        """Which of `signbart.models.MODEL_KINDS` the model is."""
        return kind_of(self.model).name

    @property
    def joint_idx(self) -> tuple[int, ...]:
        """Indices into the layout that the model sees; all of them where it does not choose."""
        chosen = getattr(self.model, "joint_idx", None)
        return chosen or tuple(range(self.data.landmark_layout.num_keypoints))

    @property
    def coordinates(self) -> int:
        """Of each landmark that the model sees: 2 (x, y) or 3 (x, y, z)."""
        return kind_of(self.model).coordinates or self.model.coordinates

    @property
    def augmented_coordinates(self) -> int:
        """Of each landmark while it is augmented: 3 where depth is turned into the plane."""
        return 3 if self.augment.yaw_degrees or self.augment.pitch_degrees else self.coordinates

    @property
    def num_keypoints(self) -> int:
        """K, the number of landmarks that the model sees."""
        return len(self.joint_idx)

    @property
    def takes_features(self) -> bool:
        """Whether the model takes one vector per frame, x and y interleaved, and not (K, 2)."""
        return kind_of(self.model).frame == FEATURES


SECTIONS: dict[str, type] = {
    "model": DEFAULT_KIND.config,
    "data": DataConfig,
    "augment": AugmentConfig,
    "train": TrainConfig,
}
