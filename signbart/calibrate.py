"""``python -m signbart.calibrate``: how sure models are of strangers, and how sure to let them be.

From the predictions that leave-one-signer-out training keeps; no model is run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.console import next_command, print_table, program_name, run_command
from signbart.errors import SignBartError

if TYPE_CHECKING:
    from signbart.training.fold_confidence import Answers

_COLUMNS = (
    *("signer left out", "clips", "accuracy", "temperature", "error, T = 1", "error, its own T"),
    *("error, calibrated", "loss, T = 1", "loss, calibrated"),
)


_COVERAGE = 0.95  # of the recognised signs, where nothing else is asked for


def _temperature(text: str) -> float:
    from signbart.training.confidence import checked_temperature

    try:
        return checked_temperature(float(text), "--temperature")
    except (ValueError, SignBartError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text}: a share above 0 and below 1")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart.calibrate"),
        description="Fit a temperature for each signer of a leave-one-signer-out run on the other "
        "signers' held-out clips; print expected calibration error and loss before and after, the "
        "temperature for a model that is trained on all, and a threshold for streams.",
    )
    parser.add_argument("run", metavar="RUN", help="output folder of loso or loso-report")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--coverage",
        type=_share,
        metavar="SHARE",
        help="choose the threshold that this share of the recognised signs reaches (default: "
        f"{_COVERAGE:g})",
    )
    target.add_argument(
        "--false-alarms",
        type=_share,
        metavar="SHARE",
        help="choose the threshold that no more than this share of the wrong answers reaches",
    )
    parser.add_argument(
        "--temperature",
        type=_temperature,
        metavar="T",
        help="choose the threshold for a model of this temperature (default: each signer's, fitted "
        "on the others)",
    )
    parser.add_argument("--idle", metavar="CLASS", help="the class that is no sign (default: idle)")
    parser.add_argument("--json", action="store_true", help="all of it as JSON")
    options = parser.parse_args(arguments)

    from signbart.streaming.options import require_idle
    from signbart.streaming.rule import StreamRule
    from signbart.training.fold_confidence import (
        answers_of,
        judge_confidence,
        pooled_temperature,
        read_held_out,
    )

    held_out = read_held_out(Path(options.run))
    require_idle(options, next(iter(held_out.values())).class_names)
    rows = judge_confidence(held_out)
    temperature = pooled_temperature(held_out)
    fitted = [row.temperature for row in rows]
    if options.temperature is not None:
        fitted = [options.temperature] * len(rows)
    answers = answers_of(held_out, fitted, options.idle or StreamRule.idle)
    record: dict[str, Any] = {
        "temperature": round(temperature, 4),
        "folds": [dataclasses.asdict(row) for row in rows],
        **_threshold(answers, options),
    }
    if options.json:
        print(json.dumps(record, ensure_ascii=False, indent=2))
        return 0
    names = [field.name for field in dataclasses.fields(rows[0])][2:]
    numbers = [[getattr(row, name) for name in names] for row in rows]
    table = [[row.signer, row.clips, *_cells(n)] for row, n in zip(rows, numbers, strict=True)]
    table.append(["mean", "", *_cells([statistics.fmean(n) for n in zip(*numbers, strict=True)])])
    print_table(
        f"{options.run}: accuracy and expected calibration error in percent", _COLUMNS, table
    )
    print(f"over all signers the temperature is {temperature:.3f}")
    carried = f"--temperature {options.temperature or round(temperature, 3):g}"
    if "threshold" in record:
        print(
            f"threshold {record['threshold']}: {100 * record['coverage']:.1f} % of the "
            f"recognised signs reach it, and {100 * record['false_alarms']:.1f} % of the "
            f"{record['wrong_answers']} wrong answers"
        )
        carried += f" --threshold {record['threshold']}"
    elif "signs" in record:
        print(
            f"no threshold, as none is needed or none suffices: of {record['signs']} signs "
            f"{record['wrong_answers']} were answered wrongly; --coverage chooses one by those "
            "that are recognised"
        )
    else:
        print("no sign of a held-out signer was recognised, so that there is no threshold")
    print(f"of a model trained on all of them:\n  {next_command('bridge.convert')} … {carried}")
    return 0


def _threshold(answers: Answers, options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, with what it lets through; empty where nothing was recognised.

    Without a threshold where none between 0 and 1 is what was asked for.
    """
    from signbart.training.confidence import (
        shortened,
        threshold_of_coverage,
        threshold_of_false_alarms,
    )

    if not len(answers.right):
        if options.coverage or options.false_alarms:
            raise SignBartError(f"{options.run}: no sign of a held-out signer was recognised")
        return {}
    if not options.false_alarms:
        threshold = threshold_of_coverage(answers.right, options.coverage or _COVERAGE)
    else:
        threshold = threshold_of_false_alarms(answers.wrong, options.false_alarms)
    if not 0 < threshold < 1:
        # None is needed, or none is enough.
        return {"wrong_answers": len(answers.wrong), "signs": answers.signs}
    # What is printed is what is counted.
    threshold = shortened(threshold, up=bool(options.false_alarms))
    passing = int((answers.wrong >= threshold).sum())
    return {
        "threshold": threshold,
        "coverage": float((answers.right >= threshold).mean()),
        "false_alarms": passing / max(len(answers.wrong), 1),
        "wrong_answers": len(answers.wrong),
        "signs": answers.signs,
    }


def _cells(numbers: Sequence[float]) -> list[str]:
    accuracy, temperature, *errors, before, after = numbers
    percent = [f"{100 * share:.2f}" for share in errors]
    return [
        f"{100 * accuracy:.2f}",
        f"{temperature:.3f}",
        *percent,
        f"{before:.3f}",
        f"{after:.3f}",
    ]


if __name__ == "__main__":
    run_command(main)
