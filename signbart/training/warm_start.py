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
from signbart.weights.state_dicts import shortened
from signbart.weights.stored import Stored, read_stored

BODY = "body"  # all that does not belong to a head
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
    """

    checkpoint: str | Path
    freeze: tuple[str, ...] = ()
    config: RunConfig | None = None
    class_names: tuple[str, ...] = ()

    def read(self) -> Stored:
        """The checkpoint, with what was said of it.

        Raises:
            CheckpointError: It cannot be read, or says of itself what was given beside it.
        """
        stored = read_stored(self.checkpoint)
        if stored.config is None:
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
        CheckpointError: Less than a tenth of the body fits: names what is missing and what is
            there instead.
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
        pairs, remark = _shared(kind, name, array, target, stored, config, class_names)
        if remark:
            remarks[remark] = None
        if pairs is None:
            found.new.append(name)
            found.left_out.append(f"{name} {array.shape}, here {target.shape}")
            continue
        into, out_of = pairs
        target[into] = array[out_of]
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
            f"{shortened(found.left_out) or 'nothing'}"
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
        "form": stored.form,
        "values_taken": found.values[0],
        "remarks": found.remarks,
        "freeze": list(init.freeze),
    }
    return Start(to_checkpoint(found.tensors), init.checkpoint, identity, notes=notes)


# Index of a tensor here, and of the checkpoint's.
_Pairs = tuple[Any, Any]


def _shared(
    kind: ModelKind,
    name: str,
    array: np.ndarray,
    target: np.ndarray,
    stored: Stored,
    config: RunConfig,
    class_names: Sequence[str],
) -> tuple[_Pairs | None, str]:
    """Which values of two tensors of a name are of the same thing, and a remark; None: none are."""
    axes = kind.axes
    others = array.ndim == target.ndim and array.ndim > 0
    categories = stored.config.data.category_names if stored.config else ()
    for what, layer, names, known in (
        ("classes", axes and axes.classes, class_names, stored.class_names),
        ("categories", axes and axes.categories, config.data.category_names, categories),
    ):
        if not layer or not others or not name.startswith(f"{layer}."):
            continue
        if array.shape[1:] != target.shape[1:]:
            return None, ""
        if len(known) != len(array) or len(names) != len(target):
            return None, f"{what}: all new, since there they have no names"
        here, there = _by_name(names, known)
        return (here, there), (
            f"{what}: {len(here)} of {len(names)} by name, {len(names) - len(here)} new; "
            f"{len(known) - len(there)} left out"
        )
    if axes and others and name in axes.landmarks and stored.config is not None:
        names, known = _landmarks(config), _landmarks(stored.config)
        width = config.coordinates if axes.interleaved else 1
        times, rest = divmod(target.shape[1], width * len(names))
        if names == known and array.shape == target.shape:
            return (..., ...), ""
        if rest or array.shape != (len(target), times * width * len(known)):
            return None, ""
        here, there = _by_name(names, known)
        remark = f"landmarks: {len(here)} of {len(names)} by name"
        spread = []
        for at, of in ((here, names), (there, known)):
            starts = np.arange(times)[:, None] * len(of) + np.array(at, int)
            spread.append(np.add.outer(starts * width, range(width)).ravel())
        return ((slice(None), spread[0]), (slice(None), spread[1])), remark
    if axes and others and name in axes.positions and array.shape != target.shape:
        if array.shape[-1] != target.shape[-1] or array.shape[:-2] != target.shape[:-2]:
            return None, ""
        count = min(array.shape[-2], target.shape[-2])
        change = "cut" if array.shape[-2] > count else "extended by new ones"
        rows = (..., slice(count), slice(None))
        return (rows, rows), (f"positions: {array.shape[-2]} {change} to {target.shape[-2]}")
    return ((..., ...) if array.shape == target.shape else None), ""


def _by_name(names: Sequence[str], known: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of the names that both have, here and there."""
    there = {name: at for at, name in enumerate(known)}
    pairs = [(at, there[name]) for at, name in enumerate(names) if name in there]
    return [here for here, _ in pairs], [other for _, other in pairs]


def _landmarks(config: RunConfig) -> list[str]:
    """The names of the landmarks that a run's model sees."""
    names = config.data.landmark_layout.names
    return [names[index] for index in config.joint_idx]


def _differences(before: RunConfig | None, config: RunConfig) -> list[str]:
    """What the weights were fed otherwise."""
    if before is None:
        return ["the checkpoint does not say what it was fed: that it was this is your word"]
    old, new = before.data.normalization, config.data.normalization
    return [f"data.normalization was {old} there, and is {new} here"] if old != new else []


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
