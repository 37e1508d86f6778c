"""docs/troubleshooting.md quotes messages that the code can print, and those that it does print."""

import ast
import functools
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from signbart.configuration.reading import load_config
from signbart.errors import SignBartError
from signbart.landmarks.layouts import get_layout
from signbart.recordings.reading import read_clips
from signbart.training.requirements import with_labels
from signbart.training.splits import split_clips

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("signbart", "signbart_torch", "signbart_tf", "bridge", "signbart_runtime")
TEXT = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"\*\*`(.+?)`\*\*", TEXT)
KP90 = REPOSITORY / "configs" / "kp90.yaml"
FIELD = "…"


def constants(tree: ast.Module) -> dict[str, str]:
    """A module's names of texts: ``A = "a"`` and ``A, B = "a", "b"``."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = zip(target.elts, value.elts, strict=True)
            for name, text in pairs:
                if isinstance(name, ast.Name) and isinstance(text, ast.Constant):
                    found[name.id] = text.value
    return {name: value for name, value in found.items() if isinstance(value, str)}


@functools.cache
def templates() -> list[str]:
    """Every text of the packages' code, with `FIELD` for what is filled in."""
    paths = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    shared = {name: text for tree in trees for name, text in constants(tree).items()}
    found = set()
    for tree in trees:
        known = shared | constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.add("".join(_filled(part, known) for part in node.values))
    return [" ".join(text.split()) for text in found]


def _filled(part: ast.expr, known: dict[str, str]) -> str:
    if isinstance(part, ast.Constant):
        return part.value
    name = part.value.id if isinstance(part.value, ast.Name) else ""
    return known.get(name, FIELD)


def fragments(message: str) -> list[str]:
    """What stands between the `FIELD`s."""
    return [part for part in message.split(FIELD) if part.strip()]


def fits(message: str, text: str) -> bool:
    """Whether the message's fixed parts follow each other in `text`."""
    at = 0
    for part in fragments(message):
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


# Where one message is put together from several texts, each piece is looked for by itself.
PIECES = {
    "…: no such file or folder; expected a packed .npz, a folder that holds one, or a tree of "
    "pickles (label2id.json and <split>/<class>/<name>.pkl)": (
        "…: no such file or folder; expected …",
        "a packed .npz, a folder that holds one, or a tree of pickles "
        "(label2id.json and <split>/<class>/<name>.pkl)",
    ),
    "outputs: … it was made from another checkpoint (SHA-256 …)": (
        "it was made from another checkpoint (SHA-256 …)",
    ),
    "…: unknown key '…'; did you mean '…'?": ("unknown key '…'; …", "did you mean '…'?"),
    "… already holds a run; pass --resume to go on with it, or choose another --output, or remove "
    "that folder": (
        "… already holds a run; pass --resume to go on with it, or …",
        "choose another --output, or remove that folder",
    ),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_has_the_message(message):
    for piece in PIECES.get(message, (message,)):
        assert any(fits(piece, text) for text in templates()), f"no text of the code has: {piece}"


def test_the_check_refuses_a_message_that_the_code_lacks():
    assert len(MESSAGES) > 60
    assert not any(fits("…: the moon is not in label2id.json", text) for text in templates())
    assert not fits("b … a", "a b")


# Commonest mistakes, made on purpose: what is printed is what the page quotes.


def tree(root: Path) -> Path:
    for sign in ("hello", "thanks"):
        folder = root / "all" / sign
        folder.mkdir(parents=True)
        for take in range(3):
            clip = {"keypoints": np.full((9, 90, 2), 0.5, np.float32), "class": sign}
            (folder / f"user0{take}_R{take}.pkl").write_bytes(pickle.dumps(clip))
    (root / "label2id.json").write_text(json.dumps({"hello": 0, "thanks": 1}))
    return root


def add(root: Path, **fields) -> None:
    (root / "all" / "hello" / "added.pkl").write_bytes(pickle.dumps(fields))


def no_labels(root: Path) -> None:
    (root / "label2id.json").unlink()
    read_clips(root.rename(root.with_name("tree_LOSO_user01")))


def labels_from_one(root: Path) -> None:
    (root / "label2id.json").write_text('{"hello": 1, "thanks": 2}')
    read_clips(root)


def nan(root: Path) -> None:
    add(root, keypoints=np.full((9, 90, 2), np.nan), **{"class": "hello"})
    read_clips(root)


def short(root: Path) -> None:
    add(root, keypoints=np.zeros((1, 90, 2)), **{"class": "hello"})
    read_clips(root)


def nobody(root: Path) -> None:
    add(root, keypoints=np.zeros((9, 90, 2)), **{"class": "hello"})
    read_clips(root)


def other_layout(root: Path) -> None:
    add(root, keypoints=np.full((9, 75, 2), 0.5), **{"class": "hello"})
    read_clips(root)


def other_class(root: Path) -> None:
    add(root, keypoints=np.zeros((9, 90, 2)), **{"class": "hi"})
    read_clips(root)


def no_keypoints(root: Path) -> None:
    add(root, landmarks=np.zeros((9, 90, 2)), **{"class": "hello"})
    read_clips(root)


def code(root: Path) -> None:
    (root / "all" / "hello" / "added.pkl").write_bytes(pickle.dumps(print))
    read_clips(root)


def damaged(root: Path) -> None:
    (root / "all" / "hello" / "added.pkl").write_bytes(b"\x80\x04\x95")
    read_clips(root)


def pixels(root: Path) -> None:
    clip = {"keypoints": np.full((9, 90, 2), 300.0), "class": "hello"}
    for path in root.glob("all/*/*.pkl"):
        path.write_bytes(pickle.dumps(clip | {"class": path.parent.name}))
    read_clips(root).to_layout(get_layout("kp90"))


def unknown_signer(root: Path) -> None:
    split_clips(read_clips(root), load_config(KP90).train, ["S08"])


MISTAKES: list[Callable[[Path], object]] = [
    lambda root: read_clips(root / "nowhere"),
    lambda root: read_clips(root, split="test"),
    no_labels, labels_from_one, nan, short, nobody, other_layout, other_class, no_keypoints, code,
    damaged, pixels, unknown_signer,
    lambda root: read_clips(root).to_layout(get_layout("kinect20")),
    lambda root: load_config(KP90, ["train.epoch=3"]),
    lambda root: load_config(KP90, ["train.epochs=many"]),
    lambda root: load_config(KP90, ["train.epochs=0"]),
    lambda root: load_config(KP90, ["epochs=3"]),
    lambda root: load_config(KP90, ["model.d_model=100"]),
    lambda root: load_config(KP90, ["data.max_frames=300"]),
    lambda root: load_config(KP90, ["data.normalization=body_centred"]),
    lambda root: with_labels(
        load_config(REPOSITORY / "configs" / "arabic_90.yaml"), read_clips(root)
    ),
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_printed_is_quoted(mistake, tmp_path):
    with pytest.raises(SignBartError) as raised:
        mistake(tree(tmp_path / "tree"))
    printed = str(raised.value)
    quoted = [m for m in MESSAGES if len("".join(fragments(m))) > 15 and fits(m, printed)]
    assert quoted, f"docs/troubleshooting.md lacks: {printed}"
