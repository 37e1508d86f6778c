"""The page in a real Chromium, with models as the bridge makes them."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import BridgeError
from signbart_runtime.web.packages import default_folder, packaged_files
from signbart_runtime.web.server import address, make_server
from signbart_runtime.web.site import Site, make_site
from tests.signbart.video import conftest as video

# The task file is made once a run, whoever asks for it.
task, wheel = video.task, video.wheel
REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "exports" / "example" / "demo_litert_dynamic_int8.tflite"
ASL10 = REPOSITORY / "exports" / "asl10" / "asl10_litert_dynamic_int8.tflite"
RUNNING = "#screen[data-state=running]"
WELCOME = "#screen[data-state=welcome]"
# For root, who may not use Chromium's sandbox; a camera that plays a file, and asks nobody.
ARGUMENTS = (["--no-sandbox"] if os.geteuid() == 0 else []) + ["--disable-dev-shm-usage"]


@pytest.fixture(scope="session")
def packages() -> Path:
    """What npm brought."""
    try:
        packaged_files(default_folder())
    except BridgeError as error:
        pytest.skip(str(error))
    return default_folder()


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium; on Debian: apt install chromium libegl1 libgles2")
    return found


@pytest.fixture(scope="module")
def launch(chromium) -> Iterator[Callable]:
    """`launch(*arguments)`: a browser. Of a module, since Playwright's event loop is in the way."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        yield lambda *more: playwright.chromium.launch(
            executable_path=chromium, args=[*ARGUMENTS, *more]
        )


@pytest.fixture(scope="session")
def camera_file(tmp_path_factory) -> Path:
    """A portrait that moves, as Chromium's stand-in for a camera reads it: JPEG behind JPEG."""
    import cv2

    path = tmp_path_factory.mktemp("camera") / "portrait.mjpeg"
    frames = (
        cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in video.portrait_frames()
    )
    path.write_bytes(b"".join(frames))
    return path


@pytest.fixture(scope="module")
def browser(launch, camera_file) -> Iterator:
    """A browser with a camera."""
    with launch(
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera_file}"
    ) as started:
        yield started


@contextmanager
def served(site: Site) -> Iterator[str]:
    """The page's address while it is served."""
    with make_server(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield address(server)
        server.shutdown()


@pytest.fixture(scope="session")
def still(tmp_path_factory) -> Path:
    """A video of a few frames in a format that browsers play."""
    import cv2

    path = tmp_path_factory.mktemp("still") / "portrait.webm"
    frames = video.portrait_frames()[:3]
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), 25, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def served_example(packages, task) -> Iterator[str]:
    """The shipped example's page, with all that it can do."""
    with served(make_site(EXAMPLE, packages, task)) as url:
        yield url


@pytest.fixture
def context(browser):
    with browser.new_context(permissions=["camera"], accept_downloads=True) as made:
        made.set_default_timeout(60_000)
        yield made


@pytest.fixture
def page(context, served_example):
    """The example's page, ready; nothing may fail in it."""
    opened, failures = context.new_page(), []
    opened.on("pageerror", lambda error: failures.append(error))
    opened.goto(served_example)
    opened.wait_for_selector(WELCOME)
    yield opened
    assert not failures


@pytest.fixture(scope="module")
def shared_page(browser, served_example):
    """The same for tests that leave it as it is."""
    with browser.new_context() as made:
        opened = made.new_page()
        opened.goto(served_example)
        opened.wait_for_selector(WELCOME)
        yield opened


def problem_of(page) -> str:
    page.wait_for_selector("#screen[data-state=problem]")
    return page.inner_text("#problem")
