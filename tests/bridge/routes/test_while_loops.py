"""A loop through LiteRT Torch: what it computes, and that it still needs help with it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch._higher_order_ops.while_loop import while_loop

from bridge.routes import while_loops


class TwoLoops(nn.Module):
    """Adds up the first `count` rows, each times a weight; then doubles that `count` times.

    The first loop reads from outside of it a parameter, an input, a constant and its own bound.
    """

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0, 3.0]]))

    def forward(self, rows, count):
        weighted = rows * self.weight
        index, total = torch.zeros_like(count), rows.new_zeros(1, 3)

        def running(index, _):
            return (index < count).reshape(())

        def add(index, total):
            return index + 1, total + weighted.index_select(0, index) + 0.5

        _, total = while_loop(running, add, (index, total))
        _, doubled = while_loop(
            running, lambda i, t: (i + 1, t * 2), (torch.zeros_like(count), total)
        )
        return {"total": total, "doubled": doubled}


@pytest.fixture
def example():
    return {"rows": torch.arange(15.0).reshape(5, 3), "count": torch.tensor([2], dtype=torch.int32)}


@pytest.mark.slow
def test_loops_are_kept_and_run_as_often_as_they_are_told(example, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "loops.tflite"
    while_loops.convert(TwoLoops().eval(), example, path)
    interpreter = Interpreter(str(path), num_threads=1)
    operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
    assert operators.count("WHILE") == 2
    run = interpreter.get_signature_runner()
    rows = example["rows"].numpy()
    for count in (0, 1, 5):
        found = run(rows=rows, count=np.array([count], np.int32))
        total = (rows[:count] * [1, -2, 3] + 0.5).sum(0, keepdims=True)
        np.testing.assert_allclose(found["total"], total, rtol=1e-6)
        np.testing.assert_allclose(found["doubled"], total * 2**count, rtol=1e-6)


@pytest.mark.slow
def test_one_length_after_another(tmp_path):
    """torch.compile, which traces loops, takes a size that changes for a dynamic one."""
    from ai_edge_litert.interpreter import Interpreter

    for length in (5, 7, 4):
        rows, count = torch.ones(length, 3), torch.tensor([length], dtype=torch.int32)
        path = tmp_path / f"{length}.tflite"
        while_loops.convert(TwoLoops().eval(), {"rows": rows, "count": count}, path)
        run = Interpreter(str(path), num_threads=1).get_signature_runner()
        found = run(rows=rows.numpy(), count=count.numpy())
        np.testing.assert_allclose(found["total"], length * np.array([[1.5, -1.5, 3.5]]), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "message"),
    [("_outline_loops", "Failed to export flatbuffer"), ("_register_lowering", "not found")],
)
def test_neither_step_can_be_left_out(example, tmp_path, monkeypatch, step, message):
    """Where this fails the converter has learned it, and the step can go."""
    from litert_torch.backend.lowerings import registry

    loop = torch.ops.higher_order.while_loop
    monkeypatch.delitem(registry.global_registry.registered_ops, loop, raising=False)
    monkeypatch.setattr(while_loops, step, lambda *_: None)
    with pytest.raises((ValueError, RuntimeError), match=message):
        while_loops.convert(TwoLoops().eval(), example, tmp_path / "loops.tflite")
