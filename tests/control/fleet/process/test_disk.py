"""control/fleet/process/disk.py and tables.py: what is kept over restarts, and tables as blobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ext.builder import Builder, Surroundings
from ext.table import Generation, Pair, TableInvalid

from control.config.config import parse
from control.fleet.messages import NOWHERE, Blob, Mark
from control.fleet.process.disk import DELTA_FILE, STATE_FILE, Disk, Kept
from control.fleet.process.tables import blob_behind, chunks_of, content_of, fds_of, rules_digest
from control.table.digest import rows_digest
from tests.fleet.rig.members import new_base

RULES = bytes(32)


def delta_of(base_fd: int, number: int) -> int:
    builder = Builder(Generation(base_fd))
    builder.add_host(0x02FFFFFFFFFF, name=b"new", leases=((0x0A0A0A0A, 8, builder.add_template()),))
    return int(builder.seal(number, Surroundings(), created_s=6))


def test_what_is_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    base = new_base(1, 5)
    content, _pair = content_of([base, delta_of(base, 2)], RULES)
    disk = Disk(tmp_path, "dc1")
    assert disk.load() == Kept(shard="dc1", mark=NOWHERE, head=b"", serves=None)
    kept = Kept(shard="dc1", mark=Mark(5, 6, 7), head=b"signed", serves=content)
    disk.keep(kept)
    assert Disk(tmp_path, "dc1").load() == kept
    assert Disk(tmp_path, "dc2").load() == Kept(shard="dc2"), "another shard's says nothing of this one"


@pytest.mark.parametrize("spoilt", [b"", b"\xc1", b"x" * 20_000, b"\x95\xc4\x01\x01\xa3dc1\x01\x02\x03"])
def test_a_damaged_file_is_no_file(tmp_path: Path, spoilt: bytes) -> None:
    (tmp_path / STATE_FILE).write_bytes(spoilt)
    assert Disk(tmp_path, "dc1").load() == Kept(shard="dc1")


def test_a_disk_that_takes_nothing_keeps_what_it_had(tmp_path: Path) -> None:
    disk = Disk(tmp_path, "dc1")
    disk.keep(Kept(shard="dc1", mark=Mark(1, 1, 1)))
    (tmp_path / f"{STATE_FILE}.new").mkdir()
    with pytest.raises(OSError):
        disk.keep(Kept(shard="dc1", mark=Mark(2, 1, 1)))
    assert disk.kept.mark == Disk(tmp_path, "dc1").load().mark == Mark(1, 1, 1)


def test_a_delta_is_kept_as_the_store_has_it(tmp_path: Path) -> None:
    base = new_base(1, 5)
    delta = delta_of(base, 2)
    disk = Disk(tmp_path, "dc1")
    disk.keep_delta(delta)
    found = disk.delta(blob_behind(delta))
    assert found is not None and blob_behind(found) == blob_behind(delta)
    os.close(found)
    assert disk.delta(blob_behind(base)) is None
    content = bytearray((tmp_path / DELTA_FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / DELTA_FILE).write_bytes(content)
    assert disk.delta(blob_behind(delta)) is None


def test_a_table_is_blobs_and_chunks() -> None:
    base = new_base(1, 3000)
    content, pair = content_of([base], RULES)
    assert content.delta is None and content.hosts == 3000 and content.digest == rows_digest(pair)
    data = b"".join(chunks_of(base))
    assert len(data) == content.base.size and content.base.chunks == len(list(chunks_of(base))) > 1
    assert fds_of(content, {content.base.sha256: base}) == [base] and fds_of(content, {}) is None
    with pytest.raises(TableInvalid):
        content_of([base, new_base(2, 3)], RULES)


def test_the_digest_is_of_the_rows_alone() -> None:
    """Other interfaces, other numbers, another way to the same rows: the same digest."""
    base, later = new_base(1, 5), new_base(9, 5)
    assert rows_digest(Pair(Generation(base))) == rows_digest(Pair(Generation(later)))
    delta = delta_of(base, 2)
    pair = Pair(Generation(base), Generation(delta))
    again = Builder(Generation(base))
    again.copy_host(pair.delta, 0x02FFFFFFFFFF, 0)
    around = Surroundings(links=((3, 0x0A000001, 8, 1500, True),))
    relinked = Generation(again.seal(3, around, created_s=9))
    assert rows_digest(pair) == rows_digest(Pair(pair.base, relinked)) != rows_digest(Pair(pair.base))
    assert blob_behind(delta) != Blob(bytes(32), 0, 0)


def test_rules_are_what_changes_rows() -> None:
    def digest(text: bytes) -> bytes:
        return rules_digest(parse(text, Path("services.conf")))

    same = digest(b"{}")
    assert digest(b'{"dhcp": {"interfaces": ["eth0"], "state_dir": "/x"}, "fleet": {}}') == same
    assert digest(b'{"dhcp": {"extra_options": {"150": "tftp"}}}') != same
    assert digest(b'{"dhcp": {"update_ipmi": true}}') != same
