"""The small world that tests of studies read, and each study of it.

In: nothing. Out: fixtures.
Source: none.
"""

from pathlib import Path

import pytest
from small_world import STUDIES, furnish


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """What :func:`furnish` makes; who changes it takes a copy."""
    return furnish(tmp_path_factory.mktemp("world"))


@pytest.fixture(params=STUDIES)
def study(request) -> str:
    """Each of them in turn."""
    return request.param
