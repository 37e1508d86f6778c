"""`torch.while_loop` through LiteRT Torch, which has no lowering for it.

Two things are missing in litert-torch 0.10: a lowering of the operator, and the pass that moves a
loop's condition and body into functions of their own, without which its module cannot be written.
The pass exists in its library, and is registered nowhere that Python reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from litert_converter.mlir import ir


def convert(model: torch.nn.Module, example: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes the .tflite of a model whose graph may hold loops.

    Args:
        model: In inference mode; returns a dict, whose keys become the outputs' names.
        example: Keyword arguments, of the shapes and dtypes that the artifact is for.
        path: The file.
    """
    import litert_torch
    import torch

    _register_lowering()
    # With gradients a loop keeps every step's states, as many as nobody knows, and cannot be
    # traced into another loop.
    with torch.no_grad():
        converted = litert_torch.convert(model, sample_kwargs=dict(example))
    _outline_loops(converted._exporter._module_op)
    # Where the disk is full, its own `export` ends the process without a word.
    path.write_bytes(converted.model_content())


def _register_lowering() -> None:
    import torch
    from litert_converter.mlir import ir
    from litert_converter.mlir.dialects import stablehlo
    from litert_torch.backend import lowerings
    from litert_torch.backend.export import LoweringInterpreter

    @lowerings.lower(torch.ops.higher_order.while_loop)
    def lower_while_loop(context, condition, body, carried, constants):
        operands = [*carried, *constants]
        types = [operand.type for operand in operands]
        loop = stablehlo.WhileOp(types, operands)
        for region, graph in zip(loop.regions, (condition, body), strict=True):
            block = region.blocks.append(*types)
            with ir.InsertionPoint(block):
                interpreter = LoweringInterpreter(graph, context)
                interpreter.run(*block.arguments)
                results = list(interpreter.outputs)
                if graph is body:
                    results += list(block.arguments)[len(carried) :]
                stablehlo.return_(results)
        return tuple(loop.results)[: len(carried)]


def _outline_loops(module: ir.Operation) -> None:
    """Moves the two regions of each ``tfl.while`` into functions, which the file format wants."""
    from litert_converter.mlir import ir

    loops = []

    def collect(operation: ir.Operation) -> ir.WalkResult:
        if operation.name == "tfl.while":
            loops.append(operation)
        return ir.WalkResult.ADVANCE

    module.walk(collect)
    with module.context, ir.Location.unknown():
        for number, loop in enumerate(loops):
            _outline(module, loop, number)


def _outline(module: ir.Operation, loop: ir.Operation, number: int) -> None:
    from litert_converter.mlir import ir

    outside = _values_from_outside(loop)
    # A function's argument is owned by its block, which has no name.
    constants = [v for v in outside if getattr(v.owner, "name", None) == "arith.constant"]
    # What a function reads it must be given; the body gives it back unchanged.
    passed = [value for value in outside if value not in constants]
    operands = [*loop.operands, *passed]
    types = [operand.type for operand in operands]
    outlined = ir.Operation.create(
        "tfl.while",
        results=types,
        operands=operands,
        attributes={"is_stateless": ir.BoolAttr.get(False)},
        regions=2,
        ip=ir.InsertionPoint(loop),
    )
    for role, old, new in zip(("cond", "body"), loop.regions, outlined.regions, strict=True):
        *operations, end = old.blocks[0].operations
        results = [value.type for value in end.operands] if role == "cond" else types
        name = f"while_{number}_{role}"
        function = ir.Operation.create(
            "func.func",
            regions=1,
            attributes={
                "sym_name": ir.StringAttr.get(name),
                "sym_visibility": ir.StringAttr.get("private"),
                "function_type": ir.TypeAttr.get(ir.FunctionType.get(types, results)),
            },
            ip=ir.InsertionPoint(module.regions[0].blocks[0]),
        )
        entry = function.regions[0].blocks.append(*types)
        replaced = dict(zip([*old.blocks[0].arguments, *passed], entry.arguments, strict=True))
        with ir.InsertionPoint(entry):
            for value in constants:
                replaced[value] = value.owner.clone().results[0]
            for operation in operations:
                copy = operation.clone()
                for index, value in enumerate(list(copy.operands)):
                    copy.operands[index] = replaced.get(value, value)
                replaced |= dict(zip(operation.results, copy.results, strict=True))
            given_back = [replaced.get(value, value) for value in end.operands]
            if role == "body":
                given_back += list(entry.arguments)[len(loop.operands) :]
            ir.Operation.create("func.return", operands=given_back)
        block = new.blocks.append(*types)
        with ir.InsertionPoint(block):
            call = ir.Operation.create(
                "func.call",
                results=results,
                operands=list(block.arguments),
                attributes={"callee": ir.FlatSymbolRefAttr.get(name)},
            )
            ir.Operation.create("tfl.yield", operands=list(call.results))
    for old_result, new_result in zip(loop.results, outlined.results, strict=False):
        old_result.replace_all_uses_with(new_result)
    loop.erase()


def _values_from_outside(loop: ir.Operation) -> list[ir.Value]:
    found: list[ir.Value] = []
    for region in loop.regions:
        block = region.blocks[0]
        inside = {*block.arguments, *(r for o in block.operations for r in o.results)}
        for operation in block.operations:
            found += [v for v in operation.operands if v not in inside and v not in found]
    return found
