"""Leave-one-signer-out, whatever the framework: a fold a signer, side by side, and their table.

Each fold is a run folder ``OUTPUT/<signer>``; finished folds are not trained again. All folds of a
folder are one run: one framework, one configuration, the same recordings. The table and
``summary.csv`` are made from the folds' ``results.json``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.console import print_table
from signbart.engines import Engine, run_tasks
from signbart.engines.options import add_engine_arguments, engine_of
from signbart.errors import ClipError, ConfigError
from signbart.files import make_folder, write_text
from signbart.json_text import read_json_file
from signbart.recordings.options import SignerNames
from signbart.training.options import add_run_arguments, print_skipped
from signbart.waiting import within

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet
    from signbart.training.frameworks import Framework

ALL = "all"  # the one fold of training on everybody
_SCORES = ("accuracy", "top5", "mean_class_accuracy")


def add_fold_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of training, of which folds, and of how many at a time."""
    add_run_arguments(parser, output="receives a folder for each fold, for example runs/NAME")
    parser.add_argument(
        "--signers",
        nargs="+",
        action=SignerNames,
        default=[],
        metavar="SIGNER",
        help="leave out only these signers in turn; @FILE reads them from a file, one a line "
        "(default: every signer)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="folds at a time, one thread each if more than one (default: 1; with --engine ray as "
        "many as there is room for)",
    )
    add_engine_arguments(parser, "folds")


def train_folds(
    options: argparse.Namespace,
    framework: Framework,
    *,
    train: Callable[..., dict[str, Any]],
    load: Callable[[Path], Any],
    of_fold: Callable[[str], dict[str, Any]] = lambda signer: {},
    identity: Callable[[str], dict[str, Any]] = lambda signer: {},
    seeds: Sequence[int] = (),
) -> None:
    """Trains the folds of a command line, and prints and writes the table of all in the folder.

    The folds of all seeds are tasks of one engine, so that they share its machines.

    Args:
        options: Of `add_fold_arguments`.
        framework: Trains.
        train: Its ``learner.train``, picklable.
        load: Reads its checkpoints.
        of_fold: What `train` takes besides, by the signer that is left out; called before anything
            is trained.
        identity: What tells that fold from others of its recordings; see `find_run`.
        seeds: Each is a run of its own, in a folder ``seed_<seed>``; without any, one run with the
            configuration's.

    Raises:
        ConfigError: The framework does not train that, the folder holds folds already and --resume
            is not given, or other runs.
        ClipError: The signers do not fit.
    """
    from signbart.configuration.reading import load_config
    from signbart.recordings.options import read_data
    from signbart.training.requirements import require_trainable

    engine = engine_of(options)
    if options.jobs is not None and options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: it must be at least 1")
    config = load_config(options.config, options.overrides)
    require_trainable(config, framework)
    clips = read_data(options, layout=config.data.landmark_layout)
    signers = select_signers(clips, options.signers, options.data)
    output = Path(options.output)
    besides = {signer: of_fold(signer) for signer in signers}
    # Folder -> configuration.
    runs = {
        output / f"seed_{seed}": load_config(
            options.config, [*options.overrides, f"train.seed={seed}"]
        )
        for seed in seeds
    } or {output: config}
    for folder, one in runs.items():
        check_folds(
            folder,
            signers,
            clips,
            one,
            options.resume,
            framework=framework,
            load=load,
            identity=identity,
        )
    print_skipped(clips.skipped)
    for folder in runs:
        make_folder(folder)
    folds = {
        str((folder / signer).relative_to(output)): partial(
            train,
            clips,
            one,
            folder / signer,
            test_signers=[signer],
            resume=True,
            device=options.device,
            data_name=options.data,
            **besides[signer],
        )
        for folder, one in runs.items()
        for signer in signers
    }
    for name, results in run_folds(
        [*folds.values()], options.jobs, framework, engine=engine, output=output, names=[*folds]
    ):
        print(f"{name}: {results['test']['accuracy']:.2f} %", flush=True)
    for folder in runs:
        _summarise(folder)


def run_folds(
    folds: Sequence[Callable[[], dict[str, Any]]],
    jobs: int | None,
    framework: Framework,
    *,
    engine: Engine | None = None,
    output: Path | None = None,
    names: Sequence[str] = (),
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each fold's name and results as it ends.

    Args:
        folds: Picklable callables.
        jobs: How many run at a time; if more than one, each in a process of one thread.
        framework: Trains.
        engine: Runs them; see `run_tasks`.
        output: Holds their folders.
        names: What they are called; by default their numbers.

    Raises:
        SignBartError: A fold's process was killed.
    """
    names = names or [str(at) for at in range(1, len(folds) + 1)]
    said = (f"fold {at} of {len(folds)}, {name}" for at, name in enumerate(names, start=1))
    ended = run_tasks(
        [partial(within, what, fold) for what, fold in zip(said, folds, strict=True)],
        jobs,
        engine=engine,
        apart=framework.keeps_memory,
        threads=1 if jobs and jobs > 1 else None,
        name="fold",
        names=names,
        folder=output,
        # Folds go on from their checkpoints.
        remedy="go on with --resume, and fewer --jobs",
    )
    return ((names[at], results) for at, results in ended)


def check_folds(
    output: Path,
    names: Sequence[str],
    clips: ClipSet,
    config: RunConfig,
    resume: bool,
    *,
    framework: Framework,
    load: Callable[[Path], Any],
    identity: Callable[[str], dict[str, Any]] = lambda signer: {},
) -> None:
    """Whether the folds of a folder, those to be made among them, belong into one table.

    Args:
        output: The folder; it need not exist.
        names: Signers, or `ALL` alone.
        clips: All recordings.
        config: The run's configuration.
        resume: Whether folds of `names` may be there.
        framework: Trains.
        load: Reads its checkpoints.
        identity: What tells a fold from others of its recordings, by its name.

    Raises:
        ConfigError: There are such folds and `resume` was not asked for, or any that are of another
            framework or configuration, other recordings, or the other kind of training.
    """
    from signbart.training.progress import identify_recordings
    from signbart.training.requirements import with_labels
    from signbart.training.run_folder import find_run

    there = folds_in(output)
    if not resume and set(there) & set(names):
        raise ConfigError(f"{output} already holds folds; pass --resume to go on with them")
    if (ALL in there and [*names] != [ALL]) or (ALL in names and set(there) - {ALL}):
        raise ConfigError(
            f"{output} holds {', '.join(there)}: folds that leave a signer out and one trained on "
            "all are not one run; choose another --output"
        )
    for name in there:
        find_run(
            output / name,
            with_labels(config, clips),
            clips.class_names,
            {
                "recordings": identify_recordings(clips, [] if name == ALL else [name]),
                **identity(name),
            },
            True,
            framework=framework,
            load=load,
        )


def folds_in(output: Path) -> list[str]:
    """Names of the folds that have begun in a folder, of whatever framework, sorted."""
    from signbart.training.run_folder import holds_run

    return sorted(path.name for path in output.glob("*/") if holds_run(path))


def select_signers(clips: ClipSet, wanted: Sequence[str], data: str) -> list[str]:
    """The folds: the `wanted` signers, or all.

    Raises:
        ClipError: There is one signer only, or no clip by one that is wanted.
    """
    if len(clips.signer_names) < 2:
        raise ClipError(f"{data} has one signer; leave-one-signer-out needs at least two")
    unknown = sorted(set(wanted) - set(clips.signer_names))
    if unknown:
        raise ClipError(
            f"no clips by {unknown[0]}; the signers are {', '.join(clips.signer_names)}"
        )
    return list(wanted or clips.signer_names)


def _summarise(output: Path) -> None:
    """Prints the table and writes ``summary.csv``: a row a finished fold, mean, and deviation."""
    from signbart.training.run_folder import RESULTS, csv_text

    signers = [name for name in folds_in(output) if (output / name / RESULTS).is_file()]
    rows: list[dict[str, Any]] = []
    for signer in signers:
        results = read_json_file(output / signer / RESULTS)
        rows.append(
            {
                "signer": signer,
                "clips": results["clips"]["test"],
                **{key: results["test"][key] for key in _SCORES},
                "best_epoch": results["best_epoch"],
                "epochs": results["epochs"],
            }
        )
    for name, function in (("mean", statistics.fmean), ("std", statistics.pstdev)):
        values = {
            key: round(function([row[key] for row in rows[: len(signers)]]), 3) for key in _SCORES
        }
        rows.append({"signer": name, "clips": "", **values, "best_epoch": "", "epochs": ""})
    write_text(output / "summary.csv", csv_text(rows))
    print_table(
        f"Leave-one-signer-out, {len(signers)} fold{'s' if len(signers) > 1 else ''}, in percent",
        ["test signer", "clips", "accuracy", "top-5", "mean class accuracy", "best epoch"],
        [
            [
                row["signer"],
                row["clips"],
                *(f"{row[key]:.2f}" for key in _SCORES),
                row["best_epoch"],
            ]
            for row in rows
        ],
    )
    print(f"wrote {output}/summary.csv")
