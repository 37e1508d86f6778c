"""``python bridge/export_models.py``: `bridge.conversion.published` does the work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:
    # Run as `python bridge/export_models.py`: Python put bridge/ first on the path, and the
    # project's root belongs there.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bridge.errors import BridgeError
from bridge.options import add_quantization_arguments, add_raw_frames_argument, quantization_options
from bridge.quantization.schemes import select_schemes
from bridge.routes import ROUTES, get_route
from signbart.checksums import add_checksum_argument
from signbart.console import (
    at_least,
    cell,
    next_command,
    print_table,
    printable,
    program_name,
    run_command,
)
from signbart.engines.options import add_engine_arguments, engine_of
from signbart.models import MODEL_KINDS
from signbart.models.kind import ModelKind
from signbart.recordings.options import add_reading_arguments, data_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every file is within its limits, 1 if not."""
    options = _parser().parse_args(arguments)
    schemes = select_schemes([options.quantize])
    engine = engine_of(options)

    from bridge.conversion.published import LOG, RESULTS, export_models
    from bridge.weights.source import read_published_source
    from signbart_torch.models import num_parameters

    chosen, skipped = _choose(options)
    sources = [
        read_published_source(
            kind,
            path,
            sequence_length=options.sequence_length,
            input_shape=options.input_shape,
            classes=options.classes,
            attention_heads=options.attention_heads,
            pooling=options.pooling,
            checksum=options.checksum,
        )
        for kind, path in chosen.items()
    ]
    for kind, reason in skipped.items():
        print(f"skipped {kind}: {reason}")
    for source in sources:
        model = source.config.model
        print(
            f"{source.kind.name}: {num_parameters(source.model):,} "
            f"parameters, {model.num_features} numbers a frame, {source.config.data.max_frames} "
            f"frames, {model.num_labels} classes, {model.num_categories} categories"
            f"{_believed(model)}, from {source.checkpoint}",
            flush=True,
        )
    made = export_models(
        sources,
        options.output_dir,
        schemes=schemes,
        route=options.route and get_route(options.route).name,
        quantization=quantization_options(options),
        verify=not options.no_verify,
        data=data_source(options, options.data),
        skipped=skipped,
        verbose=options.verbose,
        raw_frames=options.raw_frames,
        jobs=options.jobs or (None if options.engine == "ray" else 1),
        engine=engine,
        report=lambda artifact: print(
            f"  {artifact.parity.artifact}: {artifact.parity.verdict}, {artifact.seconds:.1f} s",
            flush=True,
        ),
    )
    artifacts = [artifact for of_model in made.values() for artifact in of_model]
    _print_table(artifacts)
    output = Path(options.output_dir)
    print(f"wrote {output / RESULTS}; the converters' output is in {output / LOG}")
    wrong = [artifact for artifact in artifacts if not artifact.parity.passed]
    for artifact in wrong:
        parity = artifact.parity
        reason = " ".join(parity.reason.split())  # converters explain themselves at length
        text = f"error: {parity.artifact}: {parity.verdict}: {reason}"
        print(printable(text), file=sys.stderr)
    if wrong:
        return 1
    print("next:")
    print(f"  {next_command('signbart_runtime.describe')} {artifacts[0].path}")
    return 0


def _believed(model: Any) -> str:
    """What a .pt does not tell, so that who was not asked sees it; empty where there is nothing."""
    heads, pooling = (getattr(model, name, None) for name in ("attention_heads", "pooling"))
    return f", {heads} heads, {pooling} pooling" if heads and pooling else ""


def _offered() -> list[ModelKind]:
    return [model for model in MODEL_KINDS.values() if model.published]


def _parser() -> argparse.ArgumentParser:
    routes = "\n".join(f"  {route.name:8} {route.description}" for route in ROUTES.values())
    parser = argparse.ArgumentParser(
        prog=program_name("python bridge/export_models.py"),
        description="Export a sign Transformer and a MediaPipe GRU from their PyTorch checkpoints "
        "to .tflite and\n.onnx, and compare every file with PyTorch. By default it takes what lies "
        "in the current folder.",
        epilog=f"routes:\n{routes}\n\n"
        "exit status: 0 exported and within its limits (docs/other_models.md), 1 not, 2 bad input",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for model in _offered():
        parser.add_argument(
            f"--{model.published.option}",
            metavar="FILE",
            help=f"{model.title}: .pt, .pth, or .safetensors of signbart train (default: "
            f"{model.published.file}, if it exists)",
        )
    parser.add_argument(
        "--sequence-length",
        type=at_least(1),
        metavar="T",
        help="frames of the .tflite (default: 300, or what a .safetensors says)",
    )
    parser.add_argument(
        "--output-dir", default="exports", metavar="FOLDER", help="default: %(default)s"
    )
    parser.add_argument(
        "--route", metavar="NAME", help="default: the one that suits the model best"
    )
    parser.add_argument(
        "--quantize",
        default="fp16,fp32",
        metavar="SCHEMES",
        help="schemes of the .tflite, separated by commas, or all (default: %(default)s)",
    )
    parser.add_argument("--no-verify", action="store_true", help="do not compare with PyTorch")
    parser.add_argument(
        "--data", metavar="PATH", help="recordings to compare on (default: synthetic signs)"
    )
    add_reading_arguments(parser)
    parser.add_argument(
        "--input-shape",
        type=_shape,
        metavar="1,T,F",
        help="the shape that the models must have, instead of --sequence-length",
    )
    parser.add_argument(
        "--classes", type=at_least(1), metavar="C", help="the classes that the models must have"
    )
    parser.add_argument(
        "--attention-heads",
        type=at_least(1),
        metavar="H",
        help="attention heads of a Transformer's .pt, which its tensors do not tell (default: 8)",
    )
    parser.add_argument(
        "--pooling",
        choices=("mean", "max", "cls"),
        help="what a Transformer's .pt does to its frames, which its tensors do not tell (default: "
        "mean)",
    )
    add_quantization_arguments(parser)
    add_raw_frames_argument(parser)
    add_checksum_argument(parser)
    parser.add_argument(
        "--jobs",
        type=at_least(1),
        metavar="N",
        help="routes at a time, of either model, in processes of their own if more than one "
        "(default: 1; with --engine ray as many as there is room for)",
    )
    add_engine_arguments(parser, "routes")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the converters' output")
    return parser


def _shape(text: str) -> tuple[int, int]:
    """An argparse type: ``1,300,178`` as (300, 178)."""
    sizes = tuple(int(part) for part in text.split(","))
    if len(sizes) != 3 or min(sizes) < 1 or sizes[0] != 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1,T,F, such as 1,300,178")
    return sizes[1:]


_shape.__name__ = "shape 1,T,F"


def _choose(options: argparse.Namespace) -> tuple[dict[str, Path], dict[str, str]]:
    """Kind -> checkpoint, and kind -> why there is none."""
    chosen, skipped = {}, {}
    for model in _offered():
        option, default = model.published.option, model.published.file
        given = getattr(options, option)
        path = Path(given or default)
        if path.is_file():
            chosen[model.name] = path
        elif given:
            raise BridgeError(f"--{option} {path}: no such file; correct the path")
        else:
            skipped[model.name] = f"no {default} in {Path.cwd()}; give --{option} FILE"
    if not chosen:
        names = " nor ".join(model.published.file for model in _offered())
        ways = " or ".join(f"--{model.published.option} FILE" for model in _offered())
        raise BridgeError(f"neither {names} in {Path.cwd()}; go to their folder, or give {ways}")
    if options.input_shape and options.sequence_length not in (None, options.input_shape[0]):
        raise BridgeError(
            f"--input-shape says {options.input_shape[0]} frames and --sequence-length "
            f"{options.sequence_length}; give one of them"
        )
    return chosen, skipped


def _print_table(artifacts: Sequence) -> None:
    rows = []
    for artifact in artifacts:
        parity, path = artifact.parity, artifact.path
        rows.append(
            [
                parity.artifact,
                artifact.route,
                f"{path.stat().st_size:,}" if path else "none",
                f"{artifact.seconds:.1f}",
                sum(artifact.operators.values()) or "none",
                cell(parity.cosine, ".7f"),
                cell(parity.max_abs, ".1e"),
                parity.verdict,
            ]
        )
    columns = ["file", "route", "bytes", "seconds", "operators", "cosine", "max Δ", "verdict"]
    print_table("", columns, rows)


if __name__ == "__main__":
    run_command(main)
