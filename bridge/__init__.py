"""From a PyTorch checkpoint to verified .tflite. Importing this loads no framework.

`convert` and `open_model` are here for programs, and are loaded when they are first asked for: one
way in, though what opens a model stands in `signbart_runtime`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.conversion.pipeline import convert
    from signbart_runtime.evaluation.opened import open_model

__all__ = ["convert", "open_model"]


class _Bridge(ModuleType):
    """This package, with properties for what it offers.

    ``bridge/convert.py`` is the command, and Python sets every submodule on its package when it
    imports it: as a plain attribute the command would take the function's place. So ``from bridge
    import convert`` is the function whatever was imported before, and ``from bridge.convert import
    main`` the command's.
    """

    @property
    def convert(self) -> Callable:
        """`bridge.conversion.pipeline.convert`."""
        from bridge.conversion.pipeline import convert

        return convert

    @convert.setter
    def convert(self, command: ModuleType) -> None:
        """Python found the command; see the class."""

    @property
    def open_model(self) -> Callable:
        """`signbart_runtime.evaluation.opened.open_model`."""
        from signbart_runtime.evaluation.opened import open_model

        return open_model


sys.modules[__name__].__class__ = _Bridge
