"""Whether a conversion's files take raw landmarks, and how many frames of them."""

from __future__ import annotations

import sys

from bridge.errors import BridgeError
from bridge.weights.source import Source
from signbart.models.fields import LONGEST
from signbart.models.io_spec import RAW_SIGNATURE
from signbart.models.raw_spec import RAW_FRAMES, RawSignature


def raw_signature(source: Source, raw_frames: int | None) -> RawSignature | None:
    """The second signature, as for `pipeline.convert`; None where it is not wanted.

    And None, with a note on stderr, where the checkpoint does not say how its recordings are
    prepared, unless it is asked for.

    Raises:
        BridgeError: It is asked for, and the checkpoint does not say that.
    """
    if raw_frames == 0:
        return None
    if not source.preprocessing_known:
        unknown = (
            f"{source.checkpoint}: it does not say how recordings were prepared for it, as "
            f"signature '{RAW_SIGNATURE}' has to know; a .safetensors of signbart_torch.train does"
        )
        if raw_frames is not None:
            raise BridgeError(f"{unknown}; leave out --raw-frames {raw_frames}, or give 0")
        print(f"note: {unknown}; its files are made without", file=sys.stderr)
        return None
    if raw_frames is None:
        raw_frames = max(RAW_FRAMES, source.config.data.max_frames)
    if not 1 <= raw_frames <= LONGEST:
        raise BridgeError(
            f"--raw-frames {raw_frames}: a recording has 1 to {LONGEST:,} frames; 0 leaves the "
            f"signature '{RAW_SIGNATURE}' out"
        )
    return RawSignature(source.config, raw_frames, source.temperature)
