"""Small pictures for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Exact agreement has no logarithm; it is drawn here, below float32's resolution of any logit.
_ZERO = 1e-9
_LETTER = 0.1  # inches that a letter of a title takes at most, in the mean


def draw_confusion(counts: np.ndarray, class_names: Sequence[str], title: str, path: Path) -> None:
    """Draws a confusion matrix, each row as percent of that class's clips.

    Cells of at least one percent carry their number. The size follows the number of classes, so
    that labels stay legible at 30 and more. A name that no installed font can show is replaced by
    the class's number, and the axes say so.

    Args:
        counts: (C, C): row the label, column the prediction; classes without clips are left out of
            the rows' percentages and stay blank.
        class_names: C names.
        title: Of what.
        path: PNG to write.
    """
    classes = len(class_names)
    fonts = _fonts("".join([title, *class_names]))
    shown = [str(i) if _unknown(name, fonts) else name for i, name in enumerate(class_names)]
    numbered = "" if shown == list(class_names) else "\n(numbers: no font here shows the name)"
    inches = max(3.2, 0.3 * classes)
    longest = max(map(len, shown)) * 0.075
    figure = _figure(inches + longest + 1.2, inches + longest + 0.3)
    axes = figure.subplots()
    totals = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shares = np.where(totals, 100 * counts / totals, np.nan)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    # Names are no formulas, whatever dollars are in them.
    text = {"parse_math": False, "fontfamily": list(fonts)}
    axes.set_xticks(range(classes), shown, rotation=90, fontsize=8, **text)
    axes.set_yticks(range(classes), shown, fontsize=8, **text)
    axes.set_xlabel(f"predicted{numbered}")
    axes.set_ylabel(f"label{numbered}")
    # Over the whole picture, which is wider than a matrix of few classes, and in lines that fit it.
    letters = int(figure.get_figwidth() / _LETTER)
    figure.suptitle("\n".join(wrap(title, letters)), fontsize="medium", **text)
    for row, column in np.argwhere(np.nan_to_num(shares) >= 0.5):
        dark = shares[row, column] > 55
        axes.text(
            column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=6.5,
            color="white" if dark else "#222222",
        )  # fmt: skip
    figure.colorbar(image, ax=axes, shrink=0.6, label="percent of the label's clips")
    figure.savefig(path, dpi=110)


def draw_curves(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], title: str, path: Path
) -> None:
    """Draws loss and accuracy over the epochs of several trainings.

    Args:
        histories: Name of a training -> its rows of ``summary.csv``, as numbers.
        title: Of what.
        path: PNG to write.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(9, 3.4)
    panels = figure.subplots(1, 2)
    colours = _colours(len(histories))
    for axes, measure, label in zip(
        panels,
        ("loss", "accuracy"),
        ("cross entropy\n(training: label smoothing in it)", "accuracy in percent"),
        strict=True,
    ):
        for (name, rows), colour in zip(histories.items(), colours, strict=True):
            epochs = [row["epoch"] for row in rows]
            for part, line in (("train", "-"), ("val", "--")):
                key = f"{part}_{measure}"
                if rows and key in rows[0]:
                    # One epoch makes no line.
                    marker = "." if len(rows) == 1 else None
                    axes.plot(
                        epochs, [row[key] for row in rows], line, color=colour, linewidth=1.2,
                        marker=marker,
                        label=name if part == "train" else None,
                    )  # fmt: skip
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    panels[1].legend(loc="lower right", fontsize=7, ncols=2, frameon=False)
    figure.suptitle(f"{title} (solid: training clips; dashed: validation clips, if any)", size=10)
    figure.savefig(path, dpi=120)


def draw_settings(
    settings: Sequence[Sequence[str]],
    names: Sequence[str],
    scores: Sequence[float | None],
    path: Path,
) -> None:
    """Draws settings as lines over parallel axes, one a name, coloured by their scores.

    Args:
        settings: A value a name, as text.
        names: Of the axes.
        scores: In percent; None where a setting was stopped, which is drawn dotted.
        path: PNG to write.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure = _figure(max(4.0, 1.8 * (len(names) + 1)), 3.6)
    axes = figure.subplots()
    there = [score for score in scores if score is not None]
    colours = ScalarMappable(Normalize(min(there), max(there)), colormaps["viridis"])
    places = []
    for at in range(len(names)):
        values = sorted({row[at] for row in settings}, key=_in_order)
        places.append({value: (i + 1) / (len(values) + 1) for i, value in enumerate(values)})
        axes.axvline(at, color="#999999", linewidth=0.8)
        for value, height in places[-1].items():
            axes.annotate(value, (at, height), (4, 3), textcoords="offset points", fontsize=8)
    # The best last, over the others.
    for row, score in reversed([*zip(settings, scores, strict=True)]):
        heights = [place[value] for place, value in zip(places, row, strict=True)]
        if score is None:
            axes.plot(heights, ":", color="#999999", linewidth=1)
        else:
            axes.plot(heights, color=colours.to_rgba(score), linewidth=1.8)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(0, 1)
    figure.colorbar(colours, ax=axes, label="score in percent (dotted: stopped)")
    figure.savefig(path, dpi=110)


def _in_order(value: str) -> tuple[int, float, str]:
    """Numbers by size, then texts."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def _fonts(text: str) -> dict[str, frozenset[str]]:
    """Installed fonts that show `text` together, the default first, and what of it each shows.

    Matplotlib takes the next one for what a font lacks. Characters that none has are left out.
    """
    from matplotlib import font_manager, rcParams

    def has(path: str) -> frozenset[str]:
        known = font_manager.get_font(path).get_charmap()
        return frozenset(character for character in text if ord(character) in known)

    default = rcParams["font.sans-serif"][0]
    found = {default: has(font_manager.findfont(default))}
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        missing = set(text).difference(*found.values())
        if not missing:
            break
        # Last Resort has a box for everything, and a name for nothing.
        if font.name not in found and not font.name.startswith("Last Resort"):
            shown = has(font.fname)
            if shown & missing:
                found[font.name] = shown
    return found


def _unknown(name: str, fonts: Mapping[str, frozenset[str]]) -> bool:
    return not set(name).issubset(frozenset().union(*fonts.values()))


def _colours(count: int) -> list[Any]:
    """Colours that can be told apart, up to ten; more run from dark to light."""
    from matplotlib import colormaps

    if count <= 10:
        return list(colormaps["tab10"].colors[:count])
    return [colormaps["viridis"](share) for share in np.linspace(0, 0.92, count)]


def draw_errors(errors: np.ndarray, limit: float, title: str, path: Path) -> None:
    """Draws how the absolute differences of logits are distributed, with the limit.

    Args:
        errors: Absolute differences, any shape.
        limit: Drawn as a line: the absolute part of the tolerance.
        title: What was compared.
        path: PNG to write.
    """
    figure = _figure(5, 2.6)
    values = np.maximum(errors.reshape(-1), _ZERO)
    bins = np.logspace(np.log10(_ZERO), max(np.log10(values.max()), np.log10(limit)) + 0.5, 40)
    axes = figure.subplots()
    axes.hist(values, bins=bins, color="#30638e")
    axes.axvline(limit, color="#d1495b", linestyle="--", label=f"limit {limit:g}")
    axes.set_xscale("log")
    axes.minorticks_off()  # a third of the time that the picture takes
    axes.set_xlabel("absolute difference of a logit (exact ones at the left edge)")
    axes.set_ylabel("logits")
    axes.set_title(title, fontsize="medium")
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=120)


def _figure(width: float, height: float) -> Figure:
    """An empty picture of that many inches, which needs no display and no closing."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
