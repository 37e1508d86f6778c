"""``python -m signbart_torch.qat``: quantization-aware training of a trained checkpoint.

Every Linear computes on the int8 grids that its .tflite will have (`fake_quantization`) while the
float weights behind them are trained on, so that they settle where rounding does little harm. The
result is an ordinary checkpoint of float weights, for the same converter and quantizer as any.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.console import run_command

if TYPE_CHECKING:
    from signbart.clips import ClipSet
    from signbart.config import RunConfig
    from signbart_torch.checkpoint import Checkpoint

# What may differ from the original run: nothing that changes the network, what it is fed, or who is
# trained on.
_DROPOUTS = ("dropout", "activation_dropout", "attention_dropout", "classifier_dropout")
_DIVISION = ("seed", "val_signers", "val_fraction")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_torch.qat",
        description="Train a model on, with int8 arithmetic simulated in every Linear layer. "
        "Default: for dynamic_int8. The clips are divided as in the checkpoint's own run.",
    )
    _add_arguments(parser)
    options = parser.parse_args(arguments)

    from signbart.clips import read_clips
    from signbart.config import load_config
    from signbart.errors import CheckpointError
    from signbart_torch.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(options.checkpoint)
    if checkpoint.config is not None and options.config:
        raise CheckpointError(f"{options.checkpoint} carries its own configuration; drop --config")
    if checkpoint.config is None:
        if not options.config:
            raise CheckpointError(
                f"{options.checkpoint} carries no configuration; give the YAML file of its run "
                "(--config)"
            )
        checkpoint = dataclasses.replace(checkpoint, config=load_config(options.config))
    clips = read_clips(options.data, split=options.split, skip_bad=options.skip_bad)
    config = training_config(checkpoint.config, _overrides(options), source=options.checkpoint)

    from signbart_torch.train import EpochReport, print_skipped
    from signbart_torch.workers import is_main_process

    with EpochReport(config.train.epochs, quiet=not is_main_process()) as report:
        results = train_quantized(
            clips,
            checkpoint,
            config,
            options.output,
            source=options.checkpoint,
            static=options.static,
            test_signers=options.test_signers,
            resume=options.resume,
            device=options.device,
            report=report,
            announce=lambda text: print(text, flush=True),
            data_name=options.data,
        )
    if is_main_process():
        print_skipped(clips.skipped)
        _summarise(results, options.output)
    return 0


def training_config(config: RunConfig, overrides: Sequence[str], *, source: str) -> RunConfig:
    """The original run's configuration with the settings of this training.

    Args:
        config: The checkpoint's.
        overrides: ``section.key=value`` texts, later ones winning.
        source: The checkpoint's path, for messages.

    Raises:
        ConfigError: A value is wrong, or the override would change the network, what it is fed, or
            who is trained on.
    """
    from signbart.config import from_dict
    from signbart.errors import ConfigError

    # bf16 would round what has just been put on an int8 grid.
    overrides = ["train.precision=float32", *overrides]
    changed = from_dict(config.to_dict(), source=source, overrides=overrides)
    may_differ = {
        "model": _DROPOUTS,
        "data": (),
        "augment": [field.name for field in dataclasses.fields(config.augment)],
        "train": [f.name for f in dataclasses.fields(config.train) if f.name not in _DIVISION],
    }
    for section, free in may_differ.items():
        old, new = (dataclasses.asdict(getattr(run, section)) for run in (config, changed))
        for key, value in new.items():
            if key not in free and value != old[key]:
                raise ConfigError(
                    f"--set {section}.{key}={value!r}: it is {old[key]!r} in {source}, and has to "
                    "stay what the model was trained with"
                )
    return changed


def train_quantized(
    clips: ClipSet,
    checkpoint: Checkpoint,
    config: RunConfig,
    output: str | Path,
    *,
    source: str,
    static: bool = False,
    test_signers: Sequence[str] | None = None,
    announce: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> dict[str, Any]:
    """Trains a checkpoint on, fake-quantized; see `trainer.train` for what is not listed.

    Args:
        clips: The recordings it was trained on.
        checkpoint: The trained model.
        config: From `training_config`.
        output: Run folder.
        source: The checkpoint's path.
        static: Train for ``int8``, whose activation ranges are measured on training clips, and not
            for ``dynamic_int8``, whose ranges are measured token by token at run time.
        test_signers: Where the checkpoint does not say who they are; None is not said.
        announce: Called once with what is about to be trained, and how.
        options: `trainer.train`'s.

    Returns:
        The run's results, all of fake-quantized models but ``start.plain``.

    Raises:
        CheckpointError: The checkpoint does not fit the model, or the recordings.
        ConfigError: The division is not known, or would test on whom the model was trained.
        ClipError: There are too few clips to calibrate on.
    """
    from signbart.calibration import calibration_inputs
    from signbart.errors import CheckpointError
    from signbart.splits import split_clips
    from signbart_torch.checkpoint import build_model, file_sha256

    # Importing torchao warns of its kernels for GPUs, and of its own use of PyTorch.
    for chatty in ("torchao", "torch.utils._pytree"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    from signbart_torch.fake_quantization import FakeQuantization
    from signbart_torch.trainer import Start, train

    if checkpoint.class_names and checkpoint.class_names != clips.class_names:
        raise CheckpointError(f"{source} was trained on other classes than these recordings have")
    if config.model.num_labels is None:
        model = dataclasses.replace(config.model, num_labels=len(clips.class_names))
        config = dataclasses.replace(config, model=model)
    build_model(checkpoint, config, source)
    test_signers = _division(checkpoint, clips, test_signers, source)
    split = split_clips(clips, config.train, test_signers)
    # The same clips that the quantizer is given later: both take them by this function.
    calibration = calibration_inputs(clips.select(split.train), config) if static else None
    quantization = FakeQuantization(calibration)

    def describe(text: str) -> None:
        lines = [text, f"{quantization.scheme}: {quantization.count} Linear layers fake-quantized"]
        if calibration is not None:
            lines[-1] += f", ranges measured on {len(calibration[0])} training clips"
        if not len(split.val):
            lines.append(
                "no clips to choose an epoch by, as in the checkpoint's run: the last one is kept"
            )
        announce("\n".join(lines))

    return train(
        clips,
        config,
        output,
        test_signers=test_signers,
        announce=describe,
        start=Start(
            checkpoint,
            {"scheme": quantization.scheme, "checkpoint": file_sha256(source)},
            quantization,
        ),
        **options,
    )


def _division(
    checkpoint: Checkpoint, clips: ClipSet, test_signers: Sequence[str] | None, source: str
) -> tuple[str, ...]:
    """Who is tested: those that the checkpoint was not trained on."""
    from signbart.errors import ConfigError

    before: Mapping[str, Any] | None = checkpoint.progress.get("recordings")
    if before is None:
        if test_signers is None:
            raise ConfigError(
                f"{source} does not say which signers it was not trained on; name them with "
                "--test-signers (without a name after it: there are none)"
            )
        return tuple(test_signers)
    if before["fingerprint"] != clips.fingerprint():
        if test_signers is None:
            raise ConfigError(
                f"these recordings are not those that {source} was trained on ({len(clips)} clips "
                f"here, {before['clips']} there, or other content); give the same --data and "
                "--split, or say by --test-signers whom neither training may see"
            )
        return tuple(test_signers)
    known = tuple(before["test_signers"])
    if test_signers is not None and set(test_signers) != set(known):
        raise ConfigError(
            f"--test-signers {' '.join(test_signers)}: {source} was tested on "
            f"{' '.join(known) or 'no signer'} and trained on the others; leave the option out"
        )
    return known


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="FILE", help="best.safetensors of a run, or a .pth")
    add("--config", metavar="YAML", help="configuration of a .pth; a .safetensors carries its own")
    add("--data", required=True, metavar="PATH", help="the recordings it was trained on")
    add("--output", required=True, metavar="FOLDER", help="run folder, for example runs/NAME_qat")
    add(
        "--static",
        action="store_true",
        help="train for static int8; without it, for dynamic_int8",
    )
    add("--epochs", default="10", metavar="N", help="default: %(default)s")
    add("--lr", default="5e-5", metavar="RATE", help="peak learning rate; default: %(default)s")
    add("--batch-size", default="4", metavar="N", help="default: %(default)s")
    add("--grad-clip", default="1.0", metavar="NORM", help="default: %(default)s")
    add(
        "--patience",
        default="10",
        metavar="N",
        help="stop after this many epochs without a better one; default: %(default)s",
    )
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting, for example --set train.label_smoothing=0.1; may be repeated",
    )
    add(
        "--test-signers",
        nargs="*",
        metavar="SIGNER",
        help="signers to test on, where the checkpoint does not say whom it was tested on",
    )
    add(
        "--split",
        default="all",
        choices=("train", "val", "test", "all"),
        help="read this split of the recordings only (default: %(default)s)",
    )
    add("--resume", action="store_true", help="go on where the folder's run stopped")
    add("--skip-bad", action="store_true", help="leave unusable clips out, and count them")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: %(default)s")


def _overrides(options: argparse.Namespace) -> list[str]:
    """The options as configuration overrides, which `training_config` checks."""
    named = ("epochs", "lr", "batch_size", "grad_clip", "patience")
    return [
        "train.scheduler=cosine",
        "train.warmup_epochs=0",
        *(f"train.{name}={getattr(options, name)}" for name in named),
        *options.overrides,
    ]


def _summarise(results: Mapping[str, Any], output: str) -> None:
    from signbart.console import print_table

    start, parts = results["start"], [name for name in ("val", "test") if name in results]
    rows = [
        [name, *(f"{scores[part]['accuracy']:.2f}" for part in parts)]
        for name, scores in (
            ("float32, before", start["plain"]),
            (f"{start['scheme']}, before", start["prepared"]),
            (f"{start['scheme']}, epoch {results['best_epoch']}", results),
        )
    ]
    if parts:
        print_table("Accuracy in percent", ["", *parts], rows)
    print(f"wrote {output}/best.safetensors")
    print("next:")
    print(
        f"  python bridge/convert.py --checkpoint {output}/best.safetensors --route litert "
        "--output exports/NAME"
    )


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()
