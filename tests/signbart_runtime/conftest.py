"""What the bridge's tests convert is what is opened, evaluated and served here."""

from tests.bridge.conftest import (  # noqa: F401
    artifact,
    calibration,
    checkpoint,
    converted,
    judged,
    one_thread,
    performances,
    performances_file,
    quantized,
    recordings,
    twin_file,
)
