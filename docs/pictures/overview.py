"""README's picture: what goes in and what comes out, by the shipped example.

``python docs/pictures/overview.py docs/pictures/overview.png``

The skeletons are a synthetic clip's, the bars what exports/example answers on it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bridge import open_model
from signbart.landmarks.layouts import LAYOUTS
from signbart.recordings.pictures import draw_clip
from signbart.synthetic.signs import synthetic_clips

MODEL = Path(__file__).parents[2] / "exports/example/demo_litert_dynamic_int8.tflite"
CLIP, SHOWN = 0, 5


def main(path: str) -> None:
    """Draws it."""
    from PIL import Image

    clips = synthetic_clips(LAYOUTS["kp90"], seed=0)
    with tempfile.TemporaryDirectory() as folder:
        strip, _ = draw_clip(clips, CLIP, Path(folder) / "clip")
        with Image.open(strip) as picture:
            # Every second of its eight frames, without the empty margins.
            side = picture.height
            frames = [
                np.asarray(picture)[
                    side // 8 : -4, side * at + side // 6 : side * (at + 1) - side // 6
                ]
                for at in range(0, 8, 2)
            ]
    scores = open_model(MODEL).classify(clips.select([CLIP]))[:SHOWN]

    figure = Figure(figsize=(9, 2.3), facecolor="white")
    for at, frame in enumerate(frames):
        axes = figure.add_axes((0.01 + 0.105 * at, 0.18, 0.1, 0.62))
        axes.imshow(frame)
        axes.axis("off")
    figure.text(0.22, 0.88, "landmarks of a clip, as recorded", ha="center", size=10)
    figure.text(
        0.22, 0.08, "body, hands, face; x and y, or z too", ha="center", size=8, color="#555555"
    )
    size = MODEL.stat().st_size / 1e6
    figure.text(
        0.535, 0.49, f"one .tflite\n{size:.1f} MB", ha="center", va="center", size=10,
        bbox={"boxstyle": "round,pad=0.8", "facecolor": "#eaf1f8", "edgecolor": "#30638e"},
    )  # fmt: skip
    for start in (0.435, 0.61):
        figure.add_artist(_arrow(start))
    figure.text(0.535, 0.08, "preprocessing in the graph", ha="center", size=8, color="#555555")
    bars = figure.add_axes((0.74, 0.2, 0.2, 0.58))
    names = [name for name, _ in scores]
    values = [100 * score for _, score in scores]
    bars.barh(range(len(values)), values, color=["#30638e"] + ["#b8cbdd"] * (len(values) - 1))
    bars.set_yticks(range(len(names)), names, size=8)
    bars.invert_yaxis()
    bars.set_xlim(0, 118)
    bars.set_xticks([])
    for at, value in enumerate(values):
        bars.text(value + 2, at, f"{value:.1f} %", va="center", size=8)
    for side in ("top", "right", "bottom"):
        bars.spines[side].set_visible(False)
    figure.text(0.84, 0.88, "which sign it is", ha="center", size=10)
    figure.savefig(path, dpi=150)


def _arrow(start: float):
    from matplotlib.patches import FancyArrowPatch

    return FancyArrowPatch(
        (start, 0.49), (start + 0.04, 0.49), arrowstyle="-|>", mutation_scale=14, color="#30638e"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
