"""Where two models part: the first layer whose output the artifact does not reproduce.

Artifacts do not keep PyTorch's layer names, and converters reshape and fuse. So the reference's
layer outputs are looked for among *all* tensors that the artifact computes, by value: the same
numbers in the same order, whatever the shape. What is looked into is the artifact itself, not a
second export of it.

A layer counts as diverging if neither it nor anything that is computed from it is found: converters
may fuse a single layer's output away, but nothing comes back once the numbers have gone wrong.
What reads one frame alone says nothing of the others, however: the last layer's query is right
where the frames before the last are wrong, and then its keys are to be looked at.

Exports project no frame to keys or values for a layer that asks with one query, but the query and
what it reads: either form acquits a projection.

Every converter to LiteRT adds the projections' biases and the positions as one constant, so that
no tensor tells them apart. There the product without the bias is looked for: if it is right and the
sum is off by the same in every frame, the bias is to blame, and otherwise the positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bridge.verification.computed import LAST_FRAME, ONE_QUERY, PRODUCT, PROJECTIONS
from signbart.models.io_spec import LOGITS

# As for float32 logits: layers behind a LayerNorm are no larger than they.
LAYER_ATOL, LAYER_RTOL = 1e-5, 1e-5

_OF_X = ("projection.proj_x", "encoder")
# Where the decoder reads the encoder.
_READS_ENCODER = re.compile(r"encoder_attn\.[kv]_proj$")
# What may be right while y is wrong: a query that sees one frame gets that frame, whatever it asks.
_OF_X_ALONE = re.compile(r"encoder_attn(\.(k|v|out)_proj)?$")


@dataclass(frozen=True)
class Divergence:
    """The first layer that the artifact computes otherwise.

    Attributes:
        layer: Attribute path in the reference, for example ``encoder.layers.0.self_attn``.
        after: The last layer before it that agrees; empty where none does.
        nearest: Largest absolute difference to the artifact's most similar tensor of that size;
            None where it has none.
    """

    layer: str
    after: str
    nearest: float | None

    def describe(self) -> str:
        """One sentence."""
        before = f"{self.after} still agrees" if self.after else "no layer before it agrees"
        distance = "it computes no tensor of that size"
        if self.nearest is not None:
            distance = f"its most similar tensor is off by up to {self.nearest:.3g}"
        if self.layer == LAST_FRAME:
            distance += "; look at which frame is selected by the mask"
        if self.layer.endswith("attn.out_proj"):
            distance += "; q, k and v are all there: look at which is used as which, and the mask"
        return f"first diverging layer: {self.layer} ({before}; {distance})"


def first_divergence(
    layers: Mapping[str, np.ndarray],
    tensors: Sequence[np.ndarray] | Mapping[str, np.ndarray],
    outputs: Sequence[str] = (LOGITS,),
    rms: float | None = None,
) -> Divergence | None:
    """Looks for the reference's layers among an artifact's tensors.

    Args:
        layers: From `computed.reference_layers`.
        tensors: From `computed.artifact_tensors`, on the same inputs: nameless ones are searched by
            value, named ones compared with the layer of that name.
        outputs: Which of the layers are the model's outputs.
        rms: Of a quantized artifact, for each layer: the root mean square of its error, over that
            of its numbers, at most. Outputs within it acquit no layer of SignBART then: all but
            its projections stand in every export, and each is held to it.

    Returns:
        None where the outputs, and so everything that matters, are found.
    """
    by_size: dict[int, list[np.ndarray]] = {}
    for tensor in () if isinstance(tensors, Mapping) else tensors:
        by_size.setdefault(tensor.size, []).append(tensor)

    def candidates(name: str) -> list[np.ndarray]:
        if isinstance(tensors, Mapping):
            return [tensors[name]] if name in tensors else []
        return by_size.get(layers[name].size, [])

    distances: dict[str, float | None] = {}
    found = set()
    for name, values in layers.items():
        differences = _differences(values, candidates(name))
        furthest = [float(np.abs(difference).max()) for difference in differences]
        distances[name] = min((d if d == d else np.inf for d in furthest), default=None)
        if any(_agrees(difference, values, rms) for difference in differences):
            found.add(name)
    of_one_query = set()
    for name in [name for name in layers if name.endswith(ONE_QUERY)]:
        projection = name.removesuffix(ONE_QUERY)
        known = [d for d in (distances[name], distances[projection]) if d is not None]
        distances[projection] = min(known, default=None)
        if name in found and projection not in found:
            of_one_query.add(projection)
    found |= of_one_query
    two_sided = set(PROJECTIONS) <= set(layers)  # SignBART alone parts x and y
    for name, following in PROJECTIONS.items() if two_sided else ():
        sums = _differences(layers[following], candidates(following))
        if name + PRODUCT in found and not any(map(_same_in_every_frame, sums)):
            found.add(name)
    names = [name for name in layers if not name.endswith((PRODUCT, ONE_QUERY))]
    if rms is not None and two_sided:
        # A projection's bias and the positions are one constant there.
        found |= {name for name, following in PROJECTIONS.items() if following in found}
        found |= {name for name in PROJECTIONS if name + PRODUCT in found}
        # By halves, as they are computed: of y's that reads x's, the latter is to blame.
        ordered = sorted(names, key=lambda name: not name.startswith(_OF_X))
        wrong = next((name for name in ordered if name not in found), None)
        return wrong and _divergence(wrong, ordered, found, distances)
    if found.issuperset(outputs):
        return None
    # x and y are computed side by side: what is found of y says nothing about x, until the decoder
    # reads the encoder.
    encoder = [name for name in names if name.startswith(_OF_X)]
    readers = [name for name in names if _READS_ENCODER.search(name)]
    if not two_sided:
        # One head says nothing about another; heads are named after their outputs.
        wrong = next(name for name in outputs if name not in found)
        side = [n for n in names if not n.startswith(tuple(set(outputs) - {wrong}))]
    elif found.intersection([encoder[-1], *readers]):
        side = [name for name in names if name not in encoder]
    else:
        side = encoder
    frames = {name: layers[name].shape[1] if layers[name].ndim == 3 else 1 for name in side}
    frames |= dict.fromkeys(of_one_query & set(side), 1)
    for at, layer in enumerate(side):
        dependents = {name for name in side[at + 1 :] if not _OF_X_ALONE.search(name)}
        if two_sided:
            dependents = {name for name in dependents if frames[name] >= frames[layer]}
        if layer == LAST_FRAME:
            dependents = {name for name in dependents if frames[name] == frames[layer]}
        if layer not in found and not found & (dependents - _siblings(layer)):
            break
    return _divergence(layer, side, found, distances)


def layer_errors(
    layers: Mapping[str, np.ndarray], tensors: Sequence[np.ndarray]
) -> dict[str, float]:
    """How far a quantized artifact is from each layer, by the tensor that is nearest to it.

    Args:
        layers: From `computed.reference_layers`.
        tensors: From `computed.artifact_tensors`, on the same inputs.

    Returns:
        By layer, what `first_divergence` holds to its `rms`: root mean square of the error over
        that of the layer's numbers. The projections, which no export has by themselves, are left
        out; infinity where no tensor has the layer's size.
    """
    errors: dict[str, float] = {}
    for name, values in layers.items():
        layer = name.removesuffix(ONE_QUERY)
        if name.endswith(PRODUCT) or layer in PROJECTIONS:
            continue
        same = _differences(values, [t for t in tensors if t.size == values.size])
        found = [_relative_rms(difference, values) for difference in same]
        errors[layer] = min((errors.get(layer, np.inf), *found))
    return errors


def _divergence(
    layer: str, names: Sequence[str], found: set[str], distances: Mapping[str, float | None]
) -> Divergence:
    agreeing = [name for name in names[: names.index(layer)] if name in found]
    return Divergence(layer, agreeing[-1] if agreeing else "", distances[layer])


def _differences(values: np.ndarray, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
    with np.errstate(invalid="ignore"):  # infinity stands in padded frames, and in wrong artifacts
        return [t.reshape(values.shape) - values for t in tensors if t.size == values.size]


def _agrees(difference: np.ndarray, values: np.ndarray, rms: float | None) -> bool:
    if rms is None:
        return bool((np.abs(difference) <= LAYER_ATOL + LAYER_RTOL * np.abs(values)).all())
    return _relative_rms(difference, values) <= rms


def _relative_rms(difference: np.ndarray, values: np.ndarray) -> float:
    known = np.isfinite(values)
    squares, power = (np.square(a[known], dtype=np.float64).sum() for a in (difference, values))
    return float(np.sqrt(squares / power)) if power else (0.0 if squares == 0 else np.inf)


def _same_in_every_frame(difference: np.ndarray) -> bool:
    """Whether (B, T, D) is one (D,), but for rounding."""
    first = difference[:1, :1]
    return bool((np.abs(difference - first) <= LAYER_ATOL + LAYER_RTOL * np.abs(first)).all())


def _siblings(name: str) -> set[str]:
    """Layers listed behind `name` that do not depend on it: q, k and v of one attention."""
    parent, _, projection = name.rpartition(".")
    parts = ("q_proj", "k_proj", "v_proj")
    return {f"{parent}.{part}" for part in parts} if projection in parts else set()
