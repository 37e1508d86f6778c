"""The pages are whole: every command is known, links lead somewhere, snippets say what is so."""

import importlib
import re

import numpy as np
import pytest

from signbart.artifacts.metadata import build_metadata
from signbart.configuration.reading import from_dict
from signbart.models import io_spec
from signbart.models.io_spec import LANDMARKS, NUM_FRAMES, PROBABILITIES, RAW_SIGNATURE
from signbart.models.raw_spec import RawSignature, raw_spec
from tests.docs.pages import (
    LANGUAGES,
    NOT_RUN,
    PAGES,
    REPOSITORY,
    SHORTENED,
    Command,
    all_blocks,
    all_commands,
    blocks,
    commands,
    inline,
    mentions,
    read_page,
)

MODULE = re.compile(r"python (?:-m )?((?:bridge|signbart\w*|benchmarks)[./]\w+)")


# Commands.


@pytest.mark.parametrize("command", all_commands(), ids=lambda c: f"{c.page}:{c.line}")
def test_every_command_is_run_or_says_why_not(command):
    assert command.program, f"{command.text}: add its program to SHORTENED or NOT_RUN in pages.py"
    if command.program not in NOT_RUN:
        left = re.findall(r"(?<![\w.-])[A-Z][A-Z_]{2,}(?![\w.=-])|…", command.filled())
        assert not left, f"{command.text}: add {left} to PLACEHOLDERS in pages.py"


def test_a_new_command_is_noticed():
    found = commands("x", "```\npython -m bridge.new \\\n    --data RECORDINGS  # why\n```\n")
    assert found == [Command("x", 1, "python -m bridge.new --data RECORDINGS")]
    assert found[0].program is None
    assert Command("x", 1, "python -m bridge.parity --data RECORDINGS").to_run().endswith(".npz")


def test_the_tables_hold_nothing_that_no_page_tells_to_run():
    told = {command.program for command in (*all_commands(), *mentions())}
    assert told == {*SHORTENED, *NOT_RUN}


@pytest.mark.parametrize("mention", mentions(), ids=lambda c: f"{c.page}:{c.line}")
def test_what_is_named_without_options_is_run_somewhere(mention):
    run = {command.program for command in all_commands()}
    assert mention.program in run | {*NOT_RUN}, f"no command of the pages runs {mention.text}"


def test_commands_in_sentences_are_commands():
    text = "One `make\ndemo`, `--resume`.\n```\nmake test\n```\nThen `make results DATA=X` and\n"
    assert inline("x", text) == [
        Command("x", 1, "make demo"),
        Command("x", 6, "make results DATA=X"),
    ]
    assert commands("x", text) == [
        Command("x", 3, "make test"), Command("x", 6, "make results DATA=X")
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_blocks_say_their_language(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize("command", all_commands(), ids=lambda c: f"{c.page}:{c.line}")
def test_every_option_exists(command, capsys):
    found = MODULE.search(command.text)
    if found is None:
        pytest.skip("not a command of this project")
    name = found[1].replace("/", ".").removesuffix(".py")
    if (REPOSITORY / name.replace(".", "/")).is_dir():
        name += ".__main__"
    sub = [word for word in command.text.split()[3:4] if word in ("info", "pack")]
    with pytest.raises(SystemExit):
        importlib.import_module(name).main([*sub, "--help"])
    known = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    given = set(re.findall(r"(?<=\s)--[a-z][\w-]*", command.text))
    assert given <= known, f"{name} has no {sorted(given - known)}"


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_in_the_text_exists(page):
    text = read_page(page)
    targets = re.findall(r"^([a-z-]+):", read_page("Makefile"), re.MULTILINE)
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in targets, f"{page}: the Makefile has no {target}"
    for name in MODULE.findall(text):
        name = name.replace("/", ".").removesuffix(".py")
        path = REPOSITORY / name.replace(".", "/")
        found = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        assert found, f"{page}: there is no {name}"
    for path in re.findall(r"`((?:configs|tests|signbart\w*|bridge|benchmarks)/[\w./]+)`", text):
        assert (REPOSITORY / path).exists(), f"{page}: there is no {path}"


# Links.


def anchors(text: str) -> set[str]:
    """The names that GitHub gives headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", read_page(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = ((REPOSITORY / page).parent / path).resolve() if path else REPOSITORY / page
        assert there.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), f"{page}: {target}"


def test_the_readme_links_every_page_once():
    text = read_page("README.md")
    assert {page: text.count(f"]({page})") for page in PAGES[1:]} == dict.fromkeys(PAGES[1:], 1)
    assert len(text.splitlines()) <= 200


# Snippets.

# How each language writes or reads each tensor, by dtype.
TYPED = {
    "kotlin": {
        (LANDMARKS, "float32"): "landmarks.writeFloat(",
        (NUM_FRAMES, "int32"): "count.writeInt(",
        (PROBABILITIES, "float32"): 'getValue("probabilities").readFloat()',
    },
    "swift": {
        (LANDMARKS, "float32"): "let landmarks = points + [Float32](",
        (NUM_FRAMES, "int32"): "let count = [Int32(given)]",
        (PROBABILITIES, "float32"): "bindMemory(to: Float32.self)",
    },
    "javascript": {
        (LANDMARKS, "float32"): "new Float32Array(frames * perFrame)",
        (NUM_FRAMES, "int32"): "new Int32Array([given])",
        (PROBABILITIES, "float32"): "outputs['probabilities'].toTypedArray()",
    },
}


def run_config(layout: str, normalization: str, **model):
    tree = {
        "model": {"num_labels": 3, **model},
        "data": {"layout": layout, "max_frames": 12, "normalization": normalization},
    }
    return from_dict(tree, source="tests")


def metadata_of(config):
    return build_metadata(
        config, ("a", "b", "c"), io_spec(config), checkpoint_sha256="", route="litert",
        scheme="fp32", threshold=0.6, raw=RawSignature(config, 256), lengths=(5,), packages=(),
    )  # fmt: skip


@pytest.mark.parametrize("language", TYPED)
def test_other_languages_use_the_contract(language):
    (block,) = all_blocks(language)
    spec = raw_spec(run_config("kp90", "bbox"), 256)
    quote = "'" if language == "javascript" else '"'
    types = {tensor.name: tensor.dtype for tensor in (*spec.inputs, *spec.outputs)}
    assert {tensor.name for tensor in spec.inputs} < {name for name, _ in TYPED[language]}
    for (name, dtype), line in TYPED[language].items():
        assert types[name] == dtype and line in block.text
        assert f"{quote}{name}{quote}" in block.text
    assert f"{quote}{RAW_SIGNATURE}{quote}" in block.text
    metadata = metadata_of(run_config("kp90", "bbox"))
    for key in ("inputs", "shape"):
        assert key in block.text and key in str(metadata["raw"])
    assert "labels" in block.text and "labels" in metadata


def test_the_contract_tables_are_the_contract():
    spec = io_spec(run_config("kp90", "bbox"))
    for page in ("README.md", "docs/deployment.md"):
        for tensor in (*spec.inputs, *spec.outputs):
            row = re.search(
                rf"^\| `{tensor.name}` \| \(1,[^|]*\| {tensor.dtype} \|", read_page(page), re.M
            )
            assert row, f"{page}: {tensor.describe()}"
    raw = raw_spec(run_config("kp90", "bbox"), 256)
    for tensor in (*raw.inputs, *raw.outputs):
        row = rf"^\| `{tensor.name}` \| \(1,[^|]*\| {tensor.dtype} \|"
        assert re.search(row, read_page("docs/deployment.md"), re.M), tensor.describe()


def test_the_metadata_table_names_keys_that_exist():
    metadata = metadata_of(run_config("kp90", "bbox"))
    table = read_page("docs/deployment.md").split("| key | what |")[1].split("\n\n")[0]
    prefix = ""
    for cell in re.findall(r"^\| (`[^|]+) \|", table, re.M):
        for key in re.findall(r"`([\w.]+)`", cell):
            prefix = key.rpartition(".")[0] if not key.startswith(".") else prefix
            place = metadata[prefix] if prefix else metadata
            assert key.rpartition(".")[2] in place, key


def snippet(page: str) -> dict:
    """The names that the page's Python snippet defines."""
    (block,) = (block for block in all_blocks("python") if block.page == page)
    names = {"__name__": "snippet"}
    exec(compile(block.text, page, "exec"), names)
    return names


REFUSED = {
    "the landmarks of another layout": (
        np.full((5, 75, 2), 0.5),
        r"\(5, 75, 2\); expected \(frames, 90, 2\): layout kp90",
    ),
    "rows": (np.full((5, 180), 0.5), r"\(5, 180\); expected"),
    "visibility": (np.full((5, 90, 4), 0.5), "4 numbers a landmark; expected"),
    "NaN alone": (np.full((5, 90, 2), np.nan), "nothing in any"),
    "pixels": (np.full((5, 90, 2), 320.0), "pixels; divide"),
    "no frames": (np.zeros((0, 90, 2)), "0 frames"),
    "nothing found": (np.zeros((5, 90, 2)), "nothing in any"),
    "an hour": (np.full((5000, 90, 2), 0.5), "5000 frames; a sign takes 2 to 256"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_deployed_program_refuses(what):
    landmarks, message = REFUSED[what]
    metadata = metadata_of(run_config("kp90", "bbox"))
    with pytest.raises(ValueError, match=message):
        snippet("docs/deployment.md")["check"](landmarks, metadata)


def test_the_deployed_program_takes_what_fits():
    check, metadata = (
        snippet("docs/deployment.md")["check"],
        metadata_of(run_config("kp90", "bbox")),
    )
    landmarks = np.random.default_rng(3).uniform(-0.1, 1.1, (5, 90, 3))
    landmarks[2, 7] = np.nan
    landmarks[3] = 0
    found = check(landmarks, metadata)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, landmarks[..., :2].astype(np.float32))
