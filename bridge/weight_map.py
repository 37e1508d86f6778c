"""The weight map: which PyTorch tensor is which Keras variable, and how one becomes the other.

A map is a list of `Rule`s expanded from the configuration: torch key ↔ Keras path ↔ `IDENTITY` or
`TRANSPOSE` (a Linear's weight is (out, in), a Dense's kernel (in, out)). Nothing is reshaped to
make it fit. The audit refuses an unused torch key, an unassigned Keras variable, a double
assignment, and any difference in shape or dtype, before a single value is copied. A square matrix
left untransposed passes all of that: only parity catches it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bridge.errors import WeightMapError
from signbart.console import print_table, run_command

if TYPE_CHECKING:
    import keras
    from torch import nn

    from signbart.config import ModelConfig

IDENTITY, TRANSPOSE = "IDENTITY", "TRANSPOSE"


@dataclass(frozen=True)
class Rule:
    """One tensor on both sides."""

    torch_key: str
    keras_path: str
    transform: str

    def apply(self, array: np.ndarray) -> np.ndarray:
        """One side's array as the other's; both transforms are their own inverse."""
        return np.ascontiguousarray(array.T) if self.transform == TRANSPOSE else array


def _linear(torch_name: str, keras_name: str) -> list[Rule]:
    return [
        Rule(f"{torch_name}.weight", f"{keras_name}/kernel", TRANSPOSE),
        Rule(f"{torch_name}.bias", f"{keras_name}/bias", IDENTITY),
    ]


def _layer_norm(torch_name: str, keras_name: str) -> list[Rule]:
    return [
        Rule(f"{torch_name}.weight", f"{keras_name}/gamma", IDENTITY),
        Rule(f"{torch_name}.bias", f"{keras_name}/beta", IDENTITY),
    ]


def _stack(side: str, layers: int, attentions: Sequence[str]) -> list[Rule]:
    """The encoder or the decoder, whose layers differ in their attentions only."""
    rules = [
        Rule(
            f"{side}.embed_positions.weight",
            f"{side}/embed_positions/embeddings",
            IDENTITY,
        ),
        *_layer_norm(f"{side}.layernorm_embedding", f"{side}/layernorm_embedding"),
    ]
    for i in range(layers):
        torch_layer, keras_layer = f"{side}.layers.{i}", f"{side}/layers/{i}"
        for attention in attentions:
            for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                rules += _linear(
                    f"{torch_layer}.{attention}.{projection}",
                    f"{keras_layer}/{attention}/{projection}",
                )
        for linear in ("fc1", "fc2"):
            rules += _linear(f"{torch_layer}.{linear}", f"{keras_layer}/{linear}")
        for norm in (*(f"{name}_layer_norm" for name in attentions), "final_layer_norm"):
            rules += _layer_norm(f"{torch_layer}.{norm}", f"{keras_layer}/{norm}")
    return rules


def signbart_rules(config: ModelConfig) -> list[Rule]:
    """The map of a SignBART of this size."""
    return [
        *_linear("projection.proj_x1", "projection/proj_x1"),
        *_linear("projection.proj_y1", "projection/proj_y1"),
        *_stack("encoder", config.encoder_layers, ("self_attn",)),
        *_stack("decoder", config.decoder_layers, ("self_attn", "encoder_attn")),
        *_linear("classification_head.out_proj", "classification_head/out_proj"),
    ]


def keras_variables(model: keras.Model, rules: Sequence[Rule]) -> dict[str, keras.Variable]:
    """The model's weights by attribute path; those that no rule reaches by Keras's own path.

    Attribute paths are what both implementations share, and what .weights.h5 files are laid out by;
    Keras's own depend on the order in which things were built.
    """
    reached = {}
    for rule in rules:
        found: object = model
        for step in rule.keras_path.split("/"):
            if step.isdigit():
                found = found[int(step)] if int(step) < len(found) else None
            else:
                found = getattr(found, step, None)
            if found is None:
                break
        else:
            reached[rule.keras_path] = found
    paths: dict[int, str] = {}
    for path, variable in reached.items():
        other = paths.setdefault(id(variable), path)
        if other != path:
            raise WeightMapError(
                f"the weight map does not fit:\n  {other} and {path} are one Keras variable"
            )
    known = set(paths)
    missed = {v.path: v for v in model.weights if id(v) not in known}
    return reached | missed


def audit(
    rules: Sequence[Rule],
    torch_tensors: Mapping[str, np.ndarray],
    keras_tensors: Mapping[str, np.ndarray],
) -> None:
    """Checks that the map pairs both sides completely, once each, with equal shapes and dtypes.

    Raises:
        WeightMapError: It does not; the message lists everything that is wrong.
    """
    problems = []
    for side, names, tensors in (
        ("torch key", [rule.torch_key for rule in rules], torch_tensors),
        ("Keras variable", [rule.keras_path for rule in rules], keras_tensors),
    ):
        problems += [f"{side} {n} is not in the map" for n in tensors if n not in set(names)]
        problems += [f"{side} {n} does not exist" for n in names if n not in tensors]
        problems += [f"{side} {n} is mapped {k} times" for n, k in Counter(names).items() if k > 1]
    for rule in rules:
        if rule.torch_key in torch_tensors and rule.keras_path in keras_tensors:
            source, target = torch_tensors[rule.torch_key], keras_tensors[rule.keras_path]
            shape = source.shape[::-1] if rule.transform == TRANSPOSE else source.shape
            if shape != target.shape:
                problems.append(
                    f"{rule.torch_key} {source.shape} gives {shape} by {rule.transform}, but "
                    f"{rule.keras_path} is {target.shape}"
                )
            if source.dtype != target.dtype:
                problems.append(
                    f"{rule.torch_key} is {source.dtype}, but {rule.keras_path} is {target.dtype}"
                )
    if problems:
        shown = "\n  ".join(problems[:8])
        more = f"\n  … and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise WeightMapError(f"the weight map does not fit:\n  {shown}{more}")


def torch_to_keras(
    rules: Sequence[Rule], tensors: Mapping[str, np.ndarray], model: keras.Model
) -> None:
    """Copies a PyTorch state dict (as arrays) into a Keras model, after an `audit`."""
    variables = keras_variables(model, rules)
    audit(rules, tensors, {path: v.numpy() for path, v in variables.items()})
    for rule in rules:
        variables[rule.keras_path].assign(rule.apply(tensors[rule.torch_key]))


def keras_to_torch(
    rules: Sequence[Rule], model: keras.Model, tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """A Keras model's weights under their torch keys, after an `audit`.

    Args:
        rules: The map.
        model: Where the values come from.
        tensors: The state dict that they are for; only its keys, shapes and dtypes are read.
    """
    values = {path: v.numpy() for path, v in keras_variables(model, rules).items()}
    audit(rules, tensors, values)
    by_key = {rule.torch_key: rule.apply(values[rule.keras_path]) for rule in rules}
    return {key: by_key[key] for key in tensors}


def torch_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """A PyTorch model's state dict as arrays, by torch key."""
    return {key: tensor.numpy() for key, tensor in model.state_dict().items()}


def build_twin(model: nn.Module) -> keras.Model:
    """The Keras twin of a PyTorch model, with its weights."""
    from bridge.models import model_of

    row = model_of(model.config)
    twin = row.build_keras(model.config)
    torch_to_keras(row.rules(model.config), torch_arrays(model), twin)
    return twin


def build_original(twin: keras.Model) -> nn.Module:
    """The PyTorch model of a Keras twin, with its weights, in inference mode."""
    import torch

    from bridge.models import model_of
    from signbart_torch.networks import new_model

    model = new_model(twin.config)
    rules = model_of(twin.config).rules(twin.config)
    arrays = keras_to_torch(rules, twin, torch_arrays(model))
    model.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    return model.eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bridge.weight_map",
        description="Print the map between PyTorch and Keras weights, or convert a checkpoint by "
        "it: to-keras CKPT OUT.keras|OUT.weights.h5, to-torch IN.keras|IN.weights.h5 "
        "OUT.safetensors.",
    )
    parser.add_argument(
        "action", nargs="?", choices=("to-keras", "to-torch"), help="without it the map is printed"
    )
    parser.add_argument("source", nargs="?", metavar="IN", help="the checkpoint to convert")
    parser.add_argument("target", nargs="?", metavar="OUT", help="the checkpoint to write")
    parser.add_argument("--checkpoint", metavar="CKPT", help="print the map of this checkpoint")
    parser.add_argument("--config", metavar="YAML", help="configuration of a published .pth")
    parser.add_argument("--labels", metavar="JSON", help="label2id.json of a published .pth")
    options = parser.parse_args(arguments)
    if options.action is None and options.checkpoint is None:
        parser.error("give --checkpoint to print its map, or an action: to-keras, to-torch")
    if options.action and options.target is None:
        parser.error(f"{options.action} needs IN and OUT")
    if options.action and options.checkpoint:
        parser.error(f"--checkpoint prints a map; {options.action} takes IN and OUT")
    if options.action == "to-torch" and (options.config or options.labels):
        parser.error("to-torch takes no --config or --labels: Keras checkpoints carry their own")

    from signbart_tf.train import import_tensorflow

    import_tensorflow()
    if options.action == "to-torch":
        count, target = _convert_to_torch(options.source, options.target)
    else:
        from bridge.checkpoints import read_labels
        from signbart.config import load_config
        from signbart_torch.checkpoint import load_model

        model, config, class_names = load_model(
            options.source or options.checkpoint,
            load_config(options.config) if options.config else None,
            read_labels(options.labels),
        )
        if options.action is None:
            _print_map(model)
            return 0
        from signbart_tf.checkpoint import save_checkpoint

        save_checkpoint(build_twin(model), config, class_names, options.target)
        count, target = len(model.state_dict()), options.target
    print(f"wrote {target}: {count} tensors, each assigned once")
    return 0


def _convert_to_torch(source: str, target: str) -> tuple[int, str]:
    from signbart_tf.checkpoint import load_checkpoint
    from signbart_torch.checkpoint import Checkpoint, save_checkpoint

    if not target.endswith(".safetensors"):
        raise WeightMapError(f"{target}: PyTorch checkpoints are written as .safetensors")
    trained = load_checkpoint(source)
    model = build_original(trained.model)
    # Whom it was tested on, among others; but no state to train on from, whose optimizer stays
    # behind.
    kept = ("epoch", "best", "recordings", "start")
    progress = {key: trained.progress[key] for key in kept if key in trained.progress}
    checkpoint = Checkpoint(model.state_dict(), trained.config, trained.class_names, progress)
    save_checkpoint(checkpoint, Path(target))
    return len(model.state_dict()), target


def _print_map(model: nn.Module) -> None:
    from bridge.models import model_of

    row = model_of(model.config)
    rules, arrays = row.rules(model.config), torch_arrays(model)
    variables = keras_variables(row.build_keras(model.config), rules)
    audit(rules, arrays, {path: v.numpy() for path, v in variables.items()})
    print_table(
        f"{len(rules)} tensors, {sum(array.size for array in arrays.values()):,} parameters",
        ["torch key", "shape", "transform", "shape in Keras", "Keras path"],
        [
            [
                rule.torch_key,
                arrays[rule.torch_key].shape,
                rule.transform,
                tuple(variables[rule.keras_path].shape),
                rule.keras_path,
            ]
            for rule in rules
        ],
    )


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()
