"""Keypoint pickles: what NumPy and plain Python write reads; what else they can do is refused."""

import codecs
import collections
import importlib
import os
import pickle
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from signbart.errors import ClipError
from signbart.recordings.pickles import read_pickle

T, K, D = 5, 7, 3
LANDMARKS = np.random.default_rng(0).normal(size=(T, K, D)).astype(np.float32)

CLIP_FORMS = {
    "float32": LANDMARKS,
    "float64": LANDMARKS.astype(np.float64),
    "float16": LANDMARKS.astype(np.float16),
    "big-endian": LANDMARKS.astype(">f4"),
    "fortran": np.asfortranarray(LANDMARKS),
    "strided": np.repeat(LANDMARKS, 2, axis=1)[:, ::2],
    "transposed": np.ascontiguousarray(LANDMARKS.transpose(1, 0, 2)).transpose(1, 0, 2),
    "integers": (LANDMARKS * 100).astype(np.int16),
    "lists": LANDMARKS.astype(np.float64).tolist(),
    "tuples": tuple(tuple(map(tuple, frame)) for frame in LANDMARKS.tolist()),
    "list of arrays": list(LANDMARKS),
    "list of lists of arrays": [list(frame) for frame in LANDMARKS],
    "lists of NumPy numbers": [[list(point) for point in frame] for frame in LANDMARKS],
    "no frames": np.zeros((0, K, D), np.float32),
}


def write(path: Path, content: object, protocol: int = 4) -> Path:
    data = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
    path.write_bytes(data)
    return path


def fields(keypoints: object = LANDMARKS, **others: object) -> dict[str, object]:
    return {"keypoints": keypoints, "class": "hello", **others}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", CLIP_FORMS)
def test_every_protocol_and_form_reads(tmp_path, form, protocol):
    content = fields(
        CLIP_FORMS[form], user=np.str_("user03"), note=[None, True, {"fps": 25, 1: 2}, b"raw"]
    )
    clip = read_pickle(write(tmp_path / "a.pkl", content, protocol))
    assert clip.landmarks.dtype == np.float32
    assert clip.landmarks.flags.c_contiguous and clip.landmarks.flags.writeable
    np.testing.assert_array_equal(clip.landmarks, np.array(CLIP_FORMS[form], np.float32))
    assert (clip.class_name, clip.user) == ("hello", "user03")


@pytest.mark.parametrize("protocol", range(6))
def test_modules_of_older_numpy_read(tmp_path, protocol):
    data = pickle.dumps(fields(), protocol)
    assert b"numpy._core" in data
    for module in (b"numpy._core.multiarray", b"numpy._core.numeric"):
        old = module.replace(b"_core", b"core")
        data = data.replace(
            b"\x8c" + bytes([len(module)]) + module, b"\x8c" + bytes([len(old)]) + old
        )
        data = data.replace(b"c" + module + b"\n", b"c" + old + b"\n")
    if protocol >= 4:
        data = data[:3] + struct.pack("<Q", len(data) - 11) + data[11:]
    assert b"numpy._core" not in data
    clip = read_pickle(write(tmp_path / "a.pkl", data))
    np.testing.assert_array_equal(clip.landmarks, LANDMARKS)


class Call:
    """Pickles as a call of `function`, and is callable so that it can stand for one."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        raise AssertionError("only an unpickler calls it")


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


RUNS_CODE = (
    "os.system", "os.system, protocol 0", "eval", "Popen", "getattr", "dotted name", "INST", "OBJ",
    "numpy.load", "among the points", "beside good points", "in an object array",
    "in an object array, protocol 5", "in a dict key", "before a truncation",
)  # fmt: skip


def attack(name: str, marker: Path) -> bytes:
    """A pickle that creates the file `marker` in a plain unpickler."""
    shell = f"touch {marker}"
    call = Call(os.system, shell)
    objects = np.full((2, 2, 2), None)
    objects[0, 0, 0] = call
    match name:
        case "os.system":
            return pickle.dumps(call, 4)
        case "os.system, protocol 0":
            return pickle.dumps(call, 0)
        case "eval":
            return pickle.dumps(Call(eval, f"__import__('os').system({shell!r})"), 2)
        case "Popen":
            return pickle.dumps(Call(subprocess.check_call, ["touch", str(marker)]), 4)
        case "getattr":
            module = Call(importlib.import_module, "os")
            return pickle.dumps(Call(Call(getattr, module, "system"), shell), 4)
        case "dotted name":
            return (
                b"\x80\x04" + text("shutil") + text("os.system") + b"\x93" + text(shell) + b"\x85R."
            )
        case "INST":
            return f"(S'{shell}'\nios\nsystem\n.".encode()
        case "OBJ":
            return f"(cos\nsystem\nS'{shell}'\no.".encode()
        case "numpy.load":
            inner = marker.with_suffix(".npy")
            np.save(inner, objects, allow_pickle=True)
            return pickle.dumps(Call(np.load, str(inner), None, True), 4)
        case "among the points":
            return pickle.dumps(fields([[[call, 0.0]]]), 4)
        case "beside good points":
            return pickle.dumps(fields(extra=call), 4)
        case "in an object array":
            return pickle.dumps(fields(objects), 4)
        case "in an object array, protocol 5":
            return pickle.dumps(fields(objects), 5)
        case "in a dict key":
            return pickle.dumps(fields(extra={Call(os.system, shell): 1}), 4)
        case "before a truncation":
            return pickle.dumps(call, 3)[:-1]


@pytest.mark.parametrize("name", RUNS_CODE)
def test_hostile_pickles_execute_nothing(tmp_path, name):
    marker = tmp_path / "executed"
    path = write(tmp_path / "hostile.pkl", attack(name, marker))
    with pytest.raises(ClipError, match=r"hostile\.pkl: ") as caught:
        read_pickle(path)
    assert not marker.exists(), "the reader ran code"
    assert len(str(caught.value)) < 500
    try:
        pickle.loads(path.read_bytes())
    except EOFError:
        assert name == "before a truncation"
    assert marker.exists(), "the attack would not have worked on an unpickler either"


def deep_list() -> bytes:
    inner = b"]" * 300_000 + b"a" * 299_999
    return b"\x80\x04}(" + text("class") + text("hello") + text("keypoints") + inner + b"u."


def containing_itself() -> list:
    loop: list = []
    loop.append(loop)
    return loop


def doubled(times: int) -> list:
    nest: list = [0.0, 0.0]
    for _ in range(times):
        nest = [nest, nest]
    return nest


_frombuffer = LANDMARKS.__reduce_ex__(5)[0]
_f4 = np.dtype("f4")
_scalar = np.float32(0).__reduce__()[0]
NOT_RECORDINGS = {
    "empty": (b"", "truncated"),
    "text": (b"{\"keypoints\": []}", "damaged"),
    "memo of 32 GB": (b"\x80\x04Nr" + struct.pack("<I", 2**31 - 1) + b".", "not a dict"),
    "bytes of 1 TB": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.", "truncated"),
    "bytearray of 1 TB": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.", "truncated"),
    "frame of 1 TB": (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.", "not a dict"),
    "nested tuples as a key": (b"\x80\x04})" + b"\x85" * 500_000 + b"Ns.", "damaged"),
    "nested tuples as a name": (b"\x80\x04)" + b"\x85" * 500_000 + text("x") + b"\x93.", "damaged"),
    "marks": (b"\x80\x04" + b"(" * 500_000 + b".", "damaged"),
    "deep lists": (deep_list(), "nested too deep"),
    "a list of itself": (fields(containing_itself()), "nested too deep"),
    "a thousand million shared numbers": (fields([[[0.0] * 1000] * 1000] * 1000), "too large"),
    "shared arrays": (fields([np.zeros(10**6, np.float32)] * 1000), "too large"),
    "exponentially many": (fields(doubled(60)), "nested too deep"),
    "an exponential dtype": (fields(Call(np.dtype, doubled(60))), "damaged"),
    "a persistent id": (b"\x80\x04" + text("a") + b"Q.", "refused.*BINPERSID"),
    "an extension": (b"\x80\x02\x82\x01.", "refused.*EXT1"),
    "another codec": (fields(Call(codecs.encode, "x", "rot13")), "latin1"),
    "array too short": (fields(Call(_frombuffer, b"12", _f4, (2, 2, 2), "C")), "damaged"),
    "array of 4 TB": (fields(Call(_frombuffer, b"1234", _f4, (10**12,), "C")), "damaged"),
    "negative shape": (fields(Call(_frombuffer, b"1234", _f4, (-1,), "C")), "lengths"),
    "object scalar": (fields(Call(_scalar, np.dtype("O"), None)), "dtype 'O8'"),
    "structured array": (fields(np.zeros(2, [("x", "f4")])), "dtype 'V4'"),
    "an array's class called": (fields(Call(np.ndarray, (2, 2))), "numpy.ndarray is called"),
    "no array data": (
        fields(Call(LANDMARKS.__reduce__()[0], np.ndarray, (0,), b"b")), "nothing but numbers"
    ),
    "other class": (fields(collections.OrderedDict()), "refused.*OrderedDict"),
    "complex numbers": (fields(np.zeros((2, 2, 2), complex)), "dtype 'c16'"),
    "texts": (fields(np.full((2, 2, 2), "0.5")), "must hold numbers"),
    "list of texts": (fields([[["0.5", "0.5"]]]), "nothing but numbers"),
    "ragged": (fields([[[0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]), "ragged"),
    "ragged arrays": (fields([np.zeros((2, 2)), np.zeros((3, 2))]), "different shapes"),
    "a list": ([1.0], "holds a list, not a dict"),
    "no keypoints": ({"class": "hello"}, "no field 'keypoints'; its fields: class"),
    "no class": ({"keypoints": LANDMARKS}, "no field 'class'"),
    "class a number": ({"keypoints": LANDMARKS, "class": 3}, "'class' must be text"),
    "user a list": (fields(user=["a"]), "'user' must be text"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_RECORDINGS)
def test_what_is_no_recording_is_an_error_that_names_the_file(tmp_path, name):
    content, message = NOT_RECORDINGS[name]
    with pytest.raises(ClipError, match=rf"(?s)broken\.pkl: .*{message}"):
        read_pickle(write(tmp_path / "broken.pkl", content))


@pytest.mark.parametrize("protocol", range(6))
def test_truncated_anywhere_is_an_error(tmp_path, protocol):
    data = pickle.dumps(fields(LANDMARKS[:2, :1, :2], user="u"), protocol)
    read_pickle(write(tmp_path / "whole.pkl", data))
    for length in range(len(data)):
        with pytest.raises(ClipError, match=r"cut\.pkl"):
            read_pickle(write(tmp_path / "cut.pkl", data[:length]))


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("protocol", range(6))
def test_damaged_anywhere_reads_or_is_an_error(tmp_path, protocol):
    data = pickle.dumps(fields(LANDMARKS[:2, :1, :2], user="u", note=[1, (2.0, "x")]), protocol)
    rng = np.random.default_rng(protocol)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        damaged = bytearray(data)
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        try:
            read_pickle(write(tmp_path / "damaged.pkl", bytes(damaged)))
            outcomes["read"] += 1
        except ClipError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ClipError, match=r"absent\.pkl: cannot be read: No such file"):
        read_pickle(tmp_path / "absent.pkl")
