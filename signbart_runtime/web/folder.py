"""The page as a folder, to put on any host of static files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bridge.errors import BridgeError
from signbart.files import file_sha256, make_folder, temporary_folder
from signbart.json_text import read_json_file
from signbart_runtime.web.site import FORMAT, SITE, Site


def write_site(site: Site, folder: Path) -> int:
    """Writes the page into a folder, whole or not at all; an earlier page there is replaced.

    Args:
        site: The page.
        folder: New, empty, or what this wrote before.

    Returns:
        The bytes of all files.

    Raises:
        SignBartError: There is something else in it, or it cannot be written.
    """
    _check_replaceable(folder)
    make_folder(folder.parent)
    try:
        with temporary_folder(folder.parent) as beside:
            made, old = beside / "made", beside / "old"
            for path, source in site.files.items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, made / path)
            (made / SITE).write_bytes(site.site_json)
            size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
            if folder.exists():
                os.replace(folder, old)
            try:
                os.replace(made, folder)
            except BaseException:  # Ctrl-C, too
                if old.exists():
                    os.replace(old, folder)
                raise
    except OSError as error:
        raise BridgeError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return size


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise BridgeError(f"--build {folder}: is a file; name a folder")
    found = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    if not found:
        return
    try:
        described = read_json_file(folder / SITE)
        known = described["files"] if described["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if not isinstance(known, dict):
        raise BridgeError(f"--build {folder}: holds something else than this page; name another")
    for name, path in found.items():
        if name != SITE and known.get(name) != file_sha256(path):
            raise BridgeError(
                f"--build {folder}: {name} there is not of this command, or was changed since; "
                "move it away, or name another folder"
            )
