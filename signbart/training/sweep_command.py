"""What the frameworks' ``sweep`` commands share: options, the table, the picture, the winner."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from signbart.configuration.reading import load_config
from signbart.console import at_least, cell, next_command, print_table
from signbart.engines.options import add_engine_arguments, engine_of
from signbart.errors import ConfigError
from signbart.files import make_folder, write_text
from signbart.recordings.options import SignerNames, read_data
from signbart.training.frameworks import Framework
from signbart.training.options import add_run_arguments, print_skipped
from signbart.training.progress import identify_recordings
from signbart.training.requirements import require_trainable, with_labels
from signbart.training.run_folder import csv_text, find_run, holds_run
from signbart.training.splits import split_clips
from signbart.training.sweep import Judged, choose_signers, settings_of, sweep
from signbart.weights.state_dicts import shortened

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet

TABLE, PICTURE, WINNER = "settings.csv", "settings.png", "winner.yaml"


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of training, of which settings, and of how many trainings at a time."""
    add_run_arguments(
        parser, output=f"receives the trainings, {TABLE}, {PICTURE} and {WINNER}: runs/NAME"
    )
    add = parser.add_argument
    add(
        "--test-signers",
        nargs="+",
        action=SignerNames,
        default=[],
        metavar="SIGNER",
        help="signers who take no part in the choice at all, to be tested on afterwards; @FILE "
        "reads them from a file, one a line",
    )
    add(
        "--signers",
        type=at_least(1),
        default=3,
        metavar="N",
        help="how many of the others are left out in turn, a training each (default: %(default)s)",
    )
    add(
        "--random",
        type=at_least(2),
        metavar="N",
        help="try N of the settings, drawn at random (default: all that --set key=v1,v2 span)",
    )
    add("--seed", type=at_least(0), default=0, help="of --random (default: %(default)s)")
    add(
        "--halving",
        type=at_least(1),
        default=3,
        metavar="N",
        help="of N settings the best goes on, after 1/N^2 and again after 1/N of the epochs; 1: "
        "all go on (default: %(default)s)",
    )
    add(
        "--jobs",
        type=at_least(1),
        metavar="N",
        help="trainings at a time (default: 1; with --engine ray as many as there is room for)",
    )
    add_engine_arguments(parser, "trainings")


def run_sweep(
    options: argparse.Namespace, framework: Framework, train: Callable[..., dict[str, Any]]
) -> None:
    """Runs the sweep of a command line.

    Args:
        options: Of `add_sweep_arguments`.
        framework: Trains.
        train: Its function, picklable.

    Raises:
        ConfigError: A setting cannot be trained or validated, or the folder is in use.
        ClipError: There are too few signers.
    """
    engine, output = engine_of(options), Path(options.output)
    settings = settings_of(options.overrides, options.random, options.seed)
    # All of them are read before the first is trained.
    configs = {
        setting.folder: load_config(options.config, setting.overrides) for setting in settings
    }
    layouts = [config.data.landmark_layout for config in configs.values()]
    if any(layout != layouts[0] for layout in layouts):
        raise ConfigError("settings of several data.layout are no one sweep; sweep each alone")
    for config in configs.values():
        require_trainable(config, framework)
        if not (config.train.val_signers or config.train.val_fraction):
            raise ConfigError(
                f"{options.config}: nothing validates, and a sweep stops settings by validation "
                "clips; pass --set train.val_signers=1"
            )
    if any(output.glob("setting_*")) and not options.resume:
        raise ConfigError(f"{output} already holds a sweep; pass --resume to go on with it")
    clips = read_data(options, layout=layouts[0])
    print_skipped(clips.skipped)
    tested, marked = _tested(clips, options)
    clips = clips.select(at for at, signer in enumerate(clips.signers) if signer not in tested)
    signers = choose_signers(clips, options.signers)
    _require_validation(options.config, configs, clips, signers)
    _require_one_sweep(output, configs, clips, signers, framework)
    make_folder(output)
    print(
        f"{len(settings)} settings, each with {', '.join(signers)} left out in turn"
        + (f"; {', '.join(tested)} take no part" if tested else "")
        + (": the recordings mark clips of theirs test" if marked else ""),
        flush=True,
    )
    judged = sweep(
        settings,
        clips,
        output,
        config_of=lambda setting: configs[setting.folder],
        train=train,
        signers=signers,
        eta=options.halving,
        apart=framework.keeps_memory,
        jobs=options.jobs,
        engine=engine,
        report=lambda text: print(text, flush=True),
        device=options.device,
        data_name=options.data,
    )
    _write(judged, output, configs[judged[0].setting.folder].to_dict())
    # Marked clips are tested on unasked.
    testing = f" --test-signers {' '.join(tested)}" if tested and not marked else ""
    module = f"{framework.package}.train"
    print("next:")
    print(
        f"  {next_command(module)} --config {output / WINNER} --data {options.data} "
        f"--output runs/NAME{testing}"
    )


def _tested(clips: ClipSet, options: argparse.Namespace) -> tuple[list[str], bool]:
    """Who takes no part, in order, and whether it is the recordings that say so.

    Without signers who are named it is everybody of whom a clip is marked ``test``, as training
    would test on those.

    Raises:
        ConfigError: There are no clips by one who is named, or too few signers without such a clip.
    """
    names = clips.signer_names
    if unknown := set(options.test_signers) - set(names):
        raise ConfigError(f"--test-signers {min(unknown)}: {options.data} has no clip of them")
    if options.test_signers:
        return sorted(options.test_signers), False
    tested = sorted({clip.signer for clip in clips.clips if clip.split == "test"})
    if tested and len(names) - len(tested) < 3:
        raise ConfigError(
            f"{options.data}: the recordings mark clips of {shortened(tested)} test, and a sweep "
            f"takes three signers without such a clip; there are {len(names) - len(tested)}. Say "
            "by --test-signers whom to test on instead"
        )
    return tested, bool(tested)


def _require_validation(
    source: str, configs: Mapping[str, RunConfig], clips: ClipSet, signers: Sequence[str]
) -> None:
    """Before anything is trained: whether each training has validation clips to be stopped by.

    Raises:
        ConfigError: A training has none: few signers are left, and no share stands in.
        ClipError: Its share cannot be drawn.
    """
    trainings = [config.train for config in configs.values()]
    # Settings of one division are asked about once.
    divisions = {(one.val_signers, one.val_fraction, one.seed): one for one in trainings}
    for train in divisions.values():
        for signer in signers:
            if not len(split_clips(clips, train, [signer]).val):
                left = len(clips.signer_names) - 1
                few = f"{left} signers are too few for train.val_signers={train.val_signers} to "
                why = f"{few}leave two to train on" if train.val_signers else "val_signers is 0"
                raise ConfigError(
                    f"{source}: with {signer} left out, nothing validates, and a sweep stops "
                    f"settings by validation clips: {why}, and train.val_fraction is 0; pass --set "
                    "train.val_fraction=0.1"
                )


def _require_one_sweep(
    output: Path,
    configs: Mapping[str, RunConfig],
    clips: ClipSet,
    signers: Sequence[str],
    framework: Framework,
) -> None:
    """Before anything is trained: whether what is there may be judged beside what is to come.

    Raises:
        ConfigError: A training there is of other recordings, or of another configuration.
    """
    trainings = [
        (output / name / signer, config, signer)
        for name, config in configs.items()
        for signer in signers
        if holds_run(output / name / signer)
    ]
    recordings = identify_recordings(clips, []) if trainings else {}
    for folder, config, signer in trainings:
        find_run(
            folder,
            with_labels(config, clips),
            clips.class_names,
            {"recordings": {**recordings, "test_signers": [signer]}},
            True,
            framework=framework,
            load=framework.module().load_checkpoint,
        )


def _write(judged: Sequence[Judged], output: Path, winner: dict[str, Any]) -> None:
    """The table, printed and as CSV; the picture; the winner's configuration."""
    from signbart.pictures import draw_settings

    varied = [
        key
        for key in judged[0].setting.values
        if len({one.setting.values[key] for one in judged}) > 1
    ]
    rows = [
        {
            **{key: one.setting.values[key] for key in varied},
            "epochs": one.epochs,
            "validation": round(one.validation, 3),
            "score": "" if one.score is None else round(one.score, 3),
            "folder": one.setting.folder,
        }
        for one in judged
    ]
    write_text(output / TABLE, csv_text(rows))
    print_table(
        "Accuracy in percent: of validation signers, and of signers left out",
        [*varied, "epochs", "validation", "score"],
        [
            [*(one.setting.values[key] for key in varied), one.epochs, cell(one.validation),
             "stopped" if one.score is None else cell(one.score)]
            for one in judged
        ],
    )  # fmt: skip
    draw_settings(
        [[one.setting.values[key] for key in varied] for one in judged],
        varied,
        [one.score for one in judged],
        output / PICTURE,
    )
    write_text(output / WINNER, yaml.safe_dump(winner, sort_keys=False))
    print(f"wrote {output / TABLE}, {PICTURE} and {WINNER}")
