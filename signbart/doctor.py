"""``python -m signbart.doctor``: what this installation can do, and what the rest would need."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from signbart import __version__
from signbart.console import program_name, run_command
from signbart.errors import SignBartError
from signbart.extras import install_command
from signbart.timing import instruction_sets, machine_name

# What each extra is for, in the verbs of `signbart --help`.
EXTRAS = {
    "": "classify and describe a .tflite; clips pack, synthetic, web",
    "report": "evaluate, bench and verify a .tflite; clips info and show, report",
    "torch": "train, loso, sweep, qat, distill, prune, parity; reading checkpoints",
    "litert": "convert by route litert",
    "onnx": "convert by route onnx; anything with an .onnx",
    "keras": "--framework keras; with torch: convert by route keras, weight-map",
    "recordings": "CSV, Parquet and HDF5",
    "video": "landmarks; classify a video or before a camera",
    "cluster": "--engine ray",
    "quantize": "quantize; with a route: convert --quantize",
}
_INT8 = ("AVX-VNNI", "AVX-512 VNNI", "AMX int8", "NEON dot product", "NEON int8 matrix products")


def main(arguments: Sequence[str] | None = None) -> int:
    """Says what this installation can do, and what is missing for the rest; 1 if the base lacks."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart.doctor"),
        description="Say what this installation can do, and what is missing for the rest.",
        epilog="exit status: 0, or 1 if a package is missing that every command needs",
    )
    parser.add_argument("--json", action="store_true", help="all of it as JSON")
    options = parser.parse_args(arguments)
    found = examine()
    print(json.dumps(found, indent=2) if options.json else _told(found))
    return 0 if not found["extras"][""]["missing"] else 1


def examine() -> dict[str, Any]:
    """What is installed.

    Returns:
        ``signbart``, ``python``, ``system``, ``machine``, ``instruction_sets``; ``extras``: name ->
        ``for``, ``missing`` (requirements that are not installed, or of another version than
        wanted, with the version found) and ``installed`` (requirement -> version); ``npm``: whether
        it is there, for the page.
    """
    return {
        "signbart": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "machine": machine_name(),
        "instruction_sets": instruction_sets(),
        "extras": {extra: {"for": use, **_examine(extra)} for extra, use in EXTRAS.items()},
        "npm": shutil.which("npm") is not None,
    }


def _examine(extra: str) -> dict[str, Any]:
    installed, missing = {}, []
    for requirement in _requirements(extra):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(str(requirement))
            continue
        # A build's mark (+cpu) is no part of what is compared.
        if requirement.specifier.contains(version.partition("+")[0], prereleases=True):
            installed[requirement.name] = version
        else:
            missing.append(f"{requirement} (found {version})")
    return {"installed": installed, "missing": missing}


def _requirements(extra: str) -> list[Any]:
    """What the package's own metadata asks for, an extra's own extras among it."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("signbart") or []
    except metadata.PackageNotFoundError:
        raise SignBartError(
            "signbart is not installed here, only its files are found; pip install --editable . "
            "in a checkout, or install the wheel"
        ) from None
    found = []
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        # Of the base are those that no extra brings.
        if marker and (not extra or not marker.evaluate({"extra": extra})):
            continue
        if not marker and extra:
            continue
        if requirement.name == "signbart":
            found += [one for inner in sorted(requirement.extras) for one in _requirements(inner)]
        else:
            requirement.marker = None
            found.append(requirement)
    return found


def _told(found: dict[str, Any]) -> str:
    lines = [
        f"signbart {found['signbart']}, Python {found['python']}, {found['system']}",
        found["machine"],
        _about_int8(found["instruction_sets"]),
        "",
    ]
    width = max(map(len, EXTRAS)) + 2
    for extra, row in found["extras"].items():
        state = "missing" if row["missing"] else "ready"
        lines.append(f"{extra or 'base':{width}}{state:9}{row['for']}")
        lines += [f"{'':{width}}  {requirement}" for requirement in row["missing"]]
        if row["missing"]:
            lines.append(f"{'':{width}}  to add it: {install_command(extra)}")
    state = "ready" if found["npm"] else "missing"
    lines.append(f"{'npm':{width}}{state:9}web: brings the page's packages; the system's")
    return "\n".join(lines)


def _about_int8(sets: Sequence[str]) -> str:
    if not sets:
        return "instruction sets: this system does not tell"
    listed = ", ".join(sets)
    if any(name in _INT8 for name in sets):
        return f"{listed}: int8 has products of its own"
    return f"{listed}: no products of int8, so that it may be no faster than float32 here"


if __name__ == "__main__":
    run_command(main)
