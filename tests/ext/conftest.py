"""What several tests of ext/ begin with."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from ext.ledger import Ledger, create_ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """An empty boot ledger."""
    fd = create_ledger()
    made = Ledger(fd)
    os.close(fd)
    yield made
