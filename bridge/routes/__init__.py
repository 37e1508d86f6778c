"""The ways from PyTorch to a float .tflite, as one table.

The help text, the argument checks and the tests' parametrisation all read `ROUTES`. Adding a route
is one file with an ``export`` function and one row here. Nothing is imported before it is used.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.artifact.raw_signature import add_raw_signature
from bridge.errors import BridgeError, ConversionError
from signbart.errors import SignBartError
from signbart.extras import install_command
from signbart.files import temporary_folder
from signbart.models import kind_of
from signbart.models.raw_spec import RawSignature
from signbart.weights.rules import has_twin

if TYPE_CHECKING:
    from torch import nn

    from signbart.models.io_spec import IOSpec
    from signbart.models.kind import ModelKind


RAW_ONNX = "_landmarks.onnx"  # ending of the .onnx that takes raw landmarks


def is_raw_onnx(file: str, files: Sequence[str]) -> bool:
    """Whether one of a folder's files is that .onnx; a model may be called …_landmarks itself."""
    return file.endswith(RAW_ONNX) and f"{file.removesuffix(RAW_ONNX)}.onnx" in files


@dataclass(frozen=True)
class Route:
    """One way to convert.

    Attributes:
        name: Key in `ROUTES`, part of the artifact's file name, and the extra that installs it.
        aliases: Other names that the command takes.
        description: One line for help texts.
        packages: Importable packages that it needs.
        module: Where its ``export(model, spec, paths)`` lives, its ``export_around(raw, path)``,
            and where it makes an .onnx ``export_raw(model, raw, path)``.
        produces: Endings of the files that it writes; the float .tflite is always among them.
        needs_twin: Whether it starts from the model's Keras twin.
    """

    name: str
    aliases: tuple[str, ...]
    description: str
    packages: tuple[str, ...]
    module: str
    produces: tuple[str, ...] = (".tflite",)
    needs_twin: bool = False

    def missing_packages(self) -> list[str]:
        """Those of `packages` that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def export(
        self,
        model: nn.Module,
        spec: IOSpec,
        paths: Mapping[str, Path],
        raw: RawSignature | None = None,
    ) -> None:
        """Writes the float .tflite, and whatever else the route produces.

        The ONNX route can be asked for its .onnx or its .tflite alone.

        Args:
            model: A network of one of `signbart.models.MODEL_KINDS`, in inference mode.
            spec: Fixed shapes and the names that the artifact must have.
            paths: For each ending that is wanted, of `produces` and `RAW_ONNX`, the file to write.
            raw: The .tflite's second signature; None: it has none.

        Raises:
            ConversionError: A package is missing, or the converter failed.
        """
        kind = kind_of(model.config)
        if self.needs_twin and not has_twin(kind):
            raise ConversionError(
                f"{kind.title} has no Keras twin; routes that carry it: "
                f"{', '.join(routes_of(kind))}"
            )
        missing = self.missing_packages()
        if missing:
            raise ConversionError(
                f"route '{self.name}' needs the package {', '.join(missing)}, which is not "
                f"installed: {install_command(self.name)}"
            )
        try:
            module = importlib.import_module(self.module)
            module.export(model, spec, paths)
            if raw is not None and ".tflite" in paths:
                with temporary_folder(paths[".tflite"].parent) as folder:
                    around = folder / "around.tflite"
                    around.write_bytes(_around(module.export_around, raw.alone))
                    add_raw_signature(paths[".tflite"], around)
            if raw is not None and RAW_ONNX in paths:
                module.export_raw(model, raw, paths[RAW_ONNX])
        except SignBartError:
            raise
        # Converters fail with every kind of exception, and onnx2tf by leaving the process; all of
        # them mean the same to the user.
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            raise ConversionError(
                f"route '{self.name}' failed: {type(error).__name__}: {error}"
            ) from error


@functools.lru_cache(maxsize=16)
def _around(export: Callable[[RawSignature, Path], None], raw: RawSignature) -> bytes:
    """What a route makes of what stands around a model: the same for every one of a process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "around.tflite"
        export(raw, path)
        return path.read_bytes()


ROUTES: dict[str, Route] = {
    route.name: route
    for route in (
        Route(
            name="litert",
            aliases=("ai_edge_torch", "ai-edge-torch", "litert_torch"),
            description="PyTorch straight to LiteRT, through torch.export",
            packages=("litert_torch", "ai_edge_litert"),
            module="bridge.routes.via_litert",
        ),
        Route(
            name="onnx",
            aliases=("onnx2tf",),
            description="PyTorch to ONNX (any batch, any length), and that to LiteRT by onnx2tf",
            packages=(
                *("onnx", "onnxscript", "onnxruntime", "onnx2tf", "tensorflow", "tf_keras"),
                "ai_edge_litert",
            ),
            module="bridge.routes.via_onnx",
            produces=(".onnx", ".tflite"),
        ),
        Route(
            name="keras",
            aliases=("tf", "tensorflow"),
            description="weight map into the Keras twin, and that to LiteRT by Keras",
            packages=("keras", "tensorflow", "ai_edge_litert"),
            module="bridge.routes.via_keras",
            needs_twin=True,
        ),
    )
}


def select_routes(names: Sequence[str]) -> list[Route]:
    """The routes of these names or aliases, each once; ``all`` stands for every one.

    Args:
        names: Each a name, or several separated by commas.

    Raises:
        BridgeError: A name is unknown.
    """
    chosen: dict[str, Route] = {}
    for name in (part.strip() for several in names for part in several.split(",")):
        for route in ROUTES.values() if name == "all" else [get_route(name)]:
            chosen[route.name] = route
    return list(chosen.values())


def get_route(name: str) -> Route:
    """The route of that name or alias; raises `BridgeError` listing the known ones."""
    for route in ROUTES.values():
        if name == route.name or name in route.aliases:
            return route
    known = "; ".join(f"{r.name} (also {', '.join(r.aliases)})" for r in ROUTES.values())
    raise BridgeError(f"unknown route '{name}'; known: {known}")


def routes_of(kind: ModelKind) -> tuple[str, ...]:
    """Names of the routes that carry a kind of model: those by Keras where it has a twin."""
    return tuple(r.name for r in ROUTES.values() if not r.needs_twin or has_twin(kind))
