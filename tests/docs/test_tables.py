"""The tables of docs/ that repeat data of the code say what the code says."""

import re
from pathlib import Path

from signbart.console import markdown_table
from signbart.landmarks.layouts import LAYOUTS, Layout
from signbart.landmarks.source_layouts import SOURCE_LAYOUTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
GROUPS = ("body", "left_hand", "right_hand", "face")


def in_ranges(indices: tuple[int, ...]) -> str:
    """Ascending runs as ``first–last``, in the given order."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)


def layout_table() -> str:
    """Every layout: how many landmarks, of what, and where each group stands."""
    rows = []
    for layout in LAYOUTS.values():
        places = (in_ranges(layout.groups.get(group, ())) or "none" for group in GROUPS)
        rows.append([f"`{layout.name}`", layout.num_keypoints, layout.description, *places])
    columns = ["layout", "landmarks", "what", "body", "left hand", "right hand", "face"]
    return _numbers_in(1, markdown_table(columns, rows))


def selection_table() -> str:
    """For each layout cut from MediaPipe Holistic's 543 landmarks: their indices there."""
    rows = [
        [f"`{layout.name}`", in_ranges(layout.holistic)]
        for layout in LAYOUTS.values()
        if layout.holistic is not None
    ]
    return _numbers_in(
        None, markdown_table(["layout", "landmarks of `holistic543`, in order"], rows)
    )


def source_table() -> str:
    """The source layouts that are not model layouts as well."""
    rows = [
        [f"`{layout.name}`", layout.num_keypoints, layout.description]
        for layout in SOURCE_LAYOUTS.values()
        if layout.name not in LAYOUTS
    ]
    return _numbers_in(1, markdown_table(["source layout", "landmarks", "what"], rows))


def _numbers_in(column: int | None, table: str) -> str:
    """The table with that column alone aligned to the right: the others are text."""
    head, rule, *rows = table.split("\n")
    marks = ["---:" if at == column else "---" for at in range(rule.count("|") - 1)]
    return "\n".join([head, f"|{'|'.join(marks)}|", *rows])


def kinect_names(layout: Layout) -> str:
    """The joints in their order, numbered."""
    return ", ".join(f"{index} {name}" for index, name in enumerate(layout.names))


def test_the_layouts_are_those_of_the_code():
    text = (DOCS / "data.md").read_text(encoding="utf-8")
    for table in (layout_table(), selection_table(), source_table()):
        assert table in text, f"docs/data.md lacks this table:\n{table}"
    assert kinect_names(LAYOUTS["kinect20"]) in " ".join(text.split())


def test_the_page_lists_its_modules():
    listed = re.findall(r"^\| `modules/(\w+\.js)` \|", (DOCS / "web.md").read_text("utf-8"), re.M)
    modules = [path.name for path in (DOCS.parent / "web" / "modules").iterdir()]
    assert sorted(listed) == sorted(modules)


def test_in_ranges():
    assert in_ranges((0, 1, 2, 5, 9, 8)) == "0–2, 5, 9, 8"
    assert in_ranges(()) == ""
