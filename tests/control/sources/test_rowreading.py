"""control/sources/rowreading.py: each reading has its own names; test_filesource.py has what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.sources.model import Inventory
from tests.control.sources.test_filesource import YAML, hosts_of, source_of, write


def test_a_look_up_while_the_file_is_read_leaves_the_reading_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner looks up in one thread while another reads: what the look-up knows so far is not what there is."""
    source = source_of(write(tmp_path, YAML))
    true, batches, taken = source.rows, source.read().batches, []

    def rows(*kinds: str) -> Iterator[Any]:
        for row in true(*kinds):
            if "pools" in kinds and not taken:
                taken.append(next(batches))
            yield row

    want = next(source_of(source.path).read().batches)
    monkeypatch.setattr(source, "rows", rows)
    assert len(hosts_of(source.read_hosts([], ["a"], Inventory()))) == 1
    (batch,) = taken
    assert (batch.digest, batch.faults) == (want.digest, want.faults)
