"""The page's files: which they are, how they are served and written, and what is refused."""

import base64
import hashlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.errors import BridgeError
from signbart.artifacts.metadata import embed_metadata, read_metadata
from signbart.errors import ArtifactError, SignBartError
from signbart.files import file_sha256
from signbart_runtime.web.__main__ import main
from signbart_runtime.web.folder import write_site
from signbart_runtime.web.packages import _LOADED, PAGE, packaged_files
from signbart_runtime.web.server import _OTHER, _TYPES, make_server
from signbart_runtime.web.site import SITE, check_model, choose_model, make_site
from tests.signbart_runtime.web.conftest import EXAMPLE, REPOSITORY, served

INDEX = (PAGE / "index.html").read_text(encoding="utf-8")
WANTED = json.loads((PAGE / "package.json").read_text(encoding="utf-8"))["dependencies"]


@pytest.fixture
def brought(tmp_path) -> Path:
    """A folder as ``npm ci`` leaves it, of empty files: nothing here runs them."""
    folder = tmp_path / "brought"
    for package, version in WANTED.items():
        for name in _LOADED[package]:
            path = folder / "node_modules" / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{package}/{name}", encoding="utf-8")
        described = folder / "node_modules" / package / "package.json"
        described.write_text(json.dumps({"version": version}), encoding="utf-8")
    return folder


@pytest.fixture
def site(brought):
    return make_site(EXAMPLE, brought)


def answer(url: str, path: str, method: str = "GET", **headers: str):
    """Status, headers and body of one request."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


# What stands in two places


def test_the_policy_allows_the_import_map_and_no_other_place():
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', INDEX)[1]
    map_text = re.search(r'<script type="importmap">(.*?)</script>', INDEX, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(map_text.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert f"'sha256-{digest}'" in rules["script-src"]
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'"
    assert "http" not in policy and "*" not in policy and "'unsafe-" not in policy
    assert not re.search(r"<script(?![^>]*(?:importmap|src=))|style=|\son\w+=", INDEX)
    # Nothing of the page names another place.
    for path in PAGE.rglob("*"):
        if path.suffix in (".html", ".css", ".js") and "node_modules" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path


def test_the_import_map_is_of_the_locked_packages(brought):
    imports = json.loads(re.search(r'importmap">(.*?)</script>', INDEX, re.DOTALL)[1])["imports"]
    assert imports.keys() == WANTED.keys() == _LOADED.keys()
    files = packaged_files(brought)
    assert all(path.removeprefix("./") in files for path in imports.values())
    lock = json.loads((PAGE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    locked = {name.removeprefix("node_modules/"): entry for name, entry in lock.items() if name}
    assert {name: entry["version"] for name, entry in locked.items()} == WANTED
    for entry in locked.values():
        assert entry["integrity"].startswith("sha512-") and "resolved" not in entry


# Served


def test_it_is_served_with_its_types_to_this_machine_alone(site):
    with served(site) as url:
        assert url.startswith("http://127.0.0.1:")
        for name, path in site.files.items():
            status, headers, body = answer(url, f"/{name}")
            assert status == 200 and body == path.read_bytes()
            assert headers["Content-Type"] == _TYPES.get(Path(name).suffix, _OTHER)
            assert ("immutable" in headers["Cache-Control"]) == name.startswith(
                ("vendor/", "model/")
            )
        status, headers, body = answer(url, "/")
        assert status == 200 and body.decode() == INDEX
        assert headers["Content-Type"].startswith("text/html")
        status, headers, body = answer(url, "/", "HEAD")
        assert (
            status == 200 and body == b"" and int(headers["Content-Length"]) == len(INDEX.encode())
        )
        assert json.loads(answer(url, f"/{SITE}?x=1")[2]) == site.description
        for path in ("/none", "/../pyproject.toml", "/modules/", "/%2e%2e/README.md"):
            assert answer(url, path)[0] == 404
        assert answer(url, "/", Host="elsewhere.example:80")[0] == 421
        for host in ("localhost:80", "127.0.0.1"):  # browsers leave port 80 out
            assert answer(url, "/", Host=host)[0] == 200


def test_a_port_that_is_taken_is_named(site):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BridgeError, match=rf"127\.0\.0\.1:{port}: .*another --port"):
            make_server(site, port)


def test_the_command_serves_until_it_is_interrupted(brought):
    process = subprocess.Popen(
        [sys.executable, "-m", "signbart_runtime.web", str(EXAMPLE.parent),
         "--packages", str(brought), "--port", "0", "--no-browser"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        model, page = process.stdout.readline(), process.stdout.readline()
        assert model.split()[1:] == [f"{EXAMPLE}:", "demo,", "10", "signs,", "layout", "kp90"]
        assert answer(page.split()[1], "/site.json")[0] == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and errors.startswith("note: no --task holistic_landmarker.task")


def test_a_browser_that_stays_in_the_foreground_gets_the_page(brought, tmp_path):
    """As w3m and lynx do, and whatever BROWSER names: it ends when the page was read."""
    (tmp_path / "read.py").write_text(
        "import sys, urllib.request\n"
        "page = urllib.request.urlopen(sys.argv[1], timeout=20).read()\n"
        "open(sys.argv[2], 'wb').write(page)\n"
    )
    command = [sys.executable, str(tmp_path / "read.py"), "%s", str(tmp_path / "got.html")]
    process = subprocess.Popen(
        [sys.executable, "-m", "signbart_runtime.web", str(EXAMPLE.parent),
         "--packages", str(brought), "--port", "0"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "BROWSER": shlex.join(command)},
    )  # fmt: skip
    try:
        limit = time.monotonic() + 40
        while not (tmp_path / "got.html").is_file():
            assert time.monotonic() < limit and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in errors
    assert (tmp_path / "got.html").read_text(encoding="utf-8") == INDEX


# Written


def test_it_is_written_whole_and_replaced(brought, site, tmp_path, capsys):
    folder = tmp_path / "host" / "page"
    arguments = [str(EXAMPLE), "--packages", str(brought), "--build", str(folder)]
    for _ in range(2):
        assert main(arguments) == 0
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        assert files.keys() == {*site.files, SITE}
        assert all(files[name].read_bytes() == p.read_bytes() for name, p in site.files.items())
        described = json.loads(files[SITE].read_text(encoding="utf-8"))
        assert described["files"] == {name: file_sha256(p) for name, p in site.files.items()}
        assert [path.name for path in folder.parent.iterdir()] == ["page"]
    assert f"wrote      {folder}, {len(files)} files, 1." in capsys.readouterr().out


def test_what_it_did_not_write_stays(site, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write_site(site, other)  # empty
    for change, message in (
        (lambda: (other / "CNAME").write_text("x"), "CNAME there is not of this command"),
        (lambda: (other / "CNAME").unlink() or (other / "icon.svg").write_text("x"), "icon.svg"),
        (lambda: (other / SITE).write_text("{}"), "something else than this page"),
    ):
        change()
        before = {path: path.stat().st_mtime_ns for path in other.rglob("*")}
        with pytest.raises(BridgeError, match=message):
            write_site(site, other)
        assert before == {path: path.stat().st_mtime_ns for path in other.rglob("*")}
    with pytest.raises(BridgeError, match="is a file"):
        write_site(site, other / "icon.svg")


def test_what_cannot_be_written_leaves_what_was_there(site, tmp_path):
    folder = tmp_path / "page"
    write_site(site, folder)
    before = sorted(folder.rglob("*"))
    site.files["modules/app.js"] = tmp_path / "gone.js"
    with pytest.raises(BridgeError, match="cannot be written: No such file"):
        write_site(site, folder)
    assert sorted(folder.rglob("*")) == before and [*tmp_path.glob(".*")] == []


# Refused


def test_packages_that_npm_did_not_bring(brought, tmp_path):
    with pytest.raises(BridgeError, match=r"lacks @litertjs/core 2\.5\.3; .*: mkdir .*npm ci"):
        packaged_files(tmp_path / "none")
    (brought / "node_modules/@mediapipe/tasks-vision/vision_bundle.mjs").unlink()
    with pytest.raises(BridgeError, match=r"lacks vision_bundle\.mjs"):
        packaged_files(brought)
    own = brought / "node_modules/@litertjs/core/package.json"
    own.write_text('{"version": "2.5.4"}', encoding="utf-8")
    with pytest.raises(BridgeError, match=r"has @litertjs/core 2\.5\.4, and .* 2\.5\.3"):
        packaged_files(brought)


def test_models_that_it_cannot_run(converted, tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no \.tflite"):
        choose_model(tmp_path)
    with pytest.raises(ArtifactError, match=r"runs a \.tflite"):
        check_model(converted.path("onnx", ".onnx"))
    with pytest.raises(ArtifactError, match="no artifact at"):
        check_model(tmp_path / "none")
    assert choose_model(converted.folder).suffix == ".tflite"


def test_of_a_folder_it_takes_what_browsers_run_best(tmp_path):
    metadata = read_metadata(EXAMPLE)
    for scheme in ("fp16", "int8", "dynamic_int8"):
        path = tmp_path / f"{scheme}.tflite"
        path.write_bytes(b"\0\0\0\0TFL3")
        embed_metadata(path, {**metadata, "scheme": scheme})
    assert choose_model(tmp_path).stem == "dynamic_int8"


def test_accuracy_is_that_of_the_very_file(brought, tmp_path):
    assert make_site(EXAMPLE, brought).description["accuracy"] == {
        "percent": 100.0, "clips": 100, "unseen": True,
    }  # fmt: skip
    for name in (EXAMPLE.name, "manifest.json"):
        shutil.copy(EXAMPLE.parent / name, tmp_path)
    with open(tmp_path / EXAMPLE.name, "ab") as file:
        file.write(b"\0")
    described = make_site(tmp_path / EXAMPLE.name, brought).description
    assert described["accuracy"] is None and described["clips"] is None


def test_recognition_is_what_the_card_of_that_checkpoint_says(brought, tmp_path):
    assert make_site(EXAMPLE, brought).description["recognition"] is None
    sha256 = read_metadata(EXAMPLE)["checkpoint_sha256"]
    shutil.copy(EXAMPLE, tmp_path)
    for checkpoint, said in ((sha256, "95 % of strangers. Few."), ("another", None)):
        (tmp_path / "MODEL_CARD.md").write_text(
            f"# x\n\n## Recognition\n\n95 % of strangers.\nFew.\n\n## Origin\n\n{checkpoint}\n",
            encoding="utf-8",
        )
        site = make_site(tmp_path / EXAMPLE.name, brought)
        assert site.description["recognition"] == said


def test_a_missing_task_says_where_to_get_one(brought, tmp_path):
    with pytest.raises(SignBartError, match=r"no such task file; download.*--assemble-task WHEEL"):
        make_site(EXAMPLE, brought, tmp_path / "none.task")


def test_a_pipe_in_the_cards_place_is_not_waited_for(brought, tmp_path):
    model = tmp_path / EXAMPLE.name
    model.write_bytes(EXAMPLE.read_bytes())
    os.mkfifo(tmp_path / "MODEL_CARD.md")
    assert make_site(model, brought).description["recognition"] is None
