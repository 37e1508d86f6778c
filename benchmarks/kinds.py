"""How long one clip takes by configurations of any kind of model, side by side, scheme by scheme.

    python -m benchmarks.kinds configs/isl_kinect30.yaml configs/conv_signbart.yaml \
        --set data.max_frames=48

Weights are random, for the arithmetic does not depend on them. All .tflite files take turns, one
thread; ratios are to the first configuration's first scheme.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bridge.quantization.schemes import FLOAT, select_schemes
from bridge.routes import ROUTES
from signbart.configuration.reading import load_config
from signbart.console import at_least, markdown_table, redirect_output, run_command
from signbart.timing import interleaved, machine_name

COLUMNS = ("model", "scheme", "parameters", "bytes", "ms", "10 % … 90 %", "ratio")
_CLASSES = 30
_CLIPS = 100  # that calibration takes, of random numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports, times, prints one Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kinds", description=__doc__)
    parser.add_argument("configs", nargs="+", metavar="YAML")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--quantize", nargs="+", default=[f"{FLOAT},dynamic_int8,int8"])
    parser.add_argument("--route", choices=ROUTES, default="litert")
    parser.add_argument("--rounds", type=at_least(1), default=200)
    options = parser.parse_args(arguments)

    from benchmarks.latency_calls import random_inputs, random_model, tflite_call
    from bridge.quantization.quantizer import quantize
    from signbart.artifacts.compaction import compact
    from signbart.models import io_spec, kind_of
    from signbart.training.calibration import calibrate_on_noise
    from signbart_torch.models import num_parameters

    calls, facts = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(options.configs):
            config = load_config(path, [f"model.num_labels={_CLASSES}", *options.set])
            model = random_model(config)
            plain = Path(folder) / f"{number}.tflite"
            calibration = calibrate_on_noise(config, count=_CLIPS, seed=0)
            for scheme in select_schemes([FLOAT, *options.quantize]):
                file = plain
                with redirect_output(Path(folder) / "log"):
                    if scheme.name == FLOAT:
                        ROUTES[options.route].export(model, io_spec(config), {".tflite": plain})
                        compact(plain)
                    else:
                        file = plain.with_suffix(f".{scheme.name}.tflite")
                        operators = kind_of(config.model).quantized_operators
                        quantize(plain, scheme, file, calibration, operators=operators)
                name = config.name, scheme.name
                calls[name] = tflite_call(file, random_inputs(config), 1)
                facts[name] = f"{num_parameters(model):,}", f"{file.stat().st_size:,}"
        times = interleaved(calls, rounds=options.rounds)
    first = next(iter(times.values())).median
    rows = [
        [*name, *facts[name], f"{t.median:.3f}", f"{t.low:.3f} … {t.high:.3f}",
         f"{t.median / first:.2f}"]
        for name, t in times.items()
    ]  # fmt: skip
    print(markdown_table(COLUMNS, rows))
    print(f"{machine_name()}; one thread")
    return 0


if __name__ == "__main__":
    run_command(main)
