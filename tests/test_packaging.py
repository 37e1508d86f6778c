"""What pip installs: the files of the wheel, the extras, and what a missing one says."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from bridge import open_model
from signbart import __version__
from signbart.artifacts.metadata import read_metadata
from signbart.extras import PACKAGES, explain_missing, install_command
from signbart.recordings.reading import read_clips
from signbart.synthetic.signs import make_clips
from tests.test_imports import MODULES, imports

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# In the table because the project needs them where others import them.
BEHIND_OTHERS = {"onnx_graphsurgeon", "sng4onnx", "psutil", "tf_keras", "tensorboard"}
LIBRARIES = ("bridge", "signbart", "signbart_runtime", "signbart_tf", "signbart_torch")
EXAMPLE = REPOSITORY / "exports" / "example" / "demo_litert_dynamic_int8.tflite"


def name_of(requirement: str) -> str:
    """The distribution that a requirement names, in one spelling."""
    return re.split(r"[\[<>=!~ ]", requirement)[0].lower().replace("_", "-")


def bounds(*lists: list[str]) -> set[str]:
    """Their requirements, without those of this project's own extras."""
    return {line for lines in lists for line in lines if name_of(line) != "signbart"}


def included(extra: str) -> set[str]:
    """The distributions that an extra brings, through the extras that it includes, too."""
    found = set()
    for requirement in EXTRAS[extra]:
        if name_of(requirement) == "signbart":
            for other in re.search(r"\[(.+)\]", requirement)[1].split(","):
                found |= included(other)
        else:
            found.add(name_of(requirement))
    return found


def test_requirements_are_the_union_of_all_extras():
    text = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(set(lines))
    assert set(lines) == bounds(PROJECT["dependencies"], *EXTRAS.values())
    assert len({name_of(line) for line in lines}) == len(lines)  # nothing with two bounds


def test_every_requirement_is_bounded():
    for line in bounds(PROJECT["dependencies"], *EXTRAS.values()):
        assert re.fullmatch(r"[\w-]+(==[\d.]+|>=[\d.]+,<[\d.]+)", line), line


def test_development_tools_are_no_run_time_dependencies():
    tools = {name_of(line) for line in EXTRAS["dev"]}
    assert {"pytest", "ruff"} <= tools
    assert not tools & {name_of(line) for line in bounds(PROJECT["dependencies"])}
    assert not tools & included("all")


def test_all_is_all():
    others = set().union(*(included(extra) for extra in EXTRAS if extra not in ("dev", "docs")))
    assert included("all") == others


@pytest.fixture(scope="module")
def distributions() -> dict[str, list[str]]:
    """Importable name -> the installed distributions that have it."""
    return packages_distributions()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_named_extra_brings_the_package(package, distributions):
    _, extra = PACKAGES[package]
    base = {name_of(line) for line in PROJECT["dependencies"]}
    brought = included(extra) if extra else base
    names = {name.lower().replace("_", "-") for name in distributions[package]}
    # LiteRT's converter comes with LiteRT Torch, whose own requirement it is.
    assert names & (brought | {"litert-converter"} if extra == "litert" else brought)


def test_whatever_the_project_imports_has_an_extra():
    own = {path.parts[0] for path in MODULES}
    imported = {
        name
        for path in MODULES
        for name, _, _ in imports(ast.parse((REPOSITORY / path).read_text(encoding="utf-8")))
    }
    imported -= {"flatbuffers"}  # ai-edge-litert's own requirement, so never missing
    imported -= {"executorch"}  # of those alone who time a .pte; its own message asks for it
    assert imported - own - sys.stdlib_module_names == PACKAGES.keys() - BEHIND_OTHERS


def test_what_is_not_of_the_table_is_not_explained():
    assert explain_missing("torch.nn").endswith('pip install "signbart[torch]"')
    assert explain_missing("yaml").endswith(": pip install signbart")
    assert explain_missing("antigravity_") is None and explain_missing(None) is None


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of what the repository holds, without the network. Takes two seconds."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    kept_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "node_modules")
    for name in (*LIBRARIES, "configs", "web"):
        shutil.copytree(REPOSITORY / name, copy / name, symlinks=True, ignore=kept_out)
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "wheel", str(copy), "--no-deps", "--no-index",
         "--no-build-isolation", "--wheel-dir", str(copy / "dist")],
        check=True, timeout=100,
    )  # fmt: skip
    (path,) = (copy / "dist").glob("*.whl")
    return path


def test_the_wheel_holds_every_module_and_what_they_read(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {
        str(path.relative_to(REPOSITORY))
        for package in LIBRARIES
        for path in (REPOSITORY / package).rglob("*.py")
    }
    configurations = {f"signbart/configs/{p.name}" for p in (REPOSITORY / "configs").glob("*.yaml")}
    assert len(configurations) > 10
    page = {
        f"signbart_runtime/web/page/{path.relative_to(REPOSITORY / 'web')}"
        for path in (REPOSITORY / "web").rglob("*")
        if path.is_file() and "node_modules" not in path.parts
    }
    assert {
        "signbart_runtime/web/page/index.html",
        "signbart_runtime/web/page/package-lock.json",
    } <= page
    assert found == modules | configurations | page | {"bridge/verification/limits.yaml"}


def test_the_wheel_says_what_the_pages_say(wheel):
    assert wheel.name == f"signbart-{__version__}-py3-none-any.whl"
    for page in ("README.md", "docs/installation.md"):
        assert f'"dist/{wheel.name}[' in (REPOSITORY / page).read_text(encoding="utf-8")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert re.search(r"^Requires-Python: <3.13,>=3.11$", text, re.MULTILINE)
    assert set(re.findall(r"^Provides-Extra: (\w+)$", text, re.MULTILINE)) == EXTRAS.keys()


def test_the_page_lists_the_extras():
    page = (REPOSITORY / "docs" / "installation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == EXTRAS.keys()


def test_the_makefile_takes_the_pythons_that_pip_takes():
    classifiers = "\n".join(PROJECT["classifiers"])
    named = re.findall(r"Python :: (3\.\d+)", classifiers)
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^SUPPORTED := (.+)$", makefile, re.MULTILINE)[1].split() == named
    first, last = (tuple(map(int, version.split("."))) for version in (named[0], named[-1]))
    assert PROJECT["requires-python"] == f">={named[0]},<3.{last[1] + 1}"
    assert first <= sys.version_info[:2] <= last


def test_the_makefile_refuses_another_python_before_it_makes_anything(tmp_path):
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    python = tmp_path / "python3.9"
    python.write_text("#!/bin/sh\necho 3.9\n", encoding="utf-8")
    python.chmod(0o755)
    process = subprocess.run(
        ["make", f"PYTHON={python}", "demo"], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == 2
    assert "is Python 3.9, and this project runs on 3.11 3.12" in process.stderr
    assert not (tmp_path / ".venv").exists()


# What is missing is named


def without(extras: set[str]) -> str:
    """Python code behind which the packages of these extras cannot be imported."""
    absent = [name for name, (_, extra) in PACKAGES.items() if extra in extras]
    return f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\n"


def run_without(extras: set[str], *arguments: object, folder: Path) -> subprocess.CompletedProcess:
    """``signbart`` with these arguments, where the packages of those extras are not installed."""
    code = f"{without(extras)}sys.argv[1:] = {[str(a) for a in arguments]!r}\n"
    code += "from signbart.command_line import main\nmain()\n"
    return python(code, folder)


def python(code: str, folder: Path) -> subprocess.CompletedProcess:
    """Runs Python code in a folder other than the repository."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip


ALL = {extra for _, extra in PACKAGES.values() if extra}
TABLES = ALL - {"report"}


@pytest.fixture(scope="module")
def signs(tmp_path_factory) -> Path:
    """A small packed data set, made where only the base is installed."""
    folder = tmp_path_factory.mktemp("signs")
    made = run_without(
        ALL, "synthetic", "signs.npz", "--signers", "2", "--repetitions", "1", folder=folder
    )
    assert made.returncode == 0, made.stderr
    return folder / "signs.npz"


@pytest.mark.parametrize(
    ("extras", "line", "title", "named"),
    [
        (TABLES, "train --config kp90 --data DATA --output run", "PyTorch", "torch"),
        (TABLES, "loso --config kp90 --data DATA --output run", "PyTorch", "torch"),
        (
            TABLES,
            "train --framework keras --config kp90 --data DATA --output run",
            "TensorFlow",
            "keras",
        ),
        (ALL, "convert --checkpoint a.safetensors --output out", "PyTorch", "torch"),
        (ALL, "convert --checkpoint a.keras --output out", "TensorFlow", "keras"),
        (ALL, "weight-map --checkpoint a.safetensors", "TensorFlow", "keras"),
        (ALL, "evaluate EXAMPLE --data DATA", "scikit-learn", "report"),
        (ALL, "clips info DATA", "Rich", "report"),
        (ALL, "landmarks EXAMPLE --task EXAMPLE --output a.npy", "MediaPipe", "video"),
    ],
)
def test_a_command_whose_extra_is_missing_names_it(signs, tmp_path, extras, line, title, named):
    files = {"DATA": signs, "EXAMPLE": EXAMPLE}
    arguments = [files.get(word, word) for word in line.split()]
    process = run_without(extras, *arguments, folder=tmp_path)
    assert process.returncode == 2
    last = process.stderr.splitlines()[-1]
    assert last == f"error: this needs {title}, which is not installed: {install_command(named)}"


@pytest.mark.parametrize(
    ("name", "content", "title"),
    [
        ("clips.csv", b"frame,type,landmark_index,x,y\n", "Apache Arrow (pyarrow)"),
        ("clips.h5", b"\x89HDF\r\n\x1a\n", "h5py"),
    ],
)
def test_a_form_whose_reader_is_missing_names_it(tmp_path, name, content, title):
    (tmp_path / name).write_bytes(content)
    process = run_without({"recordings"}, "clips", "info", name, folder=tmp_path)
    assert process.returncode == 2
    last = process.stderr.splitlines()[-1]
    expected = f"this needs {title}, which is not installed: {install_command('recordings')}"
    assert last == f"error: {name}: {expected}"


def test_a_scheme_without_the_quantizer_names_it(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from bridge.quantization.quantizer import quantize\n"
        "from bridge.quantization.schemes import SCHEMES\n"
        "from bridge.errors import ConversionError\n"
        "try: quantize(Path('in.tflite'), SCHEMES['fp16'], Path('out.tflite'))\n"
        "except ConversionError as error: print(error)"
    )
    process = python(without({"quantize"}) + code, tmp_path)
    assert install_command("quantize") in process.stdout, process.stderr


# The shipped example


def test_the_base_classifies_and_describes_the_shipped_example(signs, tmp_path):
    clips = read_clips(signs)
    for at in (0, 7, 13):
        process = run_without(ALL, "classify", EXAMPLE, f"{signs}[{at}]", folder=tmp_path)
        assert process.returncode == 0, process.stderr
        assert process.stdout.split()[0] == clips.class_names[clips.clips[at].label]
    process = run_without(ALL, "describe", EXAMPLE, folder=tmp_path)
    assert process.returncode == 0 and "scheme dynamic_int8, 10 labels" in process.stdout
    process = run_without(ALL, "web", EXAMPLE, "--packages", "none", folder=tmp_path)
    assert process.returncode == 2 and "error: none: lacks @litertjs/core" in process.stderr


def test_the_example_is_whole_small_and_names_no_machine():
    folder = EXAMPLE.parent
    assert sorted(path.name for path in folder.iterdir() if path.name != "convert.log") == [
        "MODEL_CARD.md", EXAMPLE.name, "golden.json", "manifest.json", "parity.json", "parity.md"
    ]  # fmt: skip
    content = EXAMPLE.read_bytes()
    assert len(content) < 1_000_000
    (artifact,) = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    assert artifact["file"] == EXAMPLE.name and artifact["verdict"] == "pass"
    assert artifact["sha256"] == hashlib.sha256(content).hexdigest()
    papers = [*folder.glob("*.md"), *folder.glob("*.json")]
    texts = [path.read_text(encoding="utf-8") for path in papers]
    for text in (json.dumps(read_metadata(EXAMPLE)), *texts):
        assert not re.search(r"[\s\"'(]/\w+/", text)


def test_a_program_classifies_with_the_example():
    """Clips of two synthetic signers beyond the twelve of its training data."""
    model = open_model(EXAMPLE)
    clips = make_clips(num_signers=14, repetitions=1, seed=0)
    strangers = [clip for clip in clips.clips if clip.signer in clips.signer_names[12:]]
    assert len(strangers) == 20
    found = [model.classify(clip)[0][0] for clip in strangers]
    expected = [clips.class_names[clip.label] for clip in strangers]
    right = sum(one == other for one, other in zip(found, expected, strict=True))
    assert right >= 0.9 * len(expected)
