"""A clip as pictures: a strip of skeletons (PNG), and an animated one (GIF).

Drawn with Pillow, which Matplotlib brings. Legend: T frames, K landmarks.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from signbart.errors import ClipError
from signbart.files import atomic_write
from signbart.landmarks.layouts import LAYOUTS
from signbart.recordings.clip import ClipSet

_SIDE = 240  # pixels of a frame's picture
_FRAMES_OF_STRIP = 8
_MILLISECONDS = 80
_FRAMES_OF_GIF = 500  # Pillow holds all that it writes
_LONGEST = 655_350  # milliseconds that a GIF can show one picture
_DOT = 2
_COLOURS = {"left_hand_": (31, 119, 180), "right_hand_": (214, 39, 40), "face_": (150, 150, 150)}
_BODY = (40, 40, 40)


def draw_clip(clips: ClipSet, index: int, path: Path) -> list[Path]:
    """Draws one clip; returns the files: PATH.png and PATH.gif.

    The left hand is blue, the right one red. What lies beyond the picture is cut off; the frame is
    the picture's edge. Of a clip of over 500 frames the GIF shows every second one, or fewer.

    Raises:
        ClipError: There is no such clip.
        SignBartError: A file cannot be written.
    """
    if not 0 <= index < len(clips):
        raise ClipError(f"clip {index}: there are clips 0 to {len(clips) - 1}")
    points, names, edges = _drawable(clips, index)
    chosen = np.linspace(0, len(points) - 1, min(len(points), _FRAMES_OF_STRIP)).astype(int)
    strip = _beside([_draw(points[at], names, edges) for at in chosen])
    written = [path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.gif")]
    with atomic_write(written[0]) as beside:
        strip.save(beside, format="PNG")
    step = math.ceil(len(points) / _FRAMES_OF_GIF)
    first, *rest = (_draw(frame, names, edges) for frame in points[::step])
    # Pillow adds up the times of pictures that are alike.
    shown = min(_MILLISECONDS * step, _LONGEST // (len(rest) + 1))
    with atomic_write(written[1]) as beside:
        first.save(beside, format="GIF", save_all=True, append_images=rest, duration=shown, loop=0)
    return written


def _drawable(
    clips: ClipSet, index: int
) -> tuple[np.ndarray, tuple[str, ...], tuple[tuple[int, int], ...]]:
    """(T, K, 2) in the unit square with y down, the landmarks' names, and which are joined."""
    landmarks = np.asarray(clips.clips[index].landmarks)
    count = landmarks.shape[1]
    own = next((layout for layout in LAYOUTS.values() if layout.num_keypoints == count), None)
    names = clips.landmark_names or (own.names if own else tuple(map(str, range(count))))
    places = {name: at for at, name in enumerate(names)}
    edges = {
        (places[layout.names[a]], places[layout.names[b]])
        for layout in (LAYOUTS["holistic543"], LAYOUTS["kinect20"])
        for a, b in layout.edges
        if layout.names[a] in places and layout.names[b] in places
    }
    points = np.where((landmarks[..., :2] != 0).any(axis=-1, keepdims=True), landmarks, np.nan)
    points = points[..., :2].astype(np.float64)
    if own is not None and own.unit == "metres":
        points = points * (1, -1)
    found = points[np.isfinite(points).all(axis=-1)]
    beyond = len(found) and (np.median(np.abs(found)) > 1.5 or np.median(found, axis=0).min() < 0)
    if beyond:  # pixels, metres, or about the middle: fit them into the picture
        low, high = found.min(axis=0), found.max(axis=0)
        side = max((high - low).max(), 1e-6)
        points = 0.05 + 0.9 * (points - (low + high - side) / 2) / side
    return points, names, tuple(sorted(edges))


def _draw(frame: np.ndarray, names: tuple[str, ...], edges: tuple[tuple[int, int], ...]) -> Any:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (_SIDE, _SIDE), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, _SIDE - 1, _SIDE - 1), outline=(200, 200, 200))
    # Far points would be lines across the picture, and so would wild ones.
    there = (np.abs(frame) < 4).all(axis=1)
    places = [(float(x) * _SIDE, float(y) * _SIDE) for x, y in np.nan_to_num(frame)]
    for one, other in edges:
        if there[one] and there[other]:
            pen.line((places[one], places[other]), fill=_colour(names[one]))
    for at, name in enumerate(names):
        if there[at]:
            x, y = places[at]
            pen.ellipse((x - _DOT, y - _DOT, x + _DOT, y + _DOT), fill=_colour(name))
    return picture


def _colour(name: str) -> tuple[int, int, int]:
    return next((c for prefix, c in _COLOURS.items() if name.startswith(prefix)), _BODY)


def _beside(pictures: list[Any]) -> Any:
    from PIL import Image

    strip = Image.new("RGB", (_SIDE * len(pictures), _SIDE), "white")
    for at, picture in enumerate(pictures):
        strip.paste(picture, (_SIDE * at, 0))
    return strip
