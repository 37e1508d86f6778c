"""How far sound quantized exports are from each of SignBART's layers: what `layer_rms` rests on.

``python -m benchmarks.layer_limits CHECKPOINT … --data PATH --output FOLDER``

Each checkpoint is converted by the litert route and quantized; what passes all of the verdict's
other limits is sound, and its layers are compared with PyTorch's on recorded clips. A folder that
is there already is not converted again, and runs of several data sets into one FOLDER are counted
together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.verification.computed import ONE_QUERY, PRODUCT, PROJECTIONS
from bridge.verification.limits import load_limits
from bridge.verification.verdict import PASS
from signbart.console import markdown_table, print_table, run_command
from signbart.files import make_folder, write_text

_LAYERS = "layers.json"
_CLIPS = 4  # as many as a verdict that fails is looked into, and one more
_COLUMNS = ("scheme", "exports", "median", "99 %", "highest", "layer", "limit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer_limits")
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--data", required=True, metavar="PATH", help="what they were trained on")
    parser.add_argument("--output", required=True, metavar="FOLDER")
    options = parser.parse_args(arguments)
    output = Path(options.output)
    for number, checkpoint in enumerate(options.checkpoints, 1):
        target = output / "-".join(Path(checkpoint).resolve().parent.parts[1:])
        if not (target / _LAYERS).exists():
            print(f"{number} of {len(options.checkpoints)}: {checkpoint}", flush=True)
            make_folder(target)
            found = _measure(checkpoint, options.data, target)
            write_text(target / _LAYERS, json.dumps(found))
    exports = [json.loads(path.read_text()) for path in sorted(output.glob(f"*/{_LAYERS}"))]
    rows = _rows(exports)
    title = f"error of a layer over the root mean square of its numbers; {len(exports)} checkpoints"
    print_table(title, _COLUMNS, rows)
    write_text(output / "layer_limits.md", f"{title}\n\n{markdown_table(_COLUMNS, rows)}")
    return 0


def _measure(checkpoint: str, data: str, target: Path) -> dict[str, dict[str, float]]:
    """By scheme and layer the largest error on any clip; what is not sound is left out."""
    from bridge import convert
    from bridge.conversion.quantized import QuantizationOptions
    from bridge.verification.computed import reference_layers, tflite_tensors
    from bridge.verification.samples import make_samples
    from bridge.weights.source import read_source
    from signbart.models.io_spec import ATTENTION_MASK
    from signbart.recordings.data_source import read_recordings

    schemes = tuple(name for name in SCHEMES if name != FLOAT)
    artifacts = convert(
        checkpoint, target, quantization=QuantizationOptions(schemes=schemes), data=data
    )
    source = read_source(checkpoint)
    samples = make_samples(source.config, clips=read_recordings(data))
    recorded = [sample for sample in samples if sample.recorded]
    longest = sorted(recorded, key=lambda sample: -int(sample.inputs[ATTENTION_MASK].sum()))
    found: dict[str, dict[str, float]] = {}
    for artifact in artifacts:
        if artifact.parity.verdict != PASS or artifact.scheme == FLOAT:
            continue
        worst = found.setdefault(artifact.scheme, {})
        for sample in longest[:_CLIPS]:
            tensors = tflite_tensors(artifact.path, sample.inputs)
            errors = _errors(reference_layers(source.model, sample.inputs), tensors)
            for layer, error in errors.items():
                worst[layer] = max(worst.get(layer, 0.0), error)
    return found


def _errors(layers: Mapping[str, np.ndarray], tensors: Sequence[np.ndarray]) -> dict[str, float]:
    """By layer what `divergence.first_divergence` holds to its `rms`, of the nearest tensor.

    The projections, which no export has by themselves, are left out.
    """
    errors: dict[str, float] = {}
    for name, values in layers.items():
        layer = name.removesuffix(ONE_QUERY)
        if name.endswith(PRODUCT) or layer in PROJECTIONS:
            continue
        known = np.isfinite(values)
        power = np.square(values[known], dtype=np.float64).sum()
        for tensor in tensors:
            if tensor.size == values.size:
                off = tensor.reshape(values.shape)[known] - values[known]
                error = float(np.sqrt(np.square(off, dtype=np.float64).sum() / power))
                errors[layer] = min(errors.get(layer, np.inf), error)
    return errors


def _rows(exports: Sequence[dict[str, dict[str, float]]]) -> list[list[str]]:
    """Of each scheme, from the largest error of each export."""
    rows = []
    for scheme in SCHEMES:
        sound = [export[scheme] for export in exports if export.get(scheme)]
        if not sound:
            continue
        worst = [max(layers.values()) for layers in sound]
        highest = sound[int(np.argmax(worst))]
        shares = [f"{np.percentile(worst, share):.4f}" for share in (50, 99, 100)]
        layer = max(highest, key=highest.__getitem__)
        limit = str(load_limits(scheme).layer_rms)
        rows.append([scheme, str(len(sound)), *shares, layer, limit])
    return rows


if __name__ == "__main__":
    run_command(main)
