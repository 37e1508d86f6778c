"""``python -m signbart_runtime.web``, ``signbart web``: a model in a browser, with a camera."""

from __future__ import annotations

import argparse
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from signbart.checksums import add_checksum_argument
from signbart.console import at_least, program_name, run_command
from signbart_runtime.web.folder import write_site
from signbart_runtime.web.packages import default_folder
from signbart_runtime.web.server import address, make_server
from signbart_runtime.web.site import check_model, choose_model, make_site

_PORT = 8765


def main(arguments: Sequence[str] | None = None) -> int:
    """Shows a page that runs a .tflite on a camera, on videos and on recorded clips."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_runtime.web"),
        description="Serve a page that runs a .tflite on a camera, on videos and on clips.",
    )
    parser.add_argument("model", metavar="MODEL", help="a .tflite, or the folder of an export")
    parser.add_argument(
        "--task",
        metavar="FILE",
        help="holistic_landmarker.task, for camera and videos; without it clips are all it plays",
    )
    parser.add_argument(
        "--port",
        type=at_least(0),
        default=_PORT,
        metavar="N",
        help="on this machine; 0: any that is free (default: %(default)s)",
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    parser.add_argument(
        "--build", metavar="FOLDER", help="write the page here instead, for a host of static files"
    )
    parser.add_argument(
        "--packages",
        metavar="FOLDER",
        default=str(default_folder()),
        help="where npm ci put node_modules (default: %(default)s)",
    )
    add_checksum_argument(parser)
    options = parser.parse_args(arguments)
    model = choose_model(Path(options.model))
    metadata = check_model(model, checksum=options.checksum)
    task = Path(options.task) if options.task else None
    site = make_site(model, Path(options.packages), task)
    signs, layout = len(metadata["labels"]), metadata["preprocessing"]["layout"]
    print(f"model      {model}: {metadata['name']}, {signs} signs, layout {layout}")
    if task is None:
        print(
            "note: no --task holistic_landmarker.task (docs/data.md): the page plays recorded "
            "clips, and opens neither camera nor videos",
            file=sys.stderr,
        )
    if options.build:
        folder = Path(options.build)
        size = write_site(site, folder)
        print(f"wrote      {folder}, {len(site.files) + 1} files, {size / 1e6:.1f} MB")
        print("next       put it on a host of static files; browsers give cameras to https alone")
        return 0
    with make_server(site, options.port) as server:
        print(f"page       {address(server)}  Ctrl-C ends it", flush=True)
        if not options.no_browser:
            # Some browsers, w3m among them, end before this returns; they need the page by then.
            threading.Thread(target=webbrowser.open, args=[address(server)], daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    run_command(main)
