"""Where a quantized .tflite loses precision: its tensors beside those of its float form, by name.

Both files come from one export, so their tensors carry the same names. For each tensor that the
quantized file holds as integers, its numbers are compared with the float file's on real clips: how
far they are off, and how many lie beyond the range that calibration gave the tensor, where they are
all cut to its end.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge.errors import BridgeError
from signbart.checksums import add_checksum_argument, require_checksum
from signbart.console import at_least, print_table, program_name, run_command
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS
from signbart.recordings.options import SignerNames, add_reading_arguments, data_source
from signbart_runtime.evaluation.tensor_errors import COLUMNS, tensor_errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_runtime.tensor_errors"),
        description="Show which tensors of an int8 or int16x8 .tflite lose precision, on real "
        "clips, and which numbers its calibrated ranges cut off.",
    )
    parser.add_argument("float_model", metavar="FLOAT.tflite", help="what was quantized")
    parser.add_argument("quantized_model", metavar="QUANTIZED.tflite")
    parser.add_argument("--data", required=True, metavar="PATH", help="recordings")
    parser.add_argument(
        "--signers",
        nargs="+",
        action=SignerNames,
        metavar="SIGNER",
        help="take their clips only; @FILE reads them from a file, one a line (default: all)",
    )
    parser.add_argument(
        "--clips",
        type=at_least(1),
        default=100,
        metavar="N",
        help="how many (default: %(default)s)",
    )
    parser.add_argument(
        "--worst",
        type=at_least(1),
        metavar="N",
        help="show so many, the worst first (default: all)",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    add_reading_arguments(parser)
    add_checksum_argument(parser)
    options = parser.parse_args(arguments)

    from signbart.artifacts.completeness import require_complete
    from signbart.artifacts.metadata import carried_config, read_metadata
    from signbart.preprocessing import model_inputs
    from signbart.recordings.data_source import read_recordings
    from signbart.training.calibration import balanced_choice

    for path in (options.float_model, options.quantized_model):
        require_complete(Path(path))
        require_checksum(path, options.checksum)
    config = carried_config(read_metadata(options.float_model), options.float_model)
    clips = read_recordings(data_source(options, options.data))
    if options.signers:
        if unknown := [signer for signer in options.signers if signer not in clips.signers]:
            known = ", ".join(sorted(set(clips.signers)))
            raise BridgeError(
                f"{options.data} has no clips by {', '.join(unknown)}; the signers are {known}"
            )
        clips = clips.select([i for i, s in enumerate(clips.signers) if s in options.signers])
    clips = clips.select(balanced_choice(clips.labels, clips.signers, options.clips, options.seed))
    keypoints, mask = model_inputs(clips, config)
    rows = tensor_errors(
        Path(options.float_model),
        Path(options.quantized_model),
        (
            {KEYPOINTS: points[None], ATTENTION_MASK: valid[None]}
            for points, valid in zip(keypoints, mask, strict=True)
        ),
    )
    if options.worst:
        rows = sorted(rows, key=lambda row: -row.error)[: options.worst]
    print_table(
        f"{Path(options.quantized_model).name} on {len(clips)} clips",
        COLUMNS,
        [row.cells() for row in rows],
    )
    return 0


if __name__ == "__main__":
    run_command(main)
