"""What every Python test shares: the settings of the property tests, and where things are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# A property test is judged by what it finds, not by how fast the machine is. Under CI the cases are the same each time.
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Where the reference implementation's answers are."""
    return ROOT / "tests" / "vectors"


@pytest.fixture(scope="session")
def browser() -> str:
    """A headless Chromium; the test is skipped, visibly, where there is none (`make setup-browser` installs it)."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium on this machine")
