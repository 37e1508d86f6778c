"""The Kotlin of docs/deployment.md, compiled where there is a compiler and LiteRT's classes."""

import os
import shutil
import subprocess

import pytest

from tests.docs.pages import all_blocks

# `kotlinc` takes seconds, and neither it nor these classes come with this project's packages.
CLASSES = "LITERT_CLASSPATH"


def compiled(text, folder):
    """What the compiler says of a program."""
    classes, compiler = os.environ.get(CLASSES), shutil.which("kotlinc")
    if compiler is None or not classes:
        pytest.skip(
            f"no kotlinc, or no {CLASSES}: classes.jar of com.google.ai.edge.litert:litert, "
            "android.jar and org.json, with ':' between them"
        )
    path = folder / "SignRecognizer.kt"
    path.write_text(text, encoding="utf-8")
    command = [compiler, "-Werror", "-cp", classes, "-d", str(folder / "classes"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_documented_kotlin_compiles(tmp_path):
    (block,) = all_blocks("kotlin")
    done = compiled(block.text, tmp_path)
    assert done.returncode == 0, done.stderr
    # And a call that LiteRT does not have does not.
    done = compiled(block.text.replace("writeFloat(", "writeDouble("), tmp_path)
    assert done.returncode != 0 and "writeDouble" in done.stderr
