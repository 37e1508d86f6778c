"""Who may import whom, and that no command makes a user wait for a framework to read its help."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from signbart.command_line import VERBS

REPOSITORY = Path(__file__).resolve().parents[1]
FRAMEWORKS = {
    *("torch", "torchao", "tensorflow", "keras", "tf_keras", "sklearn", "onnx", "onnxruntime"),
    *(
        "onnx2tf",
        "h5py",
        "pyarrow",
        "PIL",
        "mediapipe",
        "cv2",
        "matplotlib",
        "litert_torch",
        "ai_edge_torch",
        "ai_edge_litert",
        "ai_edge_quantizer",
    ),
}
# The table of the architecture: package -> what its modules may import when they are loaded, and
# what besides inside functions and under TYPE_CHECKING (None: anything).
RULES: dict[str, tuple[set[str], set[str] | None]] = {
    "signbart": (
        {"numpy", "yaml", "packaging"},
        {
            *("sklearn", "scipy", "matplotlib", "rich", "h5py", "pyarrow", "PIL", "safetensors"),
            *("mediapipe", "cv2", "flatbuffers", "ai_edge_litert"),  # in signbart/video
            *("flatbuffers", "ai_edge_litert", "onnx"),  # in signbart/artifacts
            "ray",  # in signbart/engines
        },
    ),
    "signbart_torch": (
        {"signbart", "torch", "torchao", "tensorboard", "safetensors", "numpy", "yaml"},
        {"rich"},
    ),
    "signbart_tf": (
        {"signbart", "tensorflow", "keras", "h5py", "numpy", "yaml"},  # h5py: .weights.h5
        {"rich"},
    ),
    "bridge": ({"signbart", "numpy", "yaml"}, None),
    "signbart_runtime": ({"signbart", "bridge", "numpy", "yaml"}, None),
}
MODULES = sorted(
    path.relative_to(REPOSITORY)
    for package in RULES
    for path in REPOSITORY.glob(f"{package}/**/*.py")
)


def imports(code: ast.AST, deferred: bool = False) -> list[tuple[str, bool, int]]:
    """Top-level names of what is imported from elsewhere, whether only later, and the line."""
    found = []
    for node in ast.iter_child_nodes(code):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        found += [(name.partition(".")[0], deferred, node.lineno) for name in names]
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        )
        found += imports(node, deferred or later)
    return found


def offences(path: Path, text: str) -> list[str]:
    """The imports in a module that its package's rule does not allow."""
    package = path.parts[0]
    when_loaded, besides = RULES[package]
    if package == "bridge" and path.parent.name == "routes" and path.name.startswith("via_"):
        return []
    return [
        f"{path}:{line} imports {name}" + ("" if deferred else " when it is loaded")
        for name, deferred, line in imports(ast.parse(text))
        if name not in {package, *when_loaded, *sys.stdlib_module_names}
        if not deferred or (besides is not None and name not in besides)
    ]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_import_what_their_package_may(path):
    assert offences(path, (REPOSITORY / path).read_text(encoding="utf-8")) == []


def test_every_package_was_looked_at():
    assert {path.parts[0] for path in MODULES} == set(RULES)
    assert Path("bridge/routes/via_litert.py") in MODULES


@pytest.mark.parametrize(
    ("path", "text", "culprit"),
    [
        ("signbart/clips.py", "import torch", "torch when it is loaded"),
        ("signbart/clips.py", "def f():\n    import torch.nn as nn", "clips.py:2 imports torch"),
        (
            "signbart/training/metrics.py",
            "from sklearn.metrics import f1_score",
            "sklearn when it is",
        ),
        ("signbart/clips.py", "def f():\n    from bridge.routes import ROUTES", "bridge"),
        ("signbart/clips.py", "try:\n    import rich\nexcept ImportError:\n    pass", "rich when"),
        ("signbart/clips.py", "if TYPE_CHECKING:\n    import keras", "keras"),
        (
            "signbart_torch/models/signbart/model.py",
            "class A:\n    import tensorflow",
            "tensorflow when",
        ),
        (
            "signbart_torch/models/signbart/model.py",
            "def f():\n    import signbart_tf.models.signbart.model",
            "signbart_tf",
        ),
        ("signbart_torch/models/signbart/model.py", "import numpy, bridge.parity", "bridge when"),
        (
            "signbart_tf/models/signbart/model.py",
            "def f():\n    from signbart_torch import model",
            "signbart_torch",
        ),
        ("signbart_tf/training/checkpoint.py", "import h5py, torch", "torch when it is loaded"),
        (
            "signbart_tf/models/signbart/model.py",
            "if TYPE_CHECKING:\n    import bridge.weight_map",
            "bridge",
        ),
        ("signbart_torch/training/checkpoint.py", "import h5py", "h5py when it is loaded"),
        (
            "bridge/weight_map.py",
            "from signbart_tf.models.signbart.model import SignBart",
            "signbart_tf when",
        ),
        ("bridge/parity.py", "import onnx", "onnx when it is loaded"),
        (
            "bridge/parity.py",
            "from signbart_torch.models.signbart.model import SignBart",
            "signbart_torch when",
        ),
        ("bridge/routes/__init__.py", "import litert_torch", "litert_torch when"),
    ],
)
def test_an_offence_is_caught(path, text, culprit):
    found = offences(Path(path), text)
    assert len(found) == 1 and culprit in found[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "signbart/training/metrics.py",
            "import numpy as np\ndef f():\n    from sklearn import metrics",
        ),
        ("signbart/console.py", "if typing.TYPE_CHECKING:\n    from rich.console import Console"),
        (
            "signbart_torch/models/signbart/model.py",
            "import os.path\nfrom torch import nn\nfrom . import layers",
        ),
        ("bridge/parity.py", "def f():\n    def g():\n        import torch, onnx"),
        ("bridge/routes/via_onnx.py", "import torch, onnx"),
        ("signbart_tf/training/checkpoint.py", "import h5py, keras"),
    ],
)
def test_what_is_allowed_is_not_an_offence(path, text):
    assert offences(Path(path), text) == []


def test_one_module_alone_knows_the_quantizer():
    named = [
        str(path)
        for path in MODULES
        for name, _, _ in imports(ast.parse((REPOSITORY / path).read_text(encoding="utf-8")))
        if name == "ai_edge_quantizer"
    ]
    assert set(named) == {"bridge/quantization/quantizer.py"}


def test_no_module_of_the_bridge_is_named_after_what_it_would_hide():
    """`python bridge/convert.py` puts that folder first on the module path."""
    known = {*sys.stdlib_module_names, *FRAMEWORKS, *RULES, "numpy", "yaml", "rich", "safetensors"}
    assert not {path.stem for path in REPOSITORY.glob("bridge/*.py")} & known


# Every module that runs as `python -m`, and those that users are told to run by their path.
BENCHMARKS = [path.relative_to(REPOSITORY) for path in REPOSITORY.glob("benchmarks/*.py")]
COMMANDS = [
    ["-m", ".".join(path.with_suffix("").parts).removesuffix(".__main__"), "--help"]
    for path in [*MODULES, *sorted(BENCHMARKS)]
    if '__name__ == "__main__"' in (REPOSITORY / path).read_text(encoding="utf-8")
] + [[str(REPOSITORY / "bridge" / name), "--help"] for name in ("convert.py", "export_models.py")]


def loaded(arguments: list[str], **places: object) -> tuple[str, set[str]]:
    """Runs Python; returns what it printed and the top-level names of what it loaded."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True, text=True, check=False, timeout=60, **places,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-2000:]
    lines = (line for line in process.stderr.splitlines() if line.startswith("import time:"))
    return process.stdout, {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_every_command_has_one_verb():
    """And the other way round: no verb without a module that also runs as `python -m`."""
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"signbart": "signbart.command_line:main"}
    modules = [name.removesuffix(".__main__") for row in VERBS.values() for name in row[0]]
    commands = [run[1] for run in COMMANDS if run[0] == "-m" and "benchmarks" not in run[1]]
    assert sorted(modules) == sorted(commands)
    assert len(commands) >= 19


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: Path(arguments[-2]).name)
def test_help_loads_no_framework(arguments, tmp_path):
    printed, modules = loaded(arguments, cwd=REPOSITORY if arguments[0] == "-m" else tmp_path)
    assert "usage:" in printed
    assert "argparse" in modules and not modules & FRAMEWORKS


def test_the_list_of_commands_loads_next_to_nothing():
    code = "import sys; from signbart.command_line import main; sys.argv[1:] = ['--help']; main()"
    printed, modules = loaded(["-c", code], cwd=REPOSITORY)
    assert printed.startswith("usage: signbart")
    _, idle = loaded(["-c", "pass"], cwd=REPOSITORY)
    assert modules - idle - sys.stdlib_module_names == {"signbart"}
    assert "argparse" not in modules


@pytest.mark.parametrize("package", RULES)
def test_importing_a_package_loads_no_framework(package):
    _, modules = loaded(["-c", f"import {package}"], cwd=REPOSITORY)
    assert package in modules and not modules & FRAMEWORKS


def test_a_loaded_framework_is_seen(tmp_path):
    (tmp_path / "tensorflow.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    _, modules = loaded(["-c", "import tensorflow"], env=environment)
    assert modules & FRAMEWORKS == {"tensorflow"}
