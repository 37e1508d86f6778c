"""Keras checkpoints read without Keras: arrays by the path of the layer that owns them.

Three layouts: .weights.h5 (alone, or inside a .keras), where a layer's variables are numbered; the
.h5 of Keras 2, a whole model or its weights, where they are named. SignBART's paths become
PyTorch's names through the weight map.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from signbart.archives import check_unpacked, open_zip
from signbart.errors import CheckpointError
from signbart.json_text import parse_json
from signbart.memory import raise_shortage
from signbart.models.signbart import SignBartConfig
from signbart.weights.rules import ABSENT, Rule, rules_of
from signbart.weights.state_dicts import without_prefix

HEADER = "signbart.json"
_WEIGHTS = "model.weights.h5"
_EXPANDED = 20  # times its bytes; weights hardly compress, and Keras does not try
# Groups of a file that hold no weights of the model.
_OTHERS = ("optimizer_weights/", "optimizer/", "_metrics/", "metrics/", "loss_tracker/")
_LAYER = re.compile(r"(?:\w*layers/)?(?:encoder|decoder)_layer(?:_(\d+))?(?=/)")
_BLOCK = re.compile(r"(?<=/)conv_block(?:_(\d+))?(?=/)")
_POSITIONS = re.compile(r"embed_positions/(?:\w*embedding/)?(?:embeddings|vars/0)$")


def read_keras_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """The arrays of a .keras, .weights.h5 or .h5 by path, and this project's header if it has one.

    Raises:
        CheckpointError: The file is cut or damaged.
    """
    import h5py

    try:
        header, content = None, path
        if zipfile.is_zipfile(path):
            with open_zip(path, CheckpointError) as archive:
                if archive.getinfo(_WEIGHTS).file_size > _EXPANDED * path.stat().st_size:
                    raise ValueError("it unpacks to far more than it is")
                content = io.BytesIO(archive.read(_WEIGHTS))
                if HEADER in archive.namelist():
                    header = archive.read(HEADER)
        arrays: dict[str, np.ndarray] = {}
        sizes: list[int] = []

        def visit(name: str, node: Any) -> None:
            if not isinstance(node, h5py.Dataset) or name.startswith(_OTHERS):
                return
            # Numbers of this file, and no more of them than it can hold.
            if node.external or node.is_virtual:
                raise ValueError(f"{name} lies in another file")
            if node.dtype.kind in "fiub" and node.shape is not None:
                if node.nbytes > _EXPANDED * path.stat().st_size:
                    raise ValueError(f"{name} is larger than the file")
                sizes.append(int(node.nbytes))
                check_unpacked(path, sum(sizes), CheckpointError)
                arrays[name] = np.asarray(node[()])  # a single number comes as none

        with h5py.File(content, "r") as file:
            file.visititems(visit)
            header = file.attrs.get(HEADER, header)
        return arrays, None if header is None else parse_json(header)
    except (
        KeyError, OSError, TypeError, ValueError, RuntimeError, RecursionError,
        NotImplementedError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise_shortage(path, error)
        raise CheckpointError(
            f"{path} is cut or damaged, or no Keras checkpoint ({error}); get it again"
        ) from None


def by_torch_name(
    arrays: Mapping[str, np.ndarray], config: Any = None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """A model's arrays under PyTorch's names, by the weight map.

    What the map does not know keeps its path: the model that it is given to then names it.

    Args:
        arrays: As `read_keras_file` has them.
        config: The model's; by default a SignBART's of the size that the paths tell.

    Returns:
        The arrays, and what else is to be said.

    Raises:
        WeightMapError: The model's kind has no Keras twin.
    """
    paths = {_canonical(path): array for path, array in arrays.items()}
    known = rules_of(_signbart(paths) if config is None else config)
    of_path: dict[str, Rule] = {}
    owned: dict[str, int] = defaultdict(int)
    for rule in (rule for rule in known if rule.transform != ABSENT):
        layer = rule.keras_path.rpartition("/")[0]
        # Keras numbers a layer's variables in the order in which the map has them.
        for path in (rule.keras_path, f"{layer}/vars/{owned[layer]}"):
            of_path[path] = rule
        owned[layer] += 1
    paths, notes = without_prefix(paths, frozenset(of_path), "/")
    return {
        of_path[path].torch_key if path in of_path else path: (
            of_path[path].to_torch(array) if path in of_path else array
        )
        for path, array in paths.items()
    }, notes


def _signbart(paths: Iterable[str]) -> SignBartConfig:
    """A SignBART of as many layers; only their numbers change what the map pairs."""
    paths = list(paths)
    layers = defaultdict(int)
    for path in paths:
        if found := re.search(r"(encoder|decoder)/layers/(\d{1,4})/", path):
            layers[found[1]] = max(layers[found[1]], int(found[2]) + 1)
    return SignBartConfig(
        encoder_layers=min(layers["encoder"], len(paths)) or 1,
        decoder_layers=min(layers["decoder"], len(paths)) or 1,
    )


def _canonical(path: str) -> str:
    """A path of any of the three layouts as the weight map has it, variables still numbered."""
    path = path.removesuffix(":0").removeprefix("model_weights/")
    path = re.sub(r"^(?:_layer_checkpoint_dependencies|layers)/", "", path)
    path = re.sub(r"^([^/]+)/\1/", r"\1/", path)  # Keras 2 groups by layer, and repeats its name
    path = _LAYER.sub(lambda found: f"layers/{int(found[1] or 0)}", path)
    path = _BLOCK.sub(lambda found: str(int(found[1] or 0)), path)
    return _POSITIONS.sub("embed_positions/embeddings", path)
