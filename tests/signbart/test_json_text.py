"""JSON is read as the standard library reads it, and never deeper than it may nest."""

import json
import os
import subprocess
import sys
import tracemalloc

import pytest

from signbart.json_text import DEEPEST, parse_json, read_json_file

SOUND = ["{}", "[1, 2.5, null]", '{"a]": ["[{", "\\"[", "\\\\"]}', '"[["', "[" * 100 + "]" * 100]


@pytest.mark.parametrize("text", SOUND)
def test_it_reads_what_the_library_reads(text):
    assert parse_json(text) == parse_json(text.encode("utf-16")) == json.loads(text)


@pytest.mark.parametrize("text", ["", "[", '{"a": }', '"a', "\\", '["a\\"]'])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize("bracket", ["[", '{"a":', '{"a": ["b", '])
def test_depth_is_bounded_whatever_the_recursion_limit(bracket):
    # In a process of its own: without the bound the interpreter ends there.
    code = (
        "import sys; from signbart.json_text import parse_json; sys.setrecursionlimit(10**9)\n"
        f"try: parse_json({bracket!r} * 100_000)\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"it nests deeper than {DEEPEST} levels\n", done


def test_a_long_text_takes_no_more_room_than_itself_a_few_times():
    text = '"' + "a" * 1_000_000 + '"'
    tracemalloc.start()
    try:
        parse_json(text)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 5 * len(text)


def test_what_is_no_ordinary_file_is_not_read(tmp_path):
    """A folder of others may hold a pipe that nobody writes to, or petabytes of nothing."""
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(ValueError, match="it is no file"):
        read_json_file(tmp_path / "manifest.json")
    with (tmp_path / "results.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="1,099,511,627,776 bytes"):
        read_json_file(tmp_path / "results.json")
    (tmp_path / "golden.json").write_text('{"a": 1}')
    assert read_json_file(tmp_path / "golden.json") == {"a": 1}
