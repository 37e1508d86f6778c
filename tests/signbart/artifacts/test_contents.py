"""Multiply-accumulates are counted as by hand, and by the number format that they run in.

Legend: T frames, K keypoints, D model width, H heads, C classes.
"""

import numpy as np
import pytest

from bridge.routes import ROUTES
from signbart.artifacts.contents import multiply_accumulates
from signbart.errors import ArtifactError


def linear_products(config) -> int:
    """Of every linear layer, from the configuration alone.

    In the last decoder layer only the last frame asks: its keys and values are of all frames, the
    rest of it is of that one.
    """
    model, frames, width = config.model, config.data.max_frames, config.model.d_model
    projections = 2 * frames * model.num_keypoints * width
    square, hidden = width * width, 2 * width * model.decoder_ffn_dim
    encoder = frames * (4 * square + 2 * width * model.encoder_ffn_dim)
    decoder = frames * (8 * square + hidden)
    # One query: q and out, and k and v of each head, by no frame.
    last = 2 * (2 + 2 * model.decoder_attention_heads) * square + hidden
    head = width * model.num_labels
    layers = model.encoder_layers * encoder + (model.decoder_layers - 1) * decoder + last
    return projections + layers + head


def attention_products(config) -> int:
    """Of queries by keys and of weights by values, H heads of D / H; and of choosing that frame.

    What is asked with one query is read whole by each head.
    """
    model, frames, width = config.model, config.data.max_frames, config.model.d_model
    whole = model.encoder_layers + 2 * (model.decoder_layers - 1)
    products = whole * frames + 2 * model.decoder_attention_heads
    return products * 2 * frames * width + frames * width


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_a_float_file_has_the_products_of_its_configuration(converted, config, route):
    path = converted.path(route, ".tflite")
    linear, attention = linear_products(config), attention_products(config)
    assert (linear, attention) == (262_392, 48_672)
    assert multiply_accumulates(path) == {"float32": linear + attention}
    assert multiply_accumulates(path, ["FULLY_CONNECTED"]) == {"float32": linear}
    assert multiply_accumulates(path, ["BATCH_MATMUL"]) == {"float32": attention}


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        ("fp16", "float32"), ("weight_only_int8", "float32"), ("dynamic_int8", "int8"),
        ("int8", "int8"), ("int16x8", "int16x8"),
    ],
)  # fmt: skip
def test_every_linear_layer_runs_in_the_schemes_format(quantized, config, route, scheme, name):
    linear, attention = linear_products(config), attention_products(config)
    path = quantized(route, scheme)
    assert multiply_accumulates(path, ["FULLY_CONNECTED"]) == {name: linear}
    expected = {"float32": attention}
    expected[name] = expected.get(name, 0) + linear
    assert multiply_accumulates(path) == expected


# Files made here


def tflite(path, operator, shapes, types, *, adjoint=(False, False), signature=None):
    """One operator; `shapes` and `types` of its two inputs and its output."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph, op, code = (
        schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    )  # fmt: skip
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    graph.tensors = []
    for shape, kind in zip(shapes, types, strict=True):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = b"x", np.array(shape, np.int32)
        tensor.type = getattr(schema.TensorType, kind)
        if signature is not None:
            tensor.shapeSignature = np.array(signature, np.int32)
        graph.tensors.append(tensor)
    if operator == "BATCH_MATMUL":
        op.builtinOptionsType = schema.BuiltinOptions.BatchMatMulOptions
        op.builtinOptions = schema.BatchMatMulOptionsT()
        op.builtinOptions.adjX, op.builtinOptions.adjY = adjoint
    op.inputs, op.outputs = [0, 1], [2]
    graph.inputs, graph.outputs, graph.operators = [0, 1], [2], [op]
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


@pytest.mark.parametrize(
    ("types", "name"),
    [
        (("FLOAT32", "FLOAT32"), "float32"),
        (("FLOAT32", "INT8"), "int8"),
        (("INT8", "INT8"), "int8"),
        (("INT16", "INT8"), "int16x8"),
        (("FLOAT32", "INT4"), "FLOAT32 x INT4"),
    ],
)
def test_formats_are_named_and_unknown_ones_say_what_they_are(tmp_path, types, name):
    shapes = [(2, 3, 5), (7, 5), (2, 3, 7)]
    path = tflite(tmp_path / "a.tflite", "FULLY_CONNECTED", shapes, (*types, "FLOAT32"))
    assert multiply_accumulates(path) == {name: 2 * 3 * 7 * 5}


@pytest.mark.parametrize(
    ("left", "adjoint"), [((2, 3, 5), (False, False)), ((2, 5, 3), (True, False))]
)
def test_products_of_two_activations_count_the_side_that_is_summed(tmp_path, left, adjoint):
    shapes, types = [left, (2, 5, 7), (2, 3, 7)], ["FLOAT32"] * 3
    path = tflite(tmp_path / "a.tflite", "BATCH_MATMUL", shapes, types, adjoint=adjoint)
    assert multiply_accumulates(path) == {"float32": 2 * 3 * 7 * 5}


def test_what_works_element_by_element_is_not_counted(tmp_path):
    path = tflite(tmp_path / "a.tflite", "ADD", [(2, 3)] * 3, ["FLOAT32"] * 3)
    assert multiply_accumulates(path) == {}


@pytest.mark.parametrize("summed", [0, -1])
def test_a_size_that_is_not_known_is_an_error(tmp_path, summed):
    shapes, types = [(2, summed), (7, summed), (2, 7)], ["FLOAT32"] * 3
    path = tflite(tmp_path / "a.tflite", "FULLY_CONNECTED", shapes, types)
    with pytest.raises(ArtifactError, match=r"a\.tflite: tensor x has no fixed size"):
        multiply_accumulates(path)


def test_a_result_of_open_size_is_an_error(tmp_path):
    """LiteRT marks it in the shape's signature, and writes 1 in the shape."""
    shapes, types = [(1, 5), (7, 5), (1, 7)], ["FLOAT32"] * 3
    path = tflite(tmp_path / "a.tflite", "FULLY_CONNECTED", shapes, types, signature=(-1, 7))
    with pytest.raises(ArtifactError, match=r"a\.tflite: tensor x has no fixed size"):
        multiply_accumulates(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no \.tflite at .*absent\.tflite"):
        multiply_accumulates(tmp_path / "absent.tflite")
    (tmp_path / "odd.tflite").write_bytes(b"no model at all")
    with pytest.raises(ArtifactError, match=r"odd\.tflite is not a \.tflite file"):
        multiply_accumulates(tmp_path / "odd.tflite")
