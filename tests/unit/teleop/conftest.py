"""The simulated SO-101, and pseudo terminals."""

import os
from collections.abc import Iterator

import pytest

from moxin_vla.core.embodiment import Embodiment, load_embodiment
from moxin_vla.core.resources import resource_path


@pytest.fixture(scope="session")
def embodiment() -> Embodiment:
    return load_embodiment(resource_path("config/embodiments/so101_sim.yaml"))


@pytest.fixture
def pty() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo terminal: (what a person types into, the terminal)."""
    ends = os.openpty()
    yield ends
    for end in ends:
        os.close(end)
