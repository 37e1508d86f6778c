"""Imports go down only: the order of the rooms, inside packages too, and no circle of modules."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# A room is a folder, or a file at the top of its package. It may import what stands on a line above
# its own, and itself; nothing beside it on its line. Commands stand below everything.
ORDER = {
    "signbart": [
        "errors extras process json_text",
        "renames memory",
        "files",
        "console yaml_files archives class_names checksums",
        "pictures timing waiting",
        "landmarks resampling",
        "models",
        "configuration",
        "weights",
        "recordings",
        "synthetic preprocessing streaming",
        "augmentations",
        "batches",
        "engines",
        "training video",
        "artifacts",
    ],
    "signbart_torch": ["models", "training", "compression"],
    "signbart_tf": ["models", "training", "compression"],
    "bridge": [
        "errors",
        "weights",
        "artifact",
        "routes quantization",
        "verification",
        "conversion",
        "options",
    ],
    "signbart_runtime": ["evaluation bench web integrity", "folds", "book"],
}
# Packages go down, too: what each may import besides itself.
PACKAGES = {
    "signbart": set(),
    "signbart_torch": {"signbart"},
    "signbart_tf": {"signbart"},
    "bridge": {"signbart", "signbart_torch", "signbart_tf"},
    "signbart_runtime": {"signbart", "signbart_torch", "signbart_tf", "bridge"},
}
# What a program asks the bridge for, it has from there, wherever it stands.
OFFERED = {"bridge": {"signbart_runtime"}}
# Besides them and an __init__.py nothing stands at the top of a package.
COMMANDS = {
    "signbart": {"calibrate", "clips", "command_line", "doctor"},
    "signbart_torch": {"train", "loso", "qat", "distill", "prune", "sweep"},
    "signbart_tf": {"train", "loso", "qat", "sweep"},
    "bridge": {"convert", "export_models", "parity", "quantize", "weight_map"},
    "signbart_runtime": {
        "classify", "describe", "evaluate", "loso", "report", "tensor_errors",
    },
}  # fmt: skip
FLOORS = {
    (package, room): number
    for package, lines in ORDER.items()
    for number, line in enumerate(lines)
    for room in line.split()
}
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ORDER
    for path in sorted((REPOSITORY / package).rglob("*.py"))
}


def imported(module: str, tree: ast.AST, modules: dict) -> set[str]:
    """The project's modules that a module imports anywhere: in functions and for types, too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else node.module)
    return {name for name in found if name in modules} - {module}


GRAPH = {
    module: imported(module, ast.parse(path.read_text(encoding="utf-8")), MODULES)
    for module, path in MODULES.items()
}


def room_of(module: str) -> tuple[str, str] | None:
    """Package and room; None for a package itself and for a command, which stand below all."""
    package, _, rest = module.partition(".")
    room = (package, rest.partition(".")[0])
    return room if room in FLOORS else None


def offence(module: str, other: str) -> bool:
    """Whether `module` may not import `other`, both of one package."""
    ours, theirs = room_of(module), room_of(other)
    if ours is None or ours == theirs:
        return False  # a command may import any room, a room its own files
    if theirs is None:
        return other != ours[0]  # a command, and not the package itself
    return FLOORS[theirs] >= FLOORS[ours]


@pytest.mark.parametrize("package", ORDER)
def test_a_file_at_the_top_is_a_command_or_has_its_place(package):
    files = {path.stem for path in (REPOSITORY / package).glob("*.py")} - {"__init__"}
    assert COMMANDS[package] <= files
    assert {(package, name) for name in files - COMMANDS[package]} <= FLOORS.keys()


def test_every_room_has_its_place():
    rooms = {
        (package, folder.name)
        for package in ORDER
        for folder in (REPOSITORY / package).iterdir()
        if any(folder.rglob("*.py"))  # not so configs/, which holds data
    }
    assert rooms <= FLOORS.keys()
    assert all(
        (REPOSITORY / package / room).is_dir() or (REPOSITORY / package / f"{room}.py").is_file()
        for package, room in FLOORS
    )


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module):
    package = module.partition(".")[0]
    wrong = [
        other
        for other in sorted(GRAPH[module])
        if other.partition(".")[0] == package and offence(module, other)
    ]
    assert not wrong, f"{module} imports {', '.join(wrong)}"


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_down_only(module):
    package = module.partition(".")[0]
    others = {other.partition(".")[0] for other in GRAPH[module]}
    assert others <= {package} | PACKAGES[package] | OFFERED.get(module, set())


def test_the_house_stays_small():
    """A reader sees the bridge's commands at a glance, and any file whole."""
    assert sum(path.suffix == ".py" for path in (REPOSITORY / "bridge").iterdir()) <= 14
    product = [*MODULES.values(), *(REPOSITORY / "benchmarks").glob("*.py")]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in product}
    assert not {path.name: lines for path, lines in lengths.items() if lines > 300}
    bridge = {path: lines for path, lines in lengths.items() if "bridge" in path.parts}
    assert sum(bridge.values()) <= 7600


def test_commands_are_not_imported():
    """But for the two package-level ones that a command of the same name starts."""
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if '__name__ == "__main__"' in MODULES[other].read_text(encoding="utf-8")
    ]
    assert not wrong


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring; empty where there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            found = visit(other, [*path, module])
            if found:
                return found
        done.add(module)
        return []

    for module in graph:
        found = visit(module, [])
        if found:
            return found
    return []


def test_there_is_no_circle():
    # A package's own file imports what it offers, and its files import it for nothing but that.
    assert circle(GRAPH) == []


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("bridge.weights.port", "bridge.routes"),
        ("bridge.routes.via_onnx", "bridge.quantization.schemes"),
        ("bridge.verification.compare", "bridge.options"),
        ("bridge.conversion.pipeline", "bridge.parity"),
        ("signbart_runtime.evaluation.opened", "signbart_runtime.folds.fold"),
        ("signbart.landmarks.layouts", "signbart.models.kind"),
        ("signbart_torch.models.signbart.model", "signbart_torch.training.data"),
    ],
)
def test_an_offence_is_caught(module, other):
    assert offence(module, other)


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
