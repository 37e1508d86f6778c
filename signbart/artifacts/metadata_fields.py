"""What an artifact's metadata must hold before anybody asks for it: keys, and types of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from signbart.configuration.values import shown
from signbart.errors import ArtifactError


@dataclass(frozen=True)
class _Maybe:
    """A key that may be missing, or only null."""

    form: Any
    missing: bool = True


# A form is a type or several, [form] a list of such, {key: form} an object that has these keys
# among others, and {str: form} one of any keys.
_TENSORS = [{"name": str, "shape": [(int, NoneType)], "dtype": str}]
_SIGNATURE = {
    "signature": str,
    "inputs": _TENSORS,
    "outputs": _TENSORS,
    "lengths": _Maybe({str: int}),
}
# As `metadata.build_metadata` and those who add to it write them.
_FIELDS = {
    **_SIGNATURE,
    "name": str,
    "route": str,
    "scheme": str,
    "checkpoint_sha256": str,
    "config": {"model": dict},
    "categories": _Maybe([str]),
    "versions": {str: str},
    # Null where the checkpoint did not say.
    "preprocessing": _Maybe(
        {
            "layout": str,
            "joint_idx": [int],
            "max_frames": int,
            "normalization": str,
            "steps": [str],
        },
        missing=False,
    ),
    "raw": _Maybe({**_SIGNATURE, "frames": int}),
    "quantization": _Maybe(
        {"calibration": _Maybe({"random": bool, "clips": int, "seed": int})},
    ),
}


def check_fields(metadata: Mapping[str, Any], path: str | Path) -> None:
    """Compares what an artifact carries with what is read from it.

    What has a check of its own is left to that: labels, numbers, the configuration.

    Raises:
        ArtifactError: A key is missing, or its value is of another type; names both and `path`.
    """
    for fault in _faults(metadata, _FIELDS, ""):
        raise ArtifactError(f"{path}: its metadata {fault}; get it again, or convert again")


def _faults(value: Any, form: Any, where: str) -> Iterator[str]:
    if isinstance(form, Mapping):
        if not isinstance(value, Mapping):
            yield f"has {shown(value)} for {where}, which must be an object"
            return
        for key, inner in form.items():
            if key is str:
                for name, each in value.items():
                    yield from _faults(each, inner, f"{where}.{name[:40]}")
                continue
            place = f"{where}.{key}" if where else key
            maybe = isinstance(inner, _Maybe)
            if key not in value:
                if not (maybe and inner.missing):
                    yield f"has no {place}"
            elif not (maybe and value[key] is None):
                yield from _faults(value[key], inner.form if maybe else inner, place)
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield f"has {shown(value)} for {where}, which must be a list"
            return
        for at, each in enumerate(value):
            yield from _faults(each, form[0], f"{where}[{at}]")
    elif not isinstance(value, form) or (isinstance(value, bool) and form is not bool):
        kinds = form if isinstance(form, tuple) else (form,)
        names = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
        yield f"has {shown(value)} for {where}, which must be {names}"
