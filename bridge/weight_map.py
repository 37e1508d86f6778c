"""The weight map: which PyTorch tensor is which Keras variable, and how one becomes the other.

A map is a list of `Rule`s expanded from the configuration: torch key ↔ Keras path ↔ `IDENTITY` or
`TRANSPOSE` (a Linear's weight is (out, in), a Dense's kernel (in, out)). Nothing is reshaped to
make it fit. The audit refuses an unused torch key, an unassigned Keras variable, a double
assignment, and any difference in shape or dtype, before a single value is copied. A square matrix
left untransposed passes all of that: only parity catches it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.weights.port import build_original, build_twin, torch_arrays
from signbart.checksums import add_checksum_argument
from signbart.console import print_table, program_name, run_command
from signbart.errors import WeightMapError
from signbart.weights.port import audit, keras_variables

if TYPE_CHECKING:
    from torch import nn


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m bridge.weight_map"),
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
    add_checksum_argument(parser)
    options = parser.parse_args(arguments)
    if options.action is None and options.checkpoint is None:
        parser.error("give --checkpoint to print its map, or an action: to-keras, to-torch")
    if options.action and options.target is None:
        parser.error(f"{options.action} needs IN and OUT")
    if options.action and options.checkpoint:
        parser.error(f"--checkpoint prints a map; {options.action} takes IN and OUT")
    if options.action == "to-torch" and (options.config or options.labels):
        parser.error("to-torch takes no --config or --labels: Keras checkpoints carry their own")

    from signbart_tf.models.framework import import_tensorflow

    import_tensorflow()
    if options.action == "to-torch":
        count = _convert_to_torch(options.source, options.target)
    else:
        from bridge.weights.source import read_labels
        from signbart.configuration.reading import load_config
        from signbart_torch.training.checkpoint import load_model

        model, config, class_names = load_model(
            options.source or options.checkpoint,
            load_config(options.config) if options.config else None,
            read_labels(options.labels),
            checksum=options.checksum,
        )
        if options.action is None:
            _print_map(model)
            return 0
        from signbart.training.progress import progress_of_best
        from signbart.weights.stored import read_progress
        from signbart_tf.training.checkpoint import save_checkpoint

        progress = progress_of_best(read_progress(options.source))
        save_checkpoint(build_twin(model), config, class_names, options.target, progress=progress)
        count = len(model.state_dict())
    print(f"wrote {options.target}: {count} tensors, each assigned once")
    return 0


def _convert_to_torch(source: str, target: str) -> int:
    """How many tensors it wrote."""
    from signbart.training.progress import progress_of_best
    from signbart_tf.training.checkpoint import load_checkpoint
    from signbart_torch.training.checkpoint import Checkpoint, save_checkpoint

    if not target.endswith(".safetensors"):
        raise WeightMapError(f"{target}: PyTorch checkpoints are written as .safetensors")
    trained = load_checkpoint(source)
    model = build_original(trained.model)
    # Whom it was tested on, among others; but no state to train on from, whose optimizer stays
    # behind.
    progress = progress_of_best(trained.progress)
    checkpoint = Checkpoint(model.state_dict(), trained.config, trained.class_names, progress)
    save_checkpoint(checkpoint, Path(target))
    return len(model.state_dict())


def _print_map(model: nn.Module) -> None:
    from signbart.weights.rules import rules_of
    from signbart_tf.models import new_model

    rules, arrays = rules_of(model.config), torch_arrays(model)
    variables = keras_variables(new_model(model.config), rules)
    audit(rules, arrays, {path: v.numpy() for path, v in variables.items()})
    print_table(
        f"{len(rules)} tensors, {sum(array.size for array in arrays.values()):,} parameters",
        ["torch key", "shape", "transform", "shape in Keras", "Keras path"],
        [
            [
                rule.torch_key,
                arrays[rule.torch_key].shape,
                rule.transform,
                tuple(variables[rule.keras_path].shape) if rule.keras_path else "none",
                rule.keras_path,
            ]
            for rule in rules
        ],
    )


if __name__ == "__main__":
    run_command(main)
