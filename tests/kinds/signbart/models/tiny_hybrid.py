"""A made-up kind: convolutions, BatchNorm and attention over x, y and z, of a fixed length."""

from dataclasses import dataclass, field

from signbart.models.fields import positive
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, LOGITS, IOSpec, TensorSpec
from signbart.models.kind import ModelKind, check_joints


@dataclass(frozen=True)
class TinyHybridConfig:
    joint_idx: tuple[int, ...] | None = None
    num_labels: int | None = field(default=None, metadata=positive())
    d_model: int = field(default=30, metadata=positive())
    width: int = field(default=3, metadata=positive())

    @property
    def num_keypoints(self) -> int:
        return len(self.joint_idx)


def _io_spec(config: TinyHybridConfig, batch: int | None, frames: int | None) -> IOSpec:
    return IOSpec(
        inputs=(
            TensorSpec(KEYPOINTS, (batch, frames, config.num_keypoints, 3), "float32"),
            TensorSpec(ATTENTION_MASK, (batch, frames), "int32"),
        ),
        outputs=(TensorSpec(LOGITS, (batch, config.num_labels), "float32"),),
    )


KIND = ModelKind(
    name="tiny_hybrid",
    title="tiny hybrid",
    config=TinyHybridConfig,
    io_spec=_io_spec,
    check=check_joints,
    coordinates=3,
    open_length=False,
    quantized_operators=("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"),
)
