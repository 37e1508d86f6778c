"""A compacted file computes the same bits, under the same names outside, and is smaller."""

import numpy as np
import pytest

from bridge.artifact.raw_signature import split_raw_signature
from bridge.artifact.runtimes import TFLiteRuntime
from bridge.quantization.quantizer import quantize
from bridge.quantization.schemes import SCHEMES
from bridge.routes import ROUTES
from signbart.artifacts import compaction
from signbart.artifacts.compaction import compact

LONG = "signbart_torch.model.SignBart/signbart_torch.encoder.Encoder_encoder/"


def parsed(content: bytes):
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def packed(model) -> bytes:
    """With flatbuffers' own builder, which stores everything anew each time."""
    import flatbuffers

    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def bloated(content: bytes) -> bytes:
    """A file as converters write them: long names, empty buffers, ranges, shapes said twice."""
    from ai_edge_litert import schema_py_generated as schema

    model = parsed(content)
    for graph in model.subgraphs:
        outside = {*graph.inputs, *graph.outputs}
        for at, tensor in enumerate(graph.tensors):
            if at not in outside:
                tensor.name = f"{LONG}{tensor.name.decode()};{LONG}part".encode()
            if tensor.quantization is None:
                tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.min = tensor.quantization.max = np.zeros(1, np.float32)
            tensor.shapeSignature = tensor.shape
            if not tensor.buffer:
                model.buffers.append(schema.BufferT())
                tensor.buffer = len(model.buffers) - 1
    return packed(model)


def answers(path, samples) -> list[bytes]:
    runtime = TFLiteRuntime(path)
    return [runtime(sample.inputs)["logits"].tobytes() for sample in samples]


KINDS = [(route, scheme) for route in ROUTES for scheme in ("fp32", "dynamic_int8")]


@pytest.fixture(params=KINDS, ids=" ".join)
def pair(request, converted, tmp_path, tmp_path_factory, monkeypatch):
    """A file before and after, of each route: a float one, and what the quantizer itself wrote.

    The float one has both signatures; the second is added to what is compacted already.
    """
    route, scheme = request.param
    before, after = tmp_path / "before.tflite", tmp_path / "after.tflite"
    source = converted.path(route, ".tflite")
    if scheme == "fp32":
        before.write_bytes(bloated(source.read_bytes()))
    else:
        parts = tmp_path_factory.mktemp("parts")
        core = parts / "core.tflite"
        split_raw_signature(source, core, parts / "around.tflite")
        with monkeypatch.context() as patched:
            patched.setattr(compaction, "compact", lambda path: None)
            quantize(core, SCHEMES[scheme], before)
    after.write_bytes(before.read_bytes())
    compact(after)
    return before, after


@pytest.mark.slow
def test_it_computes_the_same_bits_and_is_smaller(pair, judged):
    before, after = pair
    assert answers(before, judged.samples()[:12]) == answers(after, judged.samples()[:12])
    # By a tenth at least: of what the quantizer wrote and of what was made long here.
    assert after.stat().st_size < 0.9 * before.stat().st_size


@pytest.mark.slow
def test_names_outside_stay_and_those_inside_are_short_and_unique(pair):
    old, new = (parsed(path.read_bytes()) for path in pair)
    keys = [signature.signatureKey for signature in old.signatureDefs]
    assert keys == [b"serving_default", b"landmarks"][: len(old.subgraphs)]
    for signature, kept in zip(old.signatureDefs, new.signatureDefs, strict=True):
        assert kept.signatureKey == signature.signatureKey
        for side in ("inputs", "outputs"):
            told = [
                [(entry.name, entry.tensorIndex) for entry in getattr(s, side)]
                for s in (signature, kept)
            ]
            assert told[0] == told[1]
    for before, after in zip(old.subgraphs, new.subgraphs, strict=True):
        check_names(before, after)


def check_names(before, after):
    for side in ("inputs", "outputs"):
        assert list(getattr(before, side)) == list(getattr(after, side))
        for at in getattr(before, side):
            assert before.tensors[at].name == after.tensors[at].name
    names = [tensor.name.decode() for tensor in after.tensors]
    assert len(set(names)) == len(names)
    outside = {*after.inputs, *after.outputs}
    for at, name in enumerate(names):
        if at not in outside:
            assert name and ";" not in name and "signbart_torch" not in name and len(name) < 100
    # The graph itself: as many tensors and operators, joined in the same way.
    assert [list(op.inputs) for op in before.operators] == [
        list(op.inputs) for op in after.operators
    ]
    assert [list(t.shape) for t in before.tensors] == [list(t.shape) for t in after.tensors]


@pytest.mark.slow
def test_constants_are_aligned_and_nothing_empty_is_stored(pair):
    content = pair[1].read_bytes()
    model = parsed(content)
    assert model.buffers[0].data is None or not len(model.buffers[0].data)
    large = [bytes(buffer.data) for buffer in model.buffers[1:]]
    assert all(large)
    for data in large:
        places = [at for at in found(content, data) if at % 16 == 0]
        assert places, "a constant of the format starts at a multiple of 16"
    assert all(
        t.quantization is None or len(t.quantization.scale) for t in model.subgraphs[0].tensors
    )


def found(content: bytes, data: bytes):
    at = content.find(data)
    while at >= 0:
        yield at
        at = content.find(data, at + 1)


@pytest.mark.slow
def test_once_more_changes_nothing_and_the_same_file_gives_the_same_bytes(pair, tmp_path):
    before, after = pair
    first = after.read_bytes()
    compact(after)
    assert after.read_bytes() == first
    after.write_bytes(before.read_bytes())
    compact(after)
    assert after.read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["after.tflite", "before.tflite"]


@pytest.mark.slow
def test_constants_behind_the_flatbuffer_come_into_it(converted, judged, tmp_path):
    """Files beyond two gigabytes keep them there; the quantizer may choose to."""
    model = parsed(converted.artifact.read_bytes())
    constants = [b for b in model.buffers if b.data is not None and len(b.data) > 100]
    data = [bytes(buffer.data) for buffer in constants]
    for buffer in constants:
        buffer.data, buffer.offset, buffer.size = None, 2, 2  # 1 would mean: none
    start = -(-len(packed(model)) // 16) * 16
    behind = b""
    for buffer, content in zip(constants, data, strict=True):
        buffer.offset, buffer.size = start + len(behind), len(content)
        behind += content + bytes(-len(content) % 16)
    path = tmp_path / "behind.tflite"
    path.write_bytes(packed(model).ljust(start, b"\0") + behind)
    wanted = answers(converted.artifact, judged.samples()[:5])
    assert answers(path, judged.samples()[:5]) == wanted
    compact(path)
    assert all(not buffer.offset for buffer in parsed(path.read_bytes()).buffers)
    assert answers(path, judged.samples()[:5]) == wanted


@pytest.mark.parametrize(
    ("names", "taken", "short"),
    [
        (["a.B_c/d.E_f/dot"], [], ["c/f/dot"]),
        # Of a fused operator the first of the deepest parts.
        (["a.B_c/mul;a.B_c/d.E_f/dot;a.B_c/d.E_g/add;b"], [], ["c/f/dot"]),
        (["x", "x", "x"], [], ["x", "x_2", "x_3"]),
        (["x", "x_2", "x"], [], ["x", "x_2", "x_3"]),
        (["x"], ["x", "x_2"], ["x_3"]),
        (["", "a.B", ";"], [], ["tensor", "tensor_2", "tensor_3"]),
    ],
)
def test_short_names(names, taken, short):
    made = compaction._short_names([n.encode() for n in names], {t.encode() for t in taken})
    assert [name.decode() for name in made] == short


def test_names_are_unique_whatever_they_were():
    rng = np.random.default_rng(0)
    parts = ["x", "x_2", "x_3", "a.B_x", "a.B", "y/x", "a.B_y/x", ""]
    for _ in range(200):
        names = [";".join(rng.choice(parts, rng.integers(1, 4))).encode() for _ in range(30)]
        taken = {b"x", b"y/x_2"}
        made = compaction._short_names(names, taken)
        assert len(set(made)) == len(names) and not taken & set(made) and all(made)
