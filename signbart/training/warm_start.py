"""A run that starts from somebody's weights: what of a checkpoint fits a model, and what does not.

The body is taken by name and shape. Where an axis runs over classes, landmarks or positions, what
both have in common is taken: classes and landmarks by their names, positions from the first on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from signbart.configuration.schema import RunConfig
from signbart.errors import CheckpointError, ConfigError
from signbart.files import file_sha256
from signbart.models import kind_of
from signbart.models.kind import ModelKind
from signbart.training.learner import Start
from signbart.training.shared_values import shared_values
from signbart.weights.state_dicts import shortened
from signbart.weights.stored import Stored, read_stored

BODY = "body"  # all that does not belong to a head
# Keys of models that change what is computed, and no tensor's shape.
_SAME_SHAPES = (
    *("attention_heads", "encoder_attention_heads", "decoder_attention_heads"),
    *("pooling", "bidirectional"),
)
# Of the body's values; with less in common it is another model.
_LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Init:
    """What to start from, and which parts stay as they are.

    Attributes:
        checkpoint: Any that `read_stored` reads.
        freeze: `BODY`, or modules by name, such as ``encoder``.
        config: Of a checkpoint that has none: what it was trained with.
        class_names: Likewise its labels.
        checksum: Refuse one that is not what its checksum was made of.
    """

    checkpoint: str | Path
    freeze: tuple[str, ...] = ()
    config: RunConfig | None = None
    class_names: tuple[str, ...] = ()
    checksum: bool = True

    def read(self) -> Stored:
        """The checkpoint, with what was said of it.

        Raises:
            CheckpointError: It cannot be read, or says of itself what was given beside it.
        """
        stored = read_stored(self.checkpoint, checksum=self.checksum)
        if stored.config is None:
            head = self.config and kind_of(self.config.model).axes
            weights = stored.tensors.get(f"{head.classes}.weight") if head else None
            if self.class_names and weights is not None and len(weights) != len(self.class_names):
                raise CheckpointError(
                    f"{self.checkpoint} tells {len(weights)} classes apart, but --init-labels "
                    f"names {len(self.class_names)}; give the label file it was trained with"
                )
            return replace(stored, config=self.config, class_names=self.class_names)
        if self.config is not None or self.class_names:
            raise CheckpointError(
                f"{self.checkpoint} carries its own configuration and labels; drop --init-config "
                "and --init-labels"
            )
        return stored


@dataclass
class Fitted:
    """A model's tensors, some of them from a checkpoint.

    Attributes:
        tensors: All that the model has, by PyTorch's names.
        taken: Names of those that came whole, and of those that came in part.
        new: Names of those that begin anew.
        left_out: The checkpoint's that found no place, each with why.
        remarks: What happened along classes, landmarks and positions.
        values: How many values came, of how many.
    """

    tensors: dict[str, np.ndarray]
    taken: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    values: tuple[int, int] = (0, 0)

    def describe(self, source: str | Path) -> list[str]:
        """The report, a line a matter."""
        came, of = self.values
        lines = [
            f"starts from {source}: {len(self.taken)} of {len(self.tensors)} tensors, {came:,} of "
            f"{of:,} values"
        ]
        lines += [f"  {remark}" for remark in self.remarks]
        for what, names in (("new", self.new), ("left out", self.left_out)):
            if names:
                lines.append(f"  {what}: {shortened(names)}")
        return lines


def fit(
    stored: Stored,
    config: RunConfig,
    class_names: Sequence[str],
    fresh: Mapping[str, np.ndarray],
    source: str | Path,
) -> Fitted:
    """Takes into a model's fresh tensors what fits them.

    Args:
        stored: The checkpoint.
        config: Of the model that starts.
        class_names: Its C labels.
        fresh: Its tensors as they begin without a checkpoint, by PyTorch's names.
        source: The checkpoint's path, for messages.

    Raises:
        CheckpointError: What fits is not finite, or less than a tenth of the body fits: names what
            is missing and what is there instead.
    """
    kind = kind_of(config.model)
    found = Fitted({name: np.array(tensor) for name, tensor in fresh.items()})
    came = dict.fromkeys(fresh, 0)
    remarks: dict[str, None] = {}  # once for all tensors of an axis
    for name, target in found.tensors.items():
        if name not in stored.tensors:
            found.new.append(name)
            continue
        array = stored.tensors[name]
        if array.dtype.kind != target.dtype.kind:  # bits of integers are no weights
            found.new.append(name)
            found.left_out.append(f"{name} {array.dtype}, here {target.dtype}")
            continue
        pairs, remark = shared_values(kind, name, array, target, stored, config, class_names)
        if remark:
            remarks[remark] = None
        if pairs is None:
            found.new.append(name)
            shapes = f" {array.shape}, here {target.shape}" if array.shape != target.shape else ""
            found.left_out.append(f"{name}{shapes}")
            continue
        into, out_of = pairs
        target[into] = array[out_of]
        if not np.isfinite(target[into]).all():
            raise CheckpointError(
                f"{source}: {name} holds NaN or infinity; take a checkpoint from before that"
            )
        came[name] = target[into].size
        (found.taken if came[name] else found.new).append(name)
    found.left_out += [name for name in stored.tensors if name not in found.tensors]
    found.remarks = [*stored.notes, *remarks, *_differences(stored.config, config)]
    found.values = sum(came.values()), sum(tensor.size for tensor in found.tensors.values())
    body = [name for name in fresh if not _in_heads(kind, name)]
    total = sum(fresh[name].size for name in body)
    if sum(came[name] for name in body) < _LEAST_SHARE * total:
        raise CheckpointError(
            f"{source} is {stored.form}, but of another model: almost nothing fits {config.name} "
            f"({kind.title}). missing: {shortened(found.new) or 'nothing'}; unexpected: "
            f"{shortened(found.left_out) or 'nothing'}. Give the --config that it was trained with"
        )
    return found


def start_from(
    init: Init,
    config: RunConfig,
    class_names: Sequence[str],
    fresh: Mapping[str, np.ndarray],
    to_checkpoint: Callable[[dict[str, np.ndarray]], Any],
) -> Start:
    """What a run begins with, for `lifecycle.train`.

    Args:
        init: What was asked for.
        config: The run's configuration, with its number of classes.
        class_names: C labels.
        fresh: The model's tensors as the run's seed makes them, by PyTorch's names.
        to_checkpoint: The framework's checkpoint of such tensors.

    Raises:
        CheckpointError: See `fit`.
        ConfigError: See `frozen_of`.
    """
    stored = init.read()
    found = fit(stored, config, class_names, fresh, init.checkpoint)
    frozen = frozen_of(config, list(fresh), init.freeze)
    notes = found.describe(init.checkpoint)
    if frozen:
        values = sum(fresh[name].size for name in frozen)
        if new := sorted(frozen & set(found.new)):
            notes.append(f"warning: frozen, but new: {shortened(new)}; take them out of --freeze")
        notes.append(f"frozen: {', '.join(init.freeze)} ({len(frozen)} tensors, {values:,} values)")
    identity = {
        "checkpoint": file_sha256(init.checkpoint),
        "values_taken": found.values[0],
        "freeze": sorted(init.freeze),
    }
    return Start(
        to_checkpoint(found.tensors),
        init.checkpoint,
        identity,
        notes=notes,
        progress=stored.progress,
    )


def _differences(before: RunConfig | None, config: RunConfig) -> list[str]:
    """What the weights were fed otherwise, and what was computed otherwise of the same shapes."""
    if before is None:
        return [
            "warning: the checkpoint does not say what it was trained with, so what it was fed is "
            "not compared; give --init-config"
        ]
    remarks = []
    for key in ("normalization", "resample"):
        old, new = getattr(before.data, key), getattr(config.data, key)
        if old != new:
            remarks.append(f"warning: data.{key} was {old} there, and is {new} here")
    if type(before.model) is not type(config.model):
        return remarks
    for key in _SAME_SHAPES:
        old, new = getattr(before.model, key, None), getattr(config.model, key, None)
        if old != new:
            remarks.append(
                f"warning: model.{key} was {old} there, and is {new} here: the same weights are "
                "another function; set it as it was"
            )
    return remarks


def _in_heads(kind: ModelKind, name: str) -> bool:
    return kind.axes is not None and any(name.startswith(f"{h}.") for h in kind.axes.heads)


def body_of(config: RunConfig, names: Sequence[str]) -> set[str]:
    """Those of a model's tensors that belong to no head."""
    kind = kind_of(config.model)
    return {name for name in names if not _in_heads(kind, name)}


def frozen_of(config: RunConfig, names: Sequence[str], freeze: Sequence[str]) -> set[str]:
    """The tensors that are not trained.

    Args:
        config: The run's configuration.
        names: Of all that could be, by PyTorch's names.
        freeze: `BODY`, or modules by name.

    Raises:
        ConfigError: There is no such module, or nothing would be trained.
    """
    frozen: set[str] = set()
    for part in freeze:
        inside = {name for name in names if name == part or name.startswith(f"{part}.")}
        inside |= body_of(config, names) if part == BODY else set()
        if not inside:
            parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ConfigError(f"--freeze {part}: there is no such part; choose of {BODY}, {parts}")
        frozen |= inside
    if names and len(frozen) == len(names):
        raise ConfigError(
            f"--freeze {' '.join(freeze)}: nothing would be trained; leave a part out"
        )
    return frozen
