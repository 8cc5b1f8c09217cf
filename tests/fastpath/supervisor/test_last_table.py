"""fastpath/supervisor/last_table.py: a start serves the table on disk at once, and only where all is as it was."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ext.builder import Builder
from ext.table import Generation

from control.service.links import watch_links
from control.table.file import write_aside
from fastpath.process import table_proof, unsaved_rows
from fastpath.process.table_proof import Proof
from fastpath.protocol import Settings, close_all, memfd
from fastpath.sockets.interface_addresses import interface_addresses
from fastpath.supervisor.last_table import LastTable, last_table
from tests.control.service.test_service import content
from tests.control.serving import may_serve, serving
from tests.ext.sites import hosts, surroundings

CONFIG = b'{"dhcp": {"port": 67, "workers": 1}, "log": {"format": "text"}}'
MAC = "02:00:00:00:00:01"


def test_the_addresses_are_those_that_control_sees() -> None:
    async def first() -> list[tuple[int, str, int, int, int]]:
        async for links in watch_links():
            return [tuple(link) for link in links]  # type: ignore[misc]
        return []

    assert interface_addresses() == asyncio.run(first()) != []


def test_a_proof_says_what_is_another() -> None:
    links = [[1, "lo", 0x7F000001, 8, 65536]]
    made = Proof(build=table_proof.BUILD, config=table_proof.digest(CONFIG), links=table_proof.plain(links),
                 base="b", delta="", confirmed_s=5.0)  # fmt: skip
    assert table_proof.read(made.packed()) == made
    assert made.unlike(CONFIG, [(1, "lo", 0x7F000001, 8, 65536)]) == ""
    assert made.unlike(CONFIG.replace(b"text", b"json"), links) == "", "how the log looks decides no answer"
    assert "services.conf" in made.unlike(CONFIG.replace(b'"port": 67', b'"port": 68'), links)
    assert "services.conf" in made.unlike(b"{", links)
    assert "interfaces" in made.unlike(CONFIG, [*links, [2, "eth0", 1, 24, 1500]])
    assert "interfaces" in made.unlike(CONFIG, [[1, "lo", 0x7F000001, 8, 1500]])
    assert "build" in Proof(**{**json.loads(made.packed()), "build": "another"}).unlike(CONFIG, links)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"null", b'{"build": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_proof(text: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        table_proof.read(text)


# --- a folder with a table -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fd = hosts().seal(7, surroundings(), created_s=5)
    try:
        write_aside(tmp_path / "table.base", fd)
        told = table_proof.proof(CONFIG, interface_addresses(), fd, -1, 1234.0)
    finally:
        os.close(fd)
    (tmp_path / table_proof.FILE).write_bytes(told.packed())
    return tmp_path


def found_in(folder: Path, config: bytes = CONFIG, **settings: object) -> LastTable | None:
    said = {"config_path": "c", "workers": 1, "port": 67, "state_dir": str(folder), "console_path": "s"} | settings
    with memfd("test-config", config) as fd:
        return last_table(Settings(**said), fd)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before


def test_all_is_as_it_was(folder: Path) -> None:
    found = found_in(folder)
    assert found is not None
    assert (found.generation, found.base_generation, found.delta, found.dated_s) == (7, 7, -1, 1234.0)
    try:
        assert Generation(found.base).host_count == 8
        with pytest.raises(OSError):
            os.pwrite(found.base, b"x", 0)
    finally:
        close_all([found.base])


ASK = """
import logging, sys
from fastpath.protocol import Settings, memfd
from fastpath.supervisor.last_table import last_table
logging.basicConfig(level=logging.INFO)
with memfd("test-config", sys.argv[2].encode()) as fd:
    said = Settings(config_path="c", workers=1, port=67, state_dir=sys.argv[1], console_path="s")
    print(last_table(said, fd))
"""


def test_what_lies_on_a_read_only_disk_may_be_older_than_what_was_served(folder: Path) -> None:
    """A disk that turned read-only keeps a proof that nobody can withdraw."""
    mounts = 'mount --bind "$0" "$0" && mount -o "remount,$1,bind" "$0" && exec "$2" -P -c "$3" "$0" "$4"'
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    said = {}
    for how in ("rw", "ro"):
        argv = ["unshare", "-rm", "sh", "-c", mounts, str(folder), how, sys.executable, ASK, CONFIG.decode()]
        said[how] = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert said["rw"].stdout.startswith("LastTable("), said["rw"]
    assert said["ro"].stdout == "None\n" and "cannot be written" in said["ro"].stderr


def flip(path: Path, at: int) -> None:
    octets = bytearray(path.read_bytes())
    octets[at] ^= 0x40
    path.write_bytes(octets)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def younger_delta(folder: Path, of_another: bool = False) -> None:
    """The disk took it, and had no room for its proof."""
    base_fd = hosts().seal(8 if of_another else 7, surroundings(), created_s=5)
    builder = Builder(Generation(base_fd))
    builder.add_tombstone(0x020000000001)
    fd = builder.seal(9, surroundings(), created_s=6)
    write_aside(folder / "table.delta", fd)
    close_all([base_fd, fd])


SPOILT: dict[str, Callable[[Path], object]] = {
    "no proof": lambda folder: (folder / "table.proof").unlink(),
    "no base": lambda folder: (folder / "table.base").unlink(),
    "the proof is damaged": lambda folder: (folder / "table.proof").write_bytes(b"{}"),
    "the proof is huge": lambda folder: (folder / "table.proof").write_bytes(b" " * (table_proof.BYTES_MAX + 1)),
    "the proof is a link": lambda folder: linked(folder / "table.proof"),
    "the proof is a pipe": lambda folder: [(folder / "table.proof").unlink(), os.mkfifo(folder / "table.proof")],
    "the base is a link": lambda folder: linked(folder / "table.base"),
    "the header is damaged": lambda folder: flip(folder / "table.base", 20),
    "the end is damaged": lambda folder: flip(folder / "table.base", -5),
    "it is cut": lambda folder: os.truncate(folder / "table.base", 3_000),
    "it is longer": lambda folder: os.truncate(folder / "table.base", 3_000_000),
    "rows changed when the disk was full": lambda folder: [
        unsaved_rows.make_room(str(folder / unsaved_rows.FILE)),
        unsaved_rows.note(str(folder / unsaved_rows.FILE), "0" * 64, [1]),
    ],
    "the note of rows is damaged": lambda folder: (folder / unsaved_rows.FILE).write_bytes(
        unsaved_rows.MAGIC + b"x" * 200
    ),
    "a delta is younger than the proof": lambda folder: younger_delta(folder),
    "it is empty": lambda folder: os.truncate(folder / "table.base", 0),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_not_as_it_was_waits_for_the_planner(folder: Path, how: str) -> None:
    SPOILT[how](folder)
    assert found_in(folder) is None


@pytest.mark.parametrize(
    "config, settings",
    [(b'{"dhcp": {"port": 67}}', {}), (b"", {}), (CONFIG, {"mode": "observe"}), (CONFIG, {"drop_strangers": True})],
)
def test_another_configuration_waits_for_the_planner(folder: Path, config: bytes, settings: dict[str, object]) -> None:
    """Also where the kernel's filter has to learn the MACs first."""
    assert found_in(folder, config, **settings) is None


def test_a_delta_of_another_base_that_was_left_there_is_none_of_ours(folder: Path) -> None:
    younger_delta(folder, of_another=True)
    found = found_in(folder)
    assert found is not None and found.delta == -1
    close_all([found.base])


def test_another_base_than_the_proof_s(folder: Path) -> None:
    fd = hosts().seal(8, surroundings(), created_s=5)
    write_aside(folder / "table.base", fd)
    os.close(fd)
    assert found_in(folder) is None


# --- a whole service -------------------------------------------------------------------------------------------------


def test_a_second_start_serves_before_control_has_said_anything(tmp_path: Path) -> None:
    """With a delta beside the base, the inventory down, and the age that it had."""
    may_serve()
    site = tmp_path / "hosts.csv"
    site.write_text(content(1))
    state = tmp_path / "state"
    with serving(tmp_path, f"file://{site}") as running:
        running.wait_for(r"generation 1: ")
        site.write_text(content(1, 2))
        running.wait_for(r"generation 2: ")
        running.wait_saved(state)
        wait_proven(state)
    site.unlink()
    conf = json.loads((tmp_path / "services.conf").read_text())
    with serving(tmp_path, f"file://{site}", port=conf["dhcp"]["port"]) as running:
        line = running.wait_for(r"generation 2 from disk is served")
        assert re.search(r"services\.conf and the interfaces are as they were", line)
        running.wait_for(r"generation 3: 2 hosts \(links\)")
        status = running.status()
        assert status["hosts"] == 2 and status["health"]["ready"]
        assert status["table_age_s"] is not None and status["table_age_s"] < 600
    with serving(tmp_path, f"file://{site}", port=conf["dhcp"]["port"], max_nak_age=5) as running:
        running.wait_for(r"waits for the planner: services\.conf is another one now")
        running.wait_for(r"\(disk\)")


def wait_proven(state: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            proof = table_proof.read((state / table_proof.FILE).read_bytes())
        except (OSError, ValueError):
            proof = None
        if proof is not None and proof.delta:
            return
        assert time.monotonic() < deadline, "no proof of a delta was written"
        time.sleep(0.02)
