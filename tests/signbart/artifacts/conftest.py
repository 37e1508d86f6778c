"""What the bridge's tests convert is what is read here."""

from tests.bridge.conftest import (  # noqa: F401
    artifact,
    calibration,
    checkpoint,
    converted,
    judged,
    model,
    one_thread,
    performances,
    performances_file,
    quantized,
    recordings,
)
