"""Whatever stands in a file of dhcp.state_dir, and whatever the disk refuses: it costs itself, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ext.builder import Builder, Surroundings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.discovery.journal import LOST, Journal
from control.discovery.machines import Machine
from control.discovery.states import KEPT
from control.discovery.traps.identity import FILE, Identity
from control.table.file import TableStore
from tests.control.serving import may_serve, serving
from tests.ports import free_port

MAC = "02:00:00:00:00:01"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))
GOOD = Machine(MAC, "registered", places={("10.0.0.1", 7): (1.0, 10)}, roles=frozenset({"bmc"}), server="s1", port=7)
DEEP = b"[" * 100_000
USUAL = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def restored(path: Path) -> list[Machine]:
    """As control's coordinator reads its journal, to the very record that is sent to a registrar and written again."""
    journal = Journal(path)
    machines = journal.load(lambda record: Machine.of_record(record, 100.0))
    journal.close()
    for machine in machines:
        json.dumps(machine.record())
        assert machine.state in KEPT and machine.work().mac == machine.mac == machine.mac.lower()
        "".join([machine.name, machine.server, machine.switch, machine.reason]).encode()
    return machines


@USUAL
@given(fields=st.dictionaries(st.sampled_from([*GOOD.record(), "mac", "end"]), VALUES, min_size=1))
def test_a_value_of_any_type_in_a_record_costs_that_line(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = tmp_path / "discovery.journal"
    other = GOOD.record() | {"mac": "02:00:00:00:00:02"}
    spoilt = GOOD.record() | {"mac": MAC} | fields
    path.write_text(f"{json.dumps(spoilt)}\n{json.dumps(other)}\n")
    assert "02:00:00:00:00:02" in [machine.mac for machine in restored(path)]


@USUAL
@given(line=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_line_at_all_costs_itself(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "discovery.journal"
    good = json.dumps(GOOD.record() | {"mac": MAC}).encode()
    path.write_bytes(line + b"\n" + good + b"\n")
    assert [machine.mac for machine in restored(path)] == [MAC]


@pytest.mark.parametrize("line", [DEEP, b'{"mac":' + DEEP, b"9" * 10_000, b'{"mac":["x"],"state":"seen"}'])
def test_brackets_without_end_are_named_and_kept_aside(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "discovery.journal"
    good = json.dumps(GOOD.record() | {"mac": MAC}).encode()
    path.write_bytes(good + b"\n" + line + b"\n")
    assert [machine.mac for machine in restored(path)] == [MAC]
    assert f"{path}: line 2 is no record of ours" in caplog.text and f"kept in {path.name}{LOST}" in caplog.text
    assert path.with_name(path.name + LOST).read_bytes() == line + b"\n"
    assert line not in path.read_bytes()


@USUAL
@given(
    text=st.binary(max_size=200)
    | st.fixed_dictionaries(
        {},
        optional={
            "id": VALUES | st.just("80004fb8050102030405060708"),
            "boots": VALUES | st.integers(0, 9),
            "clocks": VALUES | st.dictionaries(st.text(max_size=8) | st.just("8000"), VALUES),
        },
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_identity_is_one_or_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    try:
        identity = Identity(tmp_path, 5.0)
    except ValueError as damage:
        assert f"{tmp_path / FILE}: found" in str(damage) and "delete the file" in str(damage)
        return
    assert 5 <= len(identity.engine_id) <= 32 and identity.next_boots() > 0
    for boots, engine_time, _now in identity.clocks.latest.values():
        assert 0 <= boots < 2**31 and 0 <= engine_time < 2**31


def test_an_identity_of_brackets_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(DEEP)
    with pytest.raises(ValueError, match="brackets in brackets"):
        Identity(tmp_path, 0.0)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    for name in ("discovery.journal", FILE, "table.base", "table.delta"):
        (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / name)
    assert restored(tmp_path / "discovery.journal") == []
    with pytest.raises(OSError, match="regular file"):
        Identity(tmp_path, 0.0)
    assert TableStore(tmp_path).load() is None


@USUAL
@given(content=st.binary(max_size=400), at=st.integers(0, 4_000), which=st.sampled_from(["table.base", "table.delta"]))
def test_octets_of_any_kind_in_a_table_are_refused_or_read(tmp_path: Path, content: bytes, at: int, which: str) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    builder = Builder()
    template = builder.add_template()
    builder.add_host(0x020000000001, name=b"h", leases=((0x0A010001, 24, template),))
    fd = builder.seal(1, Surroundings(), created_s=1)
    whole = os.pread(fd, 1 << 20, 0)
    os.close(fd)
    (tmp_path / "table.base").write_bytes(whole)
    (tmp_path / which).write_bytes(whole[:at] + content + whole[at + len(content) :])
    loaded = TableStore(tmp_path).load()
    for each in loaded[:2] if loaded is not None else ():
        if each >= 0:
            os.close(each)


ON_A_DISK = """
import asyncio, errno, logging, os, subprocess, sys
from pathlib import Path
from ext.builder import Builder, Surroundings
from ext.table import Generation, Pair
from control.discovery.traps.identity import Identity
from control.discovery.journal import Journal, JournalFailed
from control.discovery.machines import Machine
from control.table.file import TableStore

logging.basicConfig(stream=sys.stdout, format="%(message)s")
folder, how = Path(sys.argv[1]), sys.argv[2]

def sealed(number, hosts):
    builder = Builder()
    template = builder.add_template()
    for host in range(1, hosts + 1):
        builder.add_host(0x020000000000 + host, name=b"h%d" % host, leases=((0x0A010000 + host, 24, template),))
    return builder.seal(number, Surroundings(), created_s=number)

def save(store, number, hosts):
    fd = sealed(number, hosts)
    store.save(Pair(Generation(fd)), fd, -1, 1000.0)
    os.close(fd)

def mount(options, again=False):
    remount = ["-o", "remount," + options] if again else ["-t", "tmpfs", "-o", options, "tmpfs"]
    subprocess.run(["mount", *remount, str(folder)], check=True)

async def flush(journal):
    try:
        await journal.flush()
        return ""
    except JournalFailed as failed:
        return str(failed)

mount("size=1m")
save(TableStore(folder), 1, 10)
TableStore(folder).pin(5.0)
journal = Journal(folder / "j")
journal.load(lambda record: record)
journal.put("m1", {"state": "seen"})
assert asyncio.run(flush(journal)) == ""
journal.close()
Identity(folder, 0.0).next_boots()
if how == "full":
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError as full:
            assert full.errno == errno.ENOSPC
else:
    mount("ro", again=True)

store = TableStore(folder)
assert store.pinned_s() == 5.0
base, delta, confirmed_s = store.load()
assert Generation(base).number == 1 and confirmed_s == 1000.0
for number in (2, 3, 4):
    save(store, number, 20_000)
if how == "read-only":
    store.unpin()
store.pin(6.0)
journal = Journal(folder / "j")
assert [record["mac"] for record in journal.load(lambda record: record)] == ["m1"]
for number in range(3):
    journal.put(f"n{number}", {"state": "seen", "reason": "x" * 5000})
    fault = asyncio.run(flush(journal))
    assert fault, "what is not on disk is not called kept"
identity = Identity(folder, 0.0)
try:
    identity.save()
    assert how == "full"
except OSError as refused:
    assert refused.strerror
if how == "full":
    (folder / "filler").unlink()
else:
    mount("rw", again=True)
mount("size=64m", again=True)
save(store, 5, 20_000)
journal.put("n9", {"state": "seen"})
assert asyncio.run(flush(journal)) == "" and store.fault == ""
journal.close()
assert Generation(TableStore(folder).load()[0]).number == 5
print("GOES ON")
"""


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_takes_nothing_is_read_and_told_once(tmp_path: Path, how: str) -> None:
    argv = ["unshare", "-rm", sys.executable, "-P", "-c", ON_A_DISK, str(tmp_path), how]
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0 and "GOES ON" in ran.stdout, ran.stdout + ran.stderr
    assert ran.stdout.count("cannot keep the table") == 1, ran.stdout
    assert ran.stdout.count("no new server is made until it can be") == 1, ran.stdout


HOSTS = "base,mask,gateway\n10.1.0.0,255.255.255.0,10.1.0.1\n\nname,mac,address,dhcp.enabled\n"
HOSTS += "h1,02:00:00:00:00:01,10.1.0.11,1\n"
MOUNTS = {
    "read-only": 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"',
    "full": (
        'cp -a "$0" "$0.kept" && mount -t tmpfs -o size=1200k tmpfs "$0" && cp -a "$0.kept/." "$0" && '
        '{ head -c 2000000 /dev/zero > "$0/filler"; exec "$@"; }'
    ),
}


def fill(path: Path) -> None:
    """With as much as there is room for."""
    with suppress(OSError), open(path, "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.mark.parametrize("how", MOUNTS)
def test_a_service_serves_from_a_disk_that_takes_nothing(tmp_path: Path, how: str) -> None:
    """From the table that is there, with the inventory gone; it did not start, or its planner died in a loop."""
    may_serve()
    state, hosts = tmp_path / "state", tmp_path / "hosts.csv"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    hosts.write_text(HOSTS)
    with serving(tmp_path, f"file://{hosts}") as running:
        running.wait_for("generation 1: 1 hosts")
        running.wait_saved(state)
    hosts.unlink()
    within = ["unshare", "-m", "sh", "-c", MOUNTS[how], str(state)]
    snmp = {"bind_address": "127.0.0.1", "bind_port": free_port(), "communities": ["x"]}
    with serving(tmp_path, f"file://{hosts}", snmp, within=within) as running:
        running.wait_for(r"generation \d+: 1 hosts")
        status = running.status()
        assert (status["hosts"], status["inventory"]) == (1, "stale")
        fill(Path(f"/proc/{running.process.pid}/root{state}/more"))  # the start has removed files that it had read
        hosts.write_text(HOSTS + "h2,02:00:00:00:00:02,10.1.0.12,1\n")
        running.wait_for(r"generation \d+: 2 hosts")
        hosts.write_text(HOSTS + "h2,02:00:00:00:00:02,10.1.0.13,1\n")
        running.ctl("refresh", {"force": True, "wait": True})
        status = running.status()
        assert status["hosts"] == 2 and not any(status["restarts"].values()), status["restarts"]
        running.wait_for("cannot keep the table")  # it is saved once who asked for the refresh has his answer
        said = "\n".join(running.lines)
        assert said.count("cannot keep the table") == 1, said
        running.ctl("rollback", {})
        running.ctl("refresh", {"force": True, "wait": True})
        assert not any(running.status()["restarts"].values()), "\n".join(running.lines)


def test_a_service_starts_with_every_file_damaged(tmp_path: Path) -> None:
    """Control ended at such a journal, and the next one, and the next one."""
    may_serve()
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "hosts.csv").write_text(HOSTS)
    spoilt = [GOOD.record() | {"mac": MAC, name: ["\ud800", 1e999, {}]} for name in GOOD.record()]
    lines = [*(json.dumps(record).encode() for record in spoilt), DEEP, b"\0" * 5_000, b'{"mac": [1]}', b"{" * 100_000]
    (state / "discovery.journal").write_bytes(b"\n".join(lines))
    for name in (FILE, "table.base", "table.delta"):
        (state / name).write_bytes(DEEP)
    (state / "pinned").mkdir()
    (state / "discovery.journal.new").mkdir()
    snmp = {"bind_address": "127.0.0.1", "bind_port": free_port(), "communities": ["x"]}
    with serving(tmp_path, f"file://{tmp_path}/hosts.csv", snmp, update_ipmi=True) as running:
        running.wait_for(r"no SNMPv3: .*snmp-engine: found")
        running.ctl("refresh", {"force": True, "wait": True})
        status = running.status()
        assert status["hosts"] == 1 and not any(status["restarts"].values()), "\n".join(running.lines)
        assert status["discovery"]["journal"]["left_out"] == len(lines) - 3, status["discovery"]
        assert any("kept in discovery.journal.lost" in line for line in running.lines)
        assert any("table.base is not served" in line for line in running.lines)


def test_a_service_without_a_place_for_its_socket_serves(tmp_path: Path) -> None:
    may_serve()
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    (tmp_path / "hosts.csv").write_text(HOSTS)
    (tmp_path / "state").mkdir()
    within = ["unshare", "-m", "sh", "-c", MOUNTS["read-only"], str(tmp_path)]
    with serving(tmp_path, f"file://{tmp_path}/hosts.csv") as running:
        running.wait_for("generation 1: 1 hosts")
    with serving(tmp_path, f"file://{tmp_path}/hosts.csv", within=within) as running:
        running.wait_for("serving without it: ctl cannot reach this service")
        running.wait_for(r"generation \d+: 1 hosts")
