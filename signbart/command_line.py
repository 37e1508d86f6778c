"""``signbart VERB``: every command by one name. The verb's module does the work.

Imports nothing but the standard library, so that the list is there at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from signbart import __version__
from signbart.console import run_command
from signbart.errors import SignBartError

_FRAMEWORKS = ("torch", "keras")
# Task -> verb -> (module, or one a framework in the order of `_FRAMEWORKS`; what it does).
TASKS: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "recordings": {
        "landmarks": (("signbart.video.__main__",), "find the landmarks of videos or of a camera"),
        "clips": (("signbart.clips",), "say what recordings hold, draw one, pack them all"),
        "synthetic": (
            ("signbart.synthetic.__main__",),
            "make synthetic recordings, to try things out",
        ),
    },
    "train (in PyTorch; with --framework keras in Keras)": {
        "train": (("signbart_torch.train", "signbart_tf.train"), "train one model"),
        "loso": (
            ("signbart_torch.loso", "signbart_tf.loso"),
            "leave out each signer in turn, and test a model on them",
        ),
        "sweep": (
            ("signbart_torch.sweep", "signbart_tf.sweep"),
            "train with many settings, and choose by signers left out",
        ),
        "qat": (
            ("signbart_torch.qat", "signbart_tf.qat"),
            "train a model further, with int8 arithmetic simulated",
        ),
        "distill": (("signbart_torch.distill",), "train a model on others' answers; PyTorch only"),
        "prune": (
            ("signbart_torch.prune",),
            "make a model smaller and train it further; PyTorch only",
        ),
    },
    "convert": {
        "convert": (("bridge.convert",), "turn a checkpoint into verified .tflite and .onnx"),
        "export-models": (
            ("bridge.export_models",),
            "the same for a sign Transformer and a MediaPipe GRU",
        ),
        "quantize": (("bridge.quantize",), "turn a float .tflite into an int8 or float16 one"),
        "weight-map": (
            ("bridge.weight_map",),
            "turn a PyTorch checkpoint into a Keras one, or back",
        ),
    },
    "check": {
        "parity": (("bridge.parity",), "compare artifacts with the model they came from"),
        "verify": (
            ("signbart_runtime.integrity.__main__",),
            "check all that a folder of artifacts says of itself",
        ),
        "calibrate": (
            ("signbart.calibrate",),
            "fit temperature and threshold on signers left out",
        ),
        "doctor": (("signbart.doctor",), "say what this installation can do, and what is missing"),
        "describe": (("signbart_runtime.describe",), "print what is inside an artifact"),
        "bench": (
            ("signbart_runtime.bench.__main__",),
            "time model files, side by side",
        ),
        "tensor-errors": (
            ("signbart_runtime.tensor_errors",),
            "show where a quantized .tflite loses precision",
        ),
    },
    "use": {
        "classify": (("signbart_runtime.classify",), "say which sign a recording shows"),
        "evaluate": (("signbart_runtime.evaluate",), "score models on labelled recordings"),
        "web": (
            ("signbart_runtime.web.__main__",),
            "serve a page that runs a model before a camera",
        ),
    },
    "report": {
        "loso-report": (
            ("signbart_runtime.loso",),
            "do loso, convert, quantize and judge each model; report",
        ),
        "report": (("signbart_runtime.report",), "write tables and pages over such runs"),
    },
}
VERBS = {verb: row for verbs in TASKS.values() for verb, row in verbs.items()}


def main() -> None:
    """The console script: runs the command of that verb, and ends with its exit status."""
    run_command(partial(dispatch, sys.argv[1:]))


def dispatch(arguments: Sequence[str]) -> int | None:
    """Runs what the arguments name; returns its exit status.

    Raises:
        SignBartError: There is no such verb or framework.
    """
    verb, *rest = arguments or [""]
    if verb in ("", "-h", "--help"):
        print(_list_of_commands())
        return 0 if verb else 2
    if verb == "--version":
        print(f"signbart {__version__}")
        return 0
    if verb not in VERBS:
        from difflib import get_close_matches

        if verb == "--framework":
            raise SignBartError("--framework follows the command: signbart train --framework keras")
        near = get_close_matches(verb, VERBS, n=1, cutoff=0.6)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise SignBartError(f"no command '{verb}'; {hint}signbart --help lists them all")
    modules, _ = VERBS[verb]
    called = f"signbart {verb}"
    if len(modules) > 1:
        framework, rest = _take_framework(rest)
        if framework:
            called += f" --framework {framework}"
        elif {"-h", "--help"} & {*rest}:
            called += f" [--framework {'|'.join(_FRAMEWORKS[1:])}]"
        modules = (modules[_FRAMEWORKS.index(framework or _FRAMEWORKS[0])],)
    sys.argv[0] = called  # what `program_name` finds there
    return import_module(modules[0]).main(rest)


def _take_framework(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """``--framework NAME``, wherever it stands, or None; and the other arguments."""
    framework, rest, left = None, [], list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        if name != "--framework":
            rest.append(argument)
            continue
        framework = value if equals else left.pop(0) if left else ""
        if framework not in _FRAMEWORKS:
            raise SignBartError(f"--framework {framework}: choose {' or '.join(_FRAMEWORKS)}")
    return framework, rest


def _list_of_commands() -> str:
    lines = [
        "usage: signbart COMMAND [OPTIONS]",
        "       signbart COMMAND --help",
        "",
        "Sign recognition from keypoints: train, convert to verified .tflite, use.",
    ]
    for task, verbs in TASKS.items():
        lines += ["", f"{task}:"]
        lines += [f"  {verb:14} {text}" for verb, (_, text) in verbs.items()]
    return "\n".join([*lines, "", "signbart --version prints the version."])
