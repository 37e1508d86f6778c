"""Everything that the page consists of, by the path under which a browser asks for it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signbart.artifacts.completeness import MANIFEST, require_complete
from signbart.checksums import require_checksum
from signbart.errors import ArtifactError
from signbart.files import file_sha256
from signbart.json_text import read_json_file
from signbart.models.io_spec import RAW_SIGNATURE
from signbart.training.splits import UNSEEN
from signbart.video.task_file import check_task
from signbart_runtime.web.packages import PAGE, packaged_files

SITE = "site.json"
FORMAT = "signbart-page-1"
# In this order where a folder has several: float16 is unpacked at every run of LiteRT.js, which
# makes it the slowest.
_SCHEMES = ("fp32", "dynamic_int8", "int8", "weight_only_int8", "int16x8", "fp16")
_OWN = ("index.html", "icon.svg", "service-worker.js", "styles/*.css", "modules/*.js")


@dataclass(frozen=True)
class Site:
    """The page's files.

    Attributes:
        files: Path, as in ``modules/app.js``, -> the file that it is a copy of.
        description: What ``site.json`` says: where the model is, and the SHA-256 of each file.
    """

    files: dict[str, Path]
    description: dict[str, Any]

    @property
    def site_json(self) -> bytes:
        """The one file that is made here."""
        return (json.dumps(self.description, ensure_ascii=False, indent=1) + "\n").encode()


def make_site(model: Path, packages: Path, task: Path | None = None) -> Site:
    """The page with a model.

    Args:
        model: The .tflite. What lies beside it is taken along: clips to try out of ``golden.json``,
            accuracy out of ``manifest.json``, and what ``MODEL_CARD.md`` says of recognition.
        packages: Holds ``node_modules``.
        task: holistic_landmarker.task; without it the page plays recorded clips only.

    Raises:
        SignBartError: A file is missing.
    """
    files = {
        path.relative_to(PAGE).as_posix(): path
        for pattern in _OWN
        for path in sorted(PAGE.glob(pattern))
    }
    files |= packaged_files(packages)
    description: dict[str, Any] = {"format": FORMAT, "task": None, "clips": None}
    if task is not None:
        check_task(task)
    for key, path in (("model", model), ("task", task), ("clips", model.parent / "golden.json")):
        if path is not None and path.is_file():
            # Its contents are in its name, so browsers may keep it for ever.
            name = f"model/{path.stem}-{file_sha256(path)[:8]}{path.suffix}"
            files[name], description[key] = path, name
    description["accuracy"], description["recognition"] = _accuracy(model), _recognition(model)
    description["files"] = {name: file_sha256(path) for name, path in sorted(files.items())}
    return Site(files, description)


def choose_model(path: Path) -> Path:
    """The .tflite that a path names: itself, or the one of a folder that suits browsers best.

    Raises:
        ArtifactError: There is none.
    """
    from signbart.artifacts.metadata import read_metadata

    if not path.is_dir():
        return path
    require_complete(path)
    found = sorted(path.glob("*.tflite"))
    if not found:
        raise ArtifactError(f"{path}: holds no .tflite; signbart convert makes one")

    def place(model: Path) -> int:
        scheme = read_metadata(model)["scheme"]
        return _SCHEMES.index(scheme) if scheme in _SCHEMES else len(_SCHEMES)

    return min(found, key=place)


def check_model(path: Path, *, checksum: bool = True) -> dict[str, Any]:
    """The metadata of a .tflite that the page can run; `checksum`: and is as it was made.

    Raises:
        SignBartError: It is none, is damaged, or does not take raw landmarks.
    """
    from ai_edge_litert.interpreter import Interpreter

    from bridge.artifact.runtimes import faults_of
    from signbart.artifacts.metadata import carried_config, read_metadata
    from signbart.artifacts.soundness import require_sound

    if path.exists() and path.suffix != ".tflite":
        raise ArtifactError(f"{path}: the page runs a .tflite; name one, or a folder with one")
    require_complete(path)
    require_checksum(path, checksum)
    metadata = read_metadata(path)
    carried_config(metadata, path)
    require_sound(path)
    with faults_of(path, "LiteRT"):
        signatures = Interpreter(model_path=str(path)).get_signature_list()
    if RAW_SIGNATURE not in signatures:
        raise ArtifactError(
            f"{path}: has no signature '{RAW_SIGNATURE}', which takes raw landmarks: an older "
            "version made it, or --raw-frames 0; convert its checkpoint again without that"
        )
    return metadata


def _accuracy(model: Path) -> dict[str, Any] | None:
    """How many clips the model got right, in percent, if the manifest beside it says so.

    `unseen` says whether the manifest calls them strangers to the model.
    """
    try:
        manifest = read_json_file(model.parent / MANIFEST)
        sha256 = file_sha256(model)
        (entry,) = (one for one in manifest["artifacts"] if one.get("sha256") == sha256)
        percent, clips = entry["parity"]["accuracy"], entry["parity"]["samples"]
        unseen = UNSEEN in manifest["quantization"]["judged on"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(percent, float) or not isinstance(clips, int):
        return None
    return {"percent": percent, "clips": clips, "unseen": unseen}


def _recognition(model: Path) -> str | None:
    """What the card beside it says of recognition, if it is the card of this checkpoint."""
    from signbart.artifacts.metadata import read_metadata

    try:
        card = (model.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
        known = read_metadata(model)["checkpoint_sha256"] in card
    except (OSError, ValueError, KeyError, ArtifactError):
        return None
    section = re.search(r"^## Recognition\n(.+?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)
    return " ".join(section[1].split()) if known and section else None
