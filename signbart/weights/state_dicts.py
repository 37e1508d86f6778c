"""Where other people's checkpoints keep a model's weights, and what they put in front of the names.

PyTorch Lightning: ``state_dict``, names behind the attribute that held the model. Accelerate and
Transformers: bare. timm: ``state_dict``, and of the moving average ``state_dict_ema``.
DataParallel: ``module.``; torch.compile: ``_orig_mod.``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from signbart.errors import CheckpointError
from signbart.models import MODEL_KINDS
from signbart.weights.rules import has_twin, rules_of
from signbart.weights.torch_pickles import BFLOAT16, Inert, attribute_of, module_tensors

# Keys of the weights, the first that is there. A moving average before what it is the average of,
# as timm has it (timm.models.load_state_dict): it is what such a training evaluates.
WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
)


# Dicts in dicts; where a pickle's hold themselves, there is no end to them.
_DEEPEST = 3


def find_state_dict(content: Any, depth: int = 0) -> tuple[Mapping[str, np.ndarray], list[str]]:
    """The weights in what a file holds, and what else is to be said.

    Raises:
        CheckpointError: There are none; says what there is.
    """
    if depth > _DEEPEST:
        raise CheckpointError("its dicts are nested too deep, or hold themselves")
    if isinstance(content, Inert):
        content = module_tensors(content) or content
    if isinstance(content, Mapping):
        tensors = {str(k): v for k, v in content.items() if is_tensor(v)}
        inner = next((key for key in WRAPPERS if _holds_tensors(content.get(key))), None)
        if inner is not None:
            found, notes = find_state_dict(content[inner], depth + 1)
            average = [f"the moving average is taken ('{inner}')"] if "ema" in inner else []
            return found, [*average, *notes]
        if tensors:
            return tensors, []
        others = [key for key, value in content.items() if _holds_tensors(value)]
        if len(others) == 1:
            return find_state_dict(content[others[0]], depth + 1)
    raise CheckpointError(
        f"expected a state dict, or a dict with one under one of: {', '.join(WRAPPERS)}; found "
        f"{_describe(content)} (nothing in it was executed)"
    )


def find_module(content: Any, depth: int = 0) -> Inert | None:
    """The whole pickled module in what a file holds, behind DataParallel; None where none is."""
    if isinstance(content, Inert):
        inner = attribute_of(content, "module")
        return inner if isinstance(inner, Inert) else content
    if isinstance(content, Mapping) and depth <= _DEEPEST:
        inner = next((key for key in WRAPPERS if _holds_tensors(content.get(key))), None)
        return None if inner is None else find_module(content[inner], depth + 1)
    return None


def is_tensor(value: Any) -> bool:
    """Whether something is an array of numbers."""
    return isinstance(value, np.ndarray) and (value.dtype.kind in "fiub" or value.dtype == BFLOAT16)


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    if depth > _DEEPEST:
        return False
    if isinstance(value, Inert):
        return bool(module_tensors(value))
    return isinstance(value, Mapping) and any(
        is_tensor(inner) or (key in WRAPPERS and _holds_tensors(inner, depth + 1))
        for key, inner in value.items()
    )


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict of {', '.join(map(str, list(content)[:6])) or 'nothing'}"
    if isinstance(content, np.ndarray):
        return "one tensor alone"
    return f"{type(content).__module__}.{type(content).__name__}".removeprefix("builtins.")


@cache
def known_names() -> frozenset[str]:
    """The names of the weights of every kind of model, in its usual size."""
    return frozenset(
        rule.torch_key
        for kind in MODEL_KINDS.values()
        if has_twin(kind)
        for rule in rules_of(kind.config())
    )


def without_prefix(
    tensors: Mapping[str, np.ndarray], known: frozenset[str], separator: str = "."
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors whose names begin with what stands before known names, without that.

    Args:
        tensors: By name.
        known: Names of a model's weights.
        separator: Of a name's parts.

    Returns:
        The model's tensors, and what else is to be said.
    """
    tensors = {name.replace(f"_orig_mod{separator}", ""): v for name, v in tensors.items()}
    prefixes = Counter()
    for name in tensors:
        parts = name.split(separator)
        for at in range(len(parts)):
            if separator.join(parts[at:]) in known:
                prefixes["".join(f"{part}{separator}" for part in parts[:at])] += 1
    prefix = max(prefixes, key=lambda p: (prefixes[p], -len(p)), default="")
    if not prefix:
        return tensors, []
    found = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    left = [name for name in tensors if not name.startswith(prefix)]
    return found, [f"ignored beside the model: {shortened(left)}"] if left else []


def cast(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Every floating-point tensor in float32, and what was cast."""
    found, casts = {}, Counter()
    for name, array in tensors.items():
        if array.dtype == BFLOAT16:
            bits = np.ascontiguousarray(array).view(np.uint16).astype(np.uint32) << 16
            found[name] = bits.view(np.float32)
            casts["bfloat16"] += 1
        elif array.dtype.kind == "f" and array.dtype != np.float32:
            found[name] = array.astype(np.float32)
            casts[array.dtype.name] += 1
        else:
            # In its own memory, and no view of a file's; PyTorch takes this machine's byte order.
            found[name] = np.array(array, array.dtype.newbyteorder("="))
    return found, [f"{count} tensors cast from {name} to float32" for name, count in casts.items()]


def shortened(names: Sequence[str], most: int = 6) -> str:
    """Names for a message: the first of them, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
