"""How much is tried, and what came of it."""

import os
from collections import Counter

import pytest

# What the tests of conversions and of videos share is shared here, too.
from tests.bridge.conftest import checkpoint, converted, recordings  # noqa: F401
from tests.signbart.video.conftest import portrait, task, wheel  # noqa: F401

# Kills in all, but of what takes long; `make campaign` asks for 500.
CAMPAIGN = int(os.environ.get("SIGNBART_CAMPAIGN", "0"))
TRIED: Counter[str] = Counter()


@pytest.fixture
def tried() -> Counter[str]:
    """Counts what was tried, by what it was tried on; the end of a campaign shows it."""
    return TRIED


def pytest_terminal_summary(terminalreporter) -> None:
    if CAMPAIGN:
        terminalreporter.section("campaign")
        for name, count in sorted(TRIED.items()):
            terminalreporter.write_line(f"{name}: {count} tried and survived")
