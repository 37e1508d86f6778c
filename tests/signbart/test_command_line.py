"""``signbart VERB``: what it lists, whom it starts, what it refuses."""

import sys

import pytest

from signbart import __version__, command_line
from signbart.command_line import TASKS, VERBS, dispatch
from signbart.console import next_command
from signbart.errors import SignBartError


@pytest.fixture(autouse=True)
def argv(monkeypatch):
    """`dispatch` writes the verb there, for help texts."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/signbart"])


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_every_verb_under_its_task(capsys, arguments):
    assert dispatch(arguments) == (0 if arguments else 2)
    lines = capsys.readouterr().out.splitlines()
    at = -1
    for task, verbs in TASKS.items():
        assert lines.index(f"{task}:") > at
        for verb, (_, text) in verbs.items():
            at = lines.index(f"  {verb:14} {text}")
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_help_is_its_commands(capsys, verb):
    with pytest.raises(SystemExit) as exit:
        dispatch([verb, "--help"])
    assert exit.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: signbart {verb} ")


@pytest.mark.parametrize("verb", ["train", "loso", "qat"])
@pytest.mark.parametrize(
    ("given", "framework"),
    [
        ([], None),
        (["--framework", "torch"], "torch"),
        (["--framework", "keras"], "keras"),
        (["--framework=keras"], "keras"),
    ],
)
def test_the_framework_chooses_the_package(capsys, verb, given, framework):
    with pytest.raises(SystemExit):
        dispatch([verb, *given, "--help"])
    printed = capsys.readouterr().out
    shown = f"--framework {framework}" if framework else "[--framework keras]"
    assert printed.startswith(f"usage: signbart {verb} {shown} ")
    assert ("--loop" in printed) == (framework == "keras")  # an option of Keras's alone


def test_other_arguments_reach_the_command_in_their_order(monkeypatch):
    seen = []

    class Module:
        @staticmethod
        def main(arguments):
            seen.append(list(arguments))
            return 1

    monkeypatch.setattr(command_line, "import_module", lambda name: seen.append(name) or Module)
    assert dispatch(["train", "--data", "a b", "--framework", "keras", "--set", "x=1"]) == 1
    assert seen == ["signbart_tf.train", ["--data", "a b", "--set", "x=1"]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["clasify"], "no command 'clasify'; did you mean 'classify'?"),
        (["export_models"], "did you mean 'export-models'?"),
        (["zzz"], "no command 'zzz'; signbart --help lists them all"),
        (["train", "--framework", "jax"], "--framework jax: choose torch or keras"),
        (["train", "--framework"], "choose torch or keras"),
    ],
)
def test_what_there_is_not_is_refused(arguments, text):
    with pytest.raises(SignBartError) as raised:
        dispatch(arguments)
    assert text in str(raised.value)


def test_an_error_is_one_line_and_status_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["signbart", "zzz"])
    with pytest.raises(SystemExit) as exit:
        command_line.main()
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("error: no command 'zzz'")


def test_the_version(capsys):
    assert dispatch(["--version"]) == 0
    assert capsys.readouterr().out == f"signbart {__version__}\n"


def test_what_comes_next_is_started_as_this_command_was(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bridge/convert.py"])
    assert next_command("bridge.parity") == "python -m bridge.parity"
    monkeypatch.setattr(sys, "argv", ["signbart convert"])
    assert next_command("bridge.parity") == "signbart parity"
