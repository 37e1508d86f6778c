"""``python -m signbart_runtime.loso``: from recordings to verified artifacts, one fold a signer.

A fold ``OUTPUT/<signer>`` is a run folder, trained in PyTorch or in Keras, with ``exports/`` beside
the checkpoints: every route and scheme, judged on the signer that was not trained on. With
``--qat`` two more runs stand in it, ``qat_dynamic/`` and ``qat_static/``, each with its own
``exports/``. Every model is evaluated on that signer (``evaluation/``), every .tflite timed
(``latency.json``). `signbart_runtime.book.results` reads all of it, and the results report of it
goes to ``OUTPUT/report``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge.quantization.schemes import select_schemes
from bridge.routes import select_routes
from signbart.console import program_name, run_command
from signbart.engines.options import engine_of
from signbart.files import make_folder, write_text
from signbart.training.folds import (
    ALL,
    add_fold_arguments,
    check_folds,
    run_folds,
    select_signers,
)
from signbart.training.frameworks import FRAMEWORKS
from signbart_runtime.folds.layout import COMMAND

REPORT = "report"  # the results report's folder; no signer's, for signers hold exports


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every artifact agrees, 1 if not."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_runtime.loso"),
        description="For each signer train a model without that signer, convert it by every route, "
        "quantize it, and judge all of that on the signer left out; then write a report. With "
        "--resume what is finished is kept.",
    )
    add_fold_arguments(parser)
    parser.add_argument(
        "--framework",
        default="torch",
        choices=FRAMEWORKS,
        help="what trains (default: %(default)s)",
    )
    parser.add_argument(
        "--full-data",
        action="store_true",
        help="instead train one model on every signer, for shipping; judged on clips marked test "
        "if there are any, else on validation clips",
    )
    parser.add_argument(
        "--routes", default="all", help="by commas: litert, onnx, keras (default: %(default)s)"
    )
    parser.add_argument(
        "--schemes", default="all", help="by commas: fp32, int8 and so on (default: %(default)s)"
    )
    parser.add_argument(
        "--qat", action="store_true", help="train each on, once for dynamic_int8, once for int8"
    )
    parser.add_argument(
        "--qat-epochs", type=int, default=10, metavar="N", help="of --qat (default: %(default)s)"
    )
    options = parser.parse_args(arguments)

    from signbart.configuration.reading import load_config
    from signbart.errors import ConfigError
    from signbart.recordings.options import data_source, read_data
    from signbart.training.options import print_skipped
    from signbart.training.requirements import require_trainable
    from signbart_runtime.book.printing import report
    from signbart_runtime.folds.fold import Fold
    from signbart_runtime.folds.fold_latency import measure_latency

    engine = engine_of(options)
    if (options.jobs is not None and options.jobs < 1) or options.qat_epochs < 1:
        raise ConfigError("--jobs and --qat-epochs must be at least 1")
    if options.full_data and options.signers:
        raise ConfigError("--full-data trains on every signer; drop --signers")
    routes = tuple(route.name for route in select_routes([options.routes]))
    schemes = tuple(scheme.name for scheme in select_schemes([options.schemes]))
    config = load_config(options.config, options.overrides)
    clips = read_data(options, layout=config.data.landmark_layout)
    signers = [ALL]
    if not options.full_data:
        signers = select_signers(clips, options.signers, options.data)
    output, framework = Path(options.output), FRAMEWORKS[options.framework]
    require_trainable(config, framework)
    check_folds(
        output,
        signers,
        clips,
        config,
        options.resume,
        framework=framework,
        load=framework.module().load_checkpoint,
    )
    folds = [
        Fold(
            framework=framework,
            clips=clips,
            config=config,
            folder=output / name,
            test_signers=() if options.full_data else (name,),
            data=data_source(options, options.data),
            routes=routes,
            schemes=schemes,
            qat_epochs=options.qat_epochs if options.qat else 0,
            device=options.device,
            # Whatever cores parallel folds leave.
            conversions=options.cpus_per_task
            or max(1, (os.cpu_count() or 1) // (options.jobs or 1)),
        )
        for name in signers
    ]
    for fold in folds:
        fold.check_calibration()
    print_skipped(clips.skipped)
    make_folder(output)
    given = sys.argv[1:] if arguments is None else arguments
    write_text(output / COMMAND, f"{parser.prog} {shlex.join(given)}\n")
    for _ in run_folds(folds, options.jobs, framework, engine=engine, output=output, names=signers):
        pass
    # Alone, behind all else: nothing that runs beside it disturbs the clock.
    for name in signers:
        measure_latency(output / name, clips.select([0]))
    return report([output], output / REPORT)


if __name__ == "__main__":
    run_command(main)
