"""The configurations that every installation has: the files of ``configs/``, found by name."""

from __future__ import annotations

import sys
from pathlib import Path

from signbart.errors import ConfigError

# In a checkout a link to the folder at its top, in a wheel a copy.
FOLDER = Path(__file__).resolve().parents[1] / "configs"


def find_config(path: str | Path) -> Path:
    """`path` itself, or, where there is no such file, the shipped configuration that it names.

    ``kp90``, ``kp90.yaml`` and ``configs/kp90.yaml`` name one. That it is taken is said on stderr.

    Raises:
        ConfigError: There is neither; lists the names.
    """
    path = Path(path)
    shipped = FOLDER / f"{path.name.removesuffix('.yaml')}.yaml"
    named = str(path.parent) in (".", "configs") and shipped.is_file()
    if path.is_file() or (path.exists() and not named):
        return path
    if not named:
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise ConfigError(
            f"cannot read configuration {path}: No such file, and no shipped one of that name: "
            f"{names}"
        )
    print(f"configuration {path}: no such file here, taking the shipped one", file=sys.stderr)
    return shipped
