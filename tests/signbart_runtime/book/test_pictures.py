"""Pictures are small PNG files that show something, whatever the errors are."""

import struct

import numpy as np
import pytest
from matplotlib.figure import Figure

from bridge.verification.limits import Limits
from bridge.verification.report import write_reports
from bridge.verification.verdict import FAILED, Verdict, judge
from signbart.pictures import draw_confusion, draw_curves, draw_errors


def size(path) -> tuple[int, int]:
    """Width and height from the PNG header."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", content[16:24])


def colours(path) -> set[tuple[int, ...]]:
    from matplotlib.image import imread

    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    return {tuple(pixel) for pixel in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


BARS, LIMIT = (48, 99, 142), (209, 73, 91)


@pytest.mark.parametrize(
    "errors",
    [np.zeros((3, 2)), np.full((2, 2), 1e-7), np.full((1, 1), 1e6), 10.0 ** -np.arange(12)],
    ids=["exact", "alike", "huge", "spread"],
)
def test_errors_of_every_size_are_drawn(tmp_path, errors):
    path = tmp_path / "errors.png"
    draw_errors(errors, 1e-5, "a.tflite: pass", path)
    assert size(path) == (600, 312) and 5_000 < path.stat().st_size < 60_000
    assert {BARS, LIMIT} <= colours(path)


def test_what_ran_gets_a_picture_and_what_did_not_gets_none(tmp_path):
    logits = np.eye(3, dtype=np.float32)
    ran = judge("a.tflite", logits, logits + 1, ["x"] * 3, Limits(atol=1e-5, rtol=0))
    write_reports([ran, Verdict("b.onnx", FAILED, "it broke")], {"seed": 0}, tmp_path, 1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "parity.json", "parity.md", "parity_a.tflite.png",
    ]  # fmt: skip
    assert size(tmp_path / "parity_a.tflite.png") == (600, 312)


def border(path) -> set[tuple[int, ...]]:
    """Colours of the outermost pixels: paper alone where nothing is cut off."""
    from matplotlib.image import imread

    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return {tuple(pixel) for pixel in edges.tolist()}


PAPER = {(255, 255, 255)}
TAB_BLUE = (31, 119, 180)


@pytest.mark.parametrize("classes", [2, 7, 30])
def test_a_confusion_matrix_is_whole_whatever_it_is_called(tmp_path, monkeypatch, classes):
    path = tmp_path / "confusion.png"
    names = [f"a rather long name of a sign {at}" for at in range(classes)]
    for labels in (names, [str(at) for at in range(classes)]):
        title = "signs_of_everyone_litert_weight_only_int8.tflite: 81.85 % of 270 clips"
        draw_confusion(np.eye(classes), labels, title, path)
        assert border(path) == PAPER
    monkeypatch.setattr("signbart.pictures._LETTER", 0.001)
    draw_confusion(np.eye(classes), labels, 10 * title, path)
    assert border(path) != PAPER, "the check sees what is cut off"


def test_names_are_no_formulas(tmp_path):
    draw_confusion(np.eye(2), ["$\\nonsense$", "b$_$"], "$\\nonsense$", tmp_path / "confusion.png")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\N{ARABIC LETTER SHEEN}", True),  # in matplotlib's default font
        ("\N{COUNTERSINK}", True),  # in DejaVu Sans Mono, which comes with matplotlib
        ("\U0010fffd", False),  # nobody's
    ],
)
def test_a_class_is_named_in_whatever_font_has_its_name_or_numbered(
    tmp_path, monkeypatch, name, shown
):
    seen = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda *a, **k: (seen.append(a[0]), savefig(*a, **k)))
    draw_confusion(np.eye(2), ["hello", name], "title", tmp_path / "confusion.png")
    axes = seen[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "hello",
        name if shown else "1",
    ]
    assert ("no font here shows the name" in axes.get_ylabel()) != shown


def test_curves_are_whole(tmp_path):
    rows = [
        {"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 2 / epoch, "train_accuracy": epoch}
        for epoch in (1.0, 2.0, 3.0)
    ]
    path = tmp_path / "curves.png"
    draw_curves({f"S{fold:02}": rows for fold in range(12)}, "isl_kinect30, QAT for int8", path)
    assert border(path) == PAPER
    draw_curves({"S01": rows}, "cut " * 100, path)
    assert border(path) != PAPER, "the check sees what is cut off"


@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_one_epoch_is_seen_too(tmp_path):
    path = tmp_path / "curves.png"
    for row in ({"epoch": 1.0}, {"epoch": 1.0, "train_loss": 2.0}):
        draw_curves({"S01": [row]}, "title", path)
        seen = TAB_BLUE in colours(path)
        assert seen == ("train_loss" in row)
