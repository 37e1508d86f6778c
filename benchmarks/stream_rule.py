"""``python -m benchmarks.stream_rule``: which windows, smoothing and threshold find signs best.

Chosen on signers who are not tested: each model is trained on one signer (``--test-signers`` names
all others), and finds the signs in the strung clips of the others. For a signer T whom something
else is tested on, what counts are the pairs of a model and a stream in both of which T has no part;
for everybody else all pairs count. A setting's worth is its mean F1 over the pairs: twice the hits
by signs and events.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.errors import BridgeError
from bridge.weights.source import test_signers
from signbart.console import print_table, run_command
from signbart.recordings.clip import ClipSet
from signbart.recordings.options import add_reading_arguments, read_data
from signbart.streaming.rule import StreamRule, spot
from signbart.streaming.scoring import Spotting, score_stream, total
from signbart.streaming.stringing import Stream, string_clips
from signbart.waiting import track
from signbart_runtime.evaluation.opened import OpenedModel, open_model
from signbart_runtime.evaluation.stream import window_probabilities

_WINDOWS = (1.5, 2.0)
_STRIDES = (0.2, 0.4)
_SMOOTHING = (1, 3, 5)
_THRESHOLDS = tuple(at / 10 for at in range(3, 10))  # 0.3 to 0.9


@dataclass(frozen=True)
class Pair:
    """A model of one signer on the stream of another.

    Attributes:
        taught: Whom the model was trained on.
        stream: Somebody else's.
        found: Rule -> what became of the signs.
    """

    taught: str
    stream: Stream
    found: Mapping[StreamRule, Spotting]

    def spares(self, signer: str) -> bool:
        """Whether the signer has no part in it."""
        return signer not in (self.taught, self.stream.signer)


def rules() -> list[StreamRule]:
    """Every setting that is tried."""
    return [
        StreamRule(window=window, stride=stride, smoothing=smoothing, threshold=threshold)
        for window, stride, smoothing, threshold in itertools.product(
            _WINDOWS, _STRIDES, _SMOOTHING, _THRESHOLDS
        )
    ]


def try_all(model: OpenedModel, stream: Stream) -> dict[StreamRule, Spotting]:
    """What each rule finds in a stream."""
    found = {}
    for (window, stride), group in itertools.groupby(rules(), lambda one: (one.window, one.stride)):
        cut = StreamRule(window=window, stride=stride)
        times, shares = window_probabilities(
            model, stream.frames(), cut, source=f"{stream.signer}, {window:g} s, {stride:g} s"
        )
        for rule in group:
            events = spot(times, shares, rule, model.class_names)
            of_labels = score_stream(stream.signs, events, stream.minutes).values()
            found[rule] = replace(total(of_labels), minutes=stream.minutes)
    return found


def f1(spotting: Spotting) -> float:
    """Twice the hits by signs and events."""
    events = spotting.hits + spotting.substitutions + spotting.false_alarms
    return 2 * spotting.hits / (spotting.signs + events)


def worth(pairs: Sequence[Pair], rule: StreamRule) -> float:
    """Mean F1 over pairs."""
    return statistics.fmean(f1(pair.found[rule]) for pair in pairs)


def best_rule(pairs: Sequence[Pair]) -> StreamRule:
    """The setting of the highest worth; of equals the first of `rules`."""
    return max(rules(), key=lambda rule: worth(pairs, rule))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="checkpoints of one signer each")
    parser.add_argument("--data", required=True, metavar="PATH", help="what they were trained on")
    add_reading_arguments(parser)
    parser.add_argument("--fps", type=float, required=True, help="frames a second of the clips")
    parser.add_argument("--seed", type=int, default=0, help="of the streams (default: 0)")
    options = parser.parse_args(arguments)
    clips = read_data(options)
    pairs: list[Pair] = []
    for path in options.models:
        taught = signer_taught(path, clips)
        model = open_model(path)
        known = clips.relabel(model.class_names, options.data)
        for signer in track(test_signers(path, clips), f"spotting by {path}"):
            stream = string_clips(
                known, signer, fps=options.fps, seed=options.seed, idle=StreamRule.idle
            )
            pairs.append(Pair(taught, stream, try_all(model, stream)))
    report(pairs, clips.signer_names)
    return 0


def report(pairs: Sequence[Pair], signers: Sequence[str]) -> None:
    """Prints what is chosen for each tested signer and for everybody else, and what is beside."""
    chosen = {}
    for signer in signers:
        spared = [pair for pair in pairs if pair.spares(signer)]
        if spared:
            chosen[f"test {signer}"] = (spared, best_rule(spared))
    chosen["nobody tested"] = (pairs, best_rule(pairs))
    chosen["the defaults"] = (pairs, StreamRule())
    print_table(
        "What is best where nobody who is tested has a part",
        ("chosen for", "pairs", "window", "stride", "smoothing", "threshold", "F1"),
        [
            [name, str(len(used)), *_cells(rule), f"{worth(used, rule):.3f}"]
            for name, (used, rule) in chosen.items()
        ],
    )
    _print_neighbours(pairs, chosen["nobody tested"][1])


def signer_taught(path: str, clips: ClipSet) -> str:
    """The one signer whom a checkpoint was trained on.

    Raises:
        BridgeError: There are several, or it does not say.
    """
    held_out = test_signers(path, clips)
    taught = sorted(set(clips.signer_names).difference(held_out or ()))
    if held_out is None or len(taught) != 1:
        raise BridgeError(f"{path}: not of one signer of these recordings; see --test-signers")
    return taught[0]


def _print_neighbours(pairs: Sequence[Pair], best: StreamRule) -> None:
    """What each field is worth, the others as they are in the best rule."""
    rows = []
    for name, values in (
        ("window", _WINDOWS),
        ("stride", _STRIDES),
        ("smoothing", _SMOOTHING),
        ("threshold", _THRESHOLDS),
    ):
        for value in values:
            rule = replace(best, **{name: value})
            found = total(pair.found[rule] for pair in pairs)
            counts = (found.hits, found.substitutions, found.misses, found.false_alarms)
            delay = f"{found.delay:.2f}" if found.delay is not None else "–"
            rows.append([name, f"{value:g}", *map(str, counts), f"{worth(pairs, rule):.3f}", delay])
    print_table(
        "One field after the other, over all pairs",
        ("field", "value", "hits", "substitutions", "misses", "false alarms", "F1", "delay in s"),
        rows,
    )


def _cells(rule: StreamRule) -> list[str]:
    return [f"{value:g}" for value in (rule.window, rule.stride, rule.smoothing, rule.threshold)]


if __name__ == "__main__":
    run_command(main)
