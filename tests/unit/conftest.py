"""Unit tests run the agents' nodes under blockbuster: a blocking call in an event loop raises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture
def no_blocking() -> Iterator[None]:
    """Make every blocking call inside an event loop raise `blockbuster.BlockingError`."""
    with blockbuster_ctx():
        yield
