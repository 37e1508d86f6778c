"""``python -m benchmarks.fine_tuning``: what a trained model is worth to new signs, on strangers.

A base is trained without the test signer. Then a model for other signs is trained twice for each
number of clips a class and signer: from random weights, and from the base. docs/training.md has the
table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

from signbart import clips as clips_command
from signbart.console import at_least, print_table, run_command
from signbart.errors import SignBartError
from signbart.files import make_folder
from signbart.recordings.reading import read_clips
from signbart_torch import train as train_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fine_tuning", description=__doc__)
    add = parser.add_argument
    add("--config", required=True, metavar="YAML")
    add("--data", required=True, metavar="PATH", help="recordings of the new signs")
    add(
        "--base", metavar="PATH", help="recordings of the signs before (default: --first of --data)"
    )
    add(
        "--first",
        type=at_least(1),
        metavar="N",
        help="the first N classes of --data are the base's",
    )
    add("--output", required=True, metavar="FOLDER", help="what is trained is not trained again")
    add("--signers", nargs="+", required=True, metavar="SIGNER", help="each left out in turn")
    add("--counts", nargs="+", type=at_least(1), default=[1, 3, 9], metavar="N")
    add("--epochs", nargs="+", type=at_least(1), default=[120, 60, 30], metavar="N")
    add("--base-epochs", type=at_least(1), default=30, metavar="N")
    add("--seeds", nargs="+", type=at_least(0), default=[0, 1, 2], metavar="SEED")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    if len(options.counts) != len(options.epochs) or (options.base is None) == (
        options.first is None
    ):
        raise SignBartError("give as many --epochs as --counts, and one of --base and --first")
    study = _Study(options)
    rows = []
    for count, epochs in zip(options.counts, options.epochs, strict=True):
        found = [study.pair(signer, seed, count, epochs) for signer in options.signers
                 for seed in options.seeds]  # fmt: skip
        per = len(options.seeds)
        cells = [
            f"{sum(pair[at] for pair in found[s : s + per]) / per:.2f}"
            for s in range(0, len(found), per)
            for at in (0, 1)
        ]
        means = [sum(pair[at] for pair in found) / len(found) for at in (0, 1)]
        rows.append([count, *cells, *(f"{mean:.2f}" for mean in means)])
    who = [*options.signers, "mean"]
    columns = [f"{name}, {how}" for name in who for how in ("new", "--init")]
    print_table("Accuracy in percent on the signer left out", ["clips", *columns], rows)
    return 0


class _Study:
    """The runs of a table, in one folder."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.output = options, Path(options.output)
        make_folder(self.output)
        self.signers = read_clips(options.data).signer_names

    def pair(self, signer: str, seed: int, count: int, epochs: int) -> tuple[float, float]:
        """Accuracies from random weights and from the base, in percent."""
        data = self._few(signer, seed, count)
        name = f"{signer}_{count}_{seed}"
        base = self._base(signer)
        return (
            self._train(data, f"new_{name}", signer, seed, epochs),
            self._train(data, f"init_{name}", signer, seed, epochs, "--init", str(base)),
        )

    def _base(self, signer: str) -> Path:
        options, folder = self.options, self.output / f"base_{signer}"
        if options.base is None:
            names = read_clips(options.data).class_names[: options.first]
            data = self._pack("base", options.data, "--classes", *names)
            self._train(data, folder.name, signer, 0, options.base_epochs)
        else:
            folder = self.output / "base"  # of other people altogether
            self._train(options.base, folder.name, None, 0, options.base_epochs)
        return folder / "best.safetensors"

    def _few(self, signer: str, seed: int, count: int) -> str:
        """`count` clips of each new class by each other signer, and all by the one left out."""
        options, others = self.options, [name for name in self.signers if name != signer]
        names = read_clips(options.data).class_names[options.first or 0 :]
        few = self._pack(
            *(f"few_{signer}_{count}_{seed}", options.data, "--classes", *names),
            *("--signers", *others, "--max-clips", str(count), "--seed", str(seed)),
        )
        test = self._pack(f"test_{signer}", options.data, "--classes", *names, "--signers", signer)
        return self._pack(f"data_{signer}_{count}_{seed}", few, "--merge", test)

    def _pack(self, name: str, data: str, *arguments: str) -> str:
        path = self.output / f"{name}.npz"
        if not path.exists():
            with contextlib.redirect_stdout(io.StringIO()):
                clips_command.main(["pack", data, str(path), *arguments])
        return str(path)

    def _train(
        self, data: str, name: str, signer: str | None, seed: int, epochs: int, *more: str
    ) -> float:
        results = self.output / name / "results.json"
        if not results.exists():
            with contextlib.redirect_stdout(io.StringIO()):
                train_command.main(
                    [
                        *("--config", self.options.config, "--data", data, "--resume"),
                        *("--output", str(results.parent), "--set", f"train.epochs={epochs}"),
                        *("--set", f"train.seed={seed}"),
                        *(part for text in self.options.overrides for part in ("--set", text)),
                        *(("--test-signers", signer) if signer else ()),
                        *more,
                    ]
                )
            print(f"trained {name}", flush=True)
        return json.loads(results.read_text(encoding="utf-8")).get("test", {}).get("accuracy", 0.0)


if __name__ == "__main__":
    run_command(main)
