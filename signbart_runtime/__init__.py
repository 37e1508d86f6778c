"""What a checkpoint or an artifact does once it exists: label, evaluate, serve, time, compare.

Importing this loads no framework. `open_model` is here for programs, and is loaded when it is first
asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from signbart_runtime.evaluation.opened import open_model

__all__ = ["open_model"]


def __getattr__(name: str) -> Any:
    """Loads `signbart_runtime.evaluation.opened.open_model`."""
    if name == "open_model":
        from signbart_runtime.evaluation.opened import open_model

        return open_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
