"""What npm brings for the page: LiteRT.js and MediaPipe tasks, of the versions that it asks for."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bridge.errors import BridgeError

# A link to web/; a wheel holds copies of the files.
PAGE = Path(__file__).with_name("page")
_CHECKOUT = PAGE.resolve()
_LISTS = ("package.json", "package-lock.json")
# Package -> the files of it that the page loads. One of each pair, as the browser's WebAssembly has
# (relaxed) SIMD or not.
_LOADED = {
    "@litertjs/core": (
        "dist/index.js",
        *(
            f"wasm/litert_wasm_{kind}.{ending}"
            for kind in ("internal", "compat_internal")
            for ending in ("js", "wasm")
        ),
    ),
    "@litertjs/wasm-utils": ("dist/index.js",),
    "@mediapipe/tasks-vision": (
        "vision_bundle.mjs",
        *(
            f"wasm/vision_wasm_{kind}.{ending}"
            for kind in ("internal", "nosimd_internal")
            for ending in ("js", "wasm")
        ),
    ),
}


def default_folder() -> Path:
    """Where ``npm ci`` puts them: beside the page in a checkout, else into the user's cache."""
    if (_CHECKOUT.parent / "pyproject.toml").is_file():
        return _CHECKOUT
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "signbart" / "web"


def packaged_files(folder: Path) -> dict[str, Path]:
    """Path on the page's site -> file, of everything that comes from npm.

    Args:
        folder: Holds ``node_modules``.

    Raises:
        BridgeError: A package is missing there or of another version; says the command.
    """
    wanted = json.loads((PAGE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    found = {}
    for package, version in wanted.items():
        own = folder / "node_modules" / package
        try:
            there = json.loads((own / "package.json").read_text(encoding="utf-8"))["version"]
        except (OSError, ValueError, KeyError, TypeError):
            raise BridgeError(f"{folder}: lacks {package} {version}; {_remedy(folder)}") from None
        if there != version:
            raise BridgeError(
                f"{folder}: has {package} {there}, and the page asks for {version}; "
                f"{_remedy(folder)}"
            )
        prefix = f"vendor/{package.removeprefix('@').replace('/', '-')}-{version}"
        for name in _LOADED[package]:
            if not (own / name).is_file():
                raise BridgeError(f"{own}: lacks {name}; {_remedy(folder)}")
            found[f"{prefix}/{name}"] = own / name
    return found


def _remedy(folder: Path) -> str:
    folder = folder.resolve()  # npm refuses links
    command = f"npm ci --prefix {folder}"
    if folder != _CHECKOUT:
        lists = " ".join(str(PAGE / name) for name in _LISTS)
        command = f"mkdir -p {folder} && cp {lists} {folder} && {command}"
    return f"they come by: {command}"
