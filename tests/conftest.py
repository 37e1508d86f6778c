"""Fixtures that every package's tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def _data_set(name: str) -> Path:
    """The folder of a real data set; they are not part of the project."""
    root = Path(os.environ.get("SIGNBART_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"no {name} recordings at {folder}; set SIGNBART_DATA to the folder above them")
    return folder


@pytest.fixture(scope="session")
def isl_kinect30() -> Path:
    return _data_set("isl_kinect30")


@pytest.fixture(scope="session")
def fsl7_holistic() -> Path:
    return _data_set("fsl7_holistic")
