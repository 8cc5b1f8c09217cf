"""`ctl hosts` and the boot ledger: what machines did, in pages and by filters, kept over deaths and restarts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ext.builder import Builder
from ext.classify import ClientClass
from ext.ledger import create_ledger
from ext.rows import Numbers
from ext.table import Pair
from ext.verdict import Verdict

from control.cli.command_line import main
from control.cli.hosts_text import span
from control.mac import show_mac
from control.service.machines.hosts import Hosts, NotFound, card_of
from control.service.machines.scans import WrongFilter
from control.service.machines.whereabouts import Whereabouts
from control.service_client import CallFailed
from fastpath.protocol import Fds
from tests.control.refreshing import Ctl, commanded
from tests.control.serving import Running, children, may_serve, serving
from tests.ext.packets import discover
from tests.ext.test_ledger import REQUEST, filled, paired, sealed

MACS = [0x020000000000 + number for number in range(1, 8)]
ROM = int(ClientClass.UEFI_X64)


def known(folder: Path) -> Hosts:
    fd = create_ledger()
    try:
        return Hosts(fd, folder, Whereabouts())
    finally:
        os.close(fd)


def rack() -> Pair:
    rows: Any = [(mac, b"r1-n%d" % (mac & 15), "served", 0x0A010000 + (mac & 15)) for mac in MACS[:6]]
    return paired([*rows, (MACS[6], b"bad\x1b[31m", "conflict", 0)])


def asked(hosts: Hosts, pair: Pair | None, **arguments: Any) -> dict[str, Any]:
    return asyncio.run(hosts.page(pair, arguments, lambda _mac: "MAC belongs to two"))


def names(page: dict[str, Any]) -> list[str]:
    return [host["name"] for host in page["hosts"]]


def test_hosts_by_filters(tmp_path: Path) -> None:
    hosts, pair = known(tmp_path), rack()
    now_s = hosts.ledger.now_s()
    hosts.ledger.note(pair, MACS[0], 0, int(Verdict.OFFERED), ROM, 1, now_s - 100, giaddr=0x0A0100FE)
    hosts.ledger.note(pair, MACS[1], 0, int(Verdict.ACKED), 0, 2, now_s, REQUEST)
    assert names(asked(hosts, pair, progress="stuck")) == ["r1-n1"]
    assert names(asked(hosts, pair, progress="stuck,done")) == ["r1-n1", "r1-n2"]
    assert names(asked(hosts, pair, progress="never", state="served")) == ["r1-n3", "r1-n4", "r1-n5", "r1-n6"]
    assert names(asked(hosts, pair, name="*-n[45]")) == ["r1-n4", "r1-n5"]
    assert names(asked(hosts, pair, address="10.1.0.4/31")) == ["r1-n4", "r1-n5"]
    assert names(asked(hosts, pair, relay="10.1.0.254")) == ["r1-n1"]
    assert names(asked(hosts, pair, state="conflict")) == ["bad\x1b[31m"]
    (stuck,) = asked(hosts, pair, progress="stuck")["hosts"]
    assert stuck["reason"].startswith("its ROM was offered its address and does not take it")
    assert asked(hosts, None)["hosts"] == []


def placed(hosts: Hosts, pair: Pair) -> None:
    """n1 and n2 in rack r1 of pool web, n3 in rack r2 of pool db, the others nowhere."""
    numbers = {mac: pair.number_of(mac) for mac in MACS}
    groups = bytearray(4 * (max(numbers.values()) + 1))
    for mac, group in zip(MACS, (1, 1, 2), strict=False):
        groups[4 * numbers[mac]] = group
    told = [[["/basicrack/r1", "/pool/web", "/datacenter/a"], ""], [["/basicrack/r2", "/pool/db"], "rom"]]
    hosts.whereabouts.take({"groups": told, "placed": bytes(groups)})


def test_hosts_by_containers(tmp_path: Path) -> None:
    hosts, pair = known(tmp_path), rack()
    with pytest.raises(WrongFilter, match="known once the inventory has been read"):
        asked(hosts, pair, pool="web")
    placed(hosts, pair)
    assert names(asked(hosts, pair, pool="web")) == ["r1-n1", "r1-n2"]
    assert names(asked(hosts, pair, rack="r*")) == ["r1-n1", "r1-n2", "r1-n3"]
    assert names(asked(hosts, pair, rack="r2", pool="web")) == [] == names(asked(hosts, pair, pool="a"))
    (host,) = asked(hosts, pair, rack="r2")["hosts"]
    assert host["containers"] == ["/basicrack/r2", "/pool/db"]
    hosts.ledger.note(pair, MACS[2], 0, int(Verdict.ACKED), ROM, 1, hosts.ledger.now_s(), REQUEST)
    assert names(asked(hosts, pair, progress="done")) == ["r1-n3"], "its boots end in the ROM"
    sums = asyncio.run(hosts.scans.sums(pair, "pool"))["of"]
    assert {name: (each["never"], each["done"]) for name, each in sums.items()} == {
        "": (4, 0), "db": (0, 1), "web": (2, 0),
    }  # fmt: skip
    assert set(asyncio.run(hosts.scans.sums(pair, "rack"))["of"]) == {"", "r1", "r2"}
    with pytest.raises(WrongFilter, match="pool, rack or relay"):
        asyncio.run(hosts.scans.sums(pair, "x"))


def test_a_pattern_is_of_letters(tmp_path: Path) -> None:
    hosts, pair = known(tmp_path), paired([(1, "rök1".encode(), "served", 1), (2, b"r\\udc80k2", "served", 2)])
    assert names(asked(hosts, pair, name="r?k?")) == ["rök1"]
    assert names(asked(hosts, pair, name="r[öä]k*")) == ["rök1"]
    assert names(asked(hosts, pair, name="r*k2")) == ["r\\udc80k2"]


def test_hosts_in_doubt(tmp_path: Path) -> None:
    hosts, pair = known(tmp_path), rack()
    with pytest.raises(WrongFilter, match="known once the inventory has been read"):
        asked(hosts, pair, state="served,in-doubt")
    doubtful = bytearray(4 * (pair.number_of(MACS[2]) + 1))
    doubtful[4 * pair.number_of(MACS[2])] = 1
    hosts.whereabouts.take({"doubtful": bytes(doubtful)})
    assert names(asked(hosts, pair, state="in-doubt")) == ["r1-n3"]
    assert names(asked(hosts, pair, state="in-doubt,conflict")) == ["r1-n3", "bad\x1b[31m"]
    assert [host["in_doubt"] for host in asked(hosts, pair, address="10.1.0.2/31")["hosts"]] == [False, True]
    hosts.whereabouts.take({"doubtful": b""})
    assert names(asked(hosts, pair, state="in-doubt")) == []


@pytest.mark.parametrize(
    "wrong", [{"state": "gone"}, {"progress": "x"}, {"relay": "10.1"}, {"address": "10.1.0.0/40"}, {"state": "served,"}]
)
def test_a_wrong_filter_is_named(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(WrongFilter, match="wanted"):
        asked(known(tmp_path), rack(), **wrong)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("named", [None, "r1-*"])
def test_pages_miss_nobody_and_tell_nobody_twice(tmp_path: Path, limit: int, named: str | None) -> None:
    hosts, pair = known(tmp_path), rack()
    found, after, more = [], 0, True
    while more:
        page = asked(hosts, pair, after=after, limit=limit, **({"name": named} if named else {}))
        assert len(page["hosts"]) <= limit
        found += names(page)
        after, more = page["after"], page["more"]
    assert found == names(asked(hosts, pair))[: 6 if named else 7]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_another_table_between_two_pages_loses_nobody(tmp_path: Path, limit: int) -> None:
    """A card is looked up, another one goes, one comes: the delta is another from page to page."""
    hosts = known(tmp_path)
    base = rack().base
    numbers = Numbers([base], base)

    def table(number: int, rows: Any, gone: Any = ()) -> Pair:
        builder = filled(Builder(base), rows)
        for mac in gone:
            builder.add_tombstone(mac)
        return Pair(base, sealed(builder, number, numbers))

    edited, moved = (MACS[1], b"r1-n2", "served", 0x0A010042), (MACS[4], b"r1-n5", "served", 0x0A010045)
    new = (0x020000000009, b"r1-n9", "served", 0x0A010009)
    tables = [table(2, [edited, moved, new]), table(3, [new, moved], [MACS[5]]), Pair(base), table(4, [new, edited])]
    found, after, more, pages = set(), 0, True, 0
    while more:
        page = asked(hosts, tables[pages % len(tables)], after=after, limit=limit)
        found.update(names(page))
        after, more, pages = page["after"], page["more"], pages + 1
    stayed = {"r1-n1", "r1-n2", "r1-n3", "r1-n4", "r1-n5", "bad\x1b[31m"}
    assert found >= stayed and pages >= 2


def test_a_bmc_is_found_by_its_address() -> None:
    pair = paired([
        (MACS[0], b"a", "served", 0x0A010001), (MACS[0] | 1 << 48, b"a", "served", 0x0A010051),
        (MACS[1] | 1 << 48, b"b", "served", 0x0A010052),
    ])  # fmt: skip
    assert card_of(pair, "10.1.0.81") == (MACS[0], 1) and card_of(pair, "10.1.0.1") == (MACS[0], 0)
    assert card_of(pair, show_mac(MACS[0])) == card_of(pair, "a") == (MACS[0], 0), "the host, where both have it"
    assert card_of(pair, show_mac(MACS[1])) == card_of(pair, "b") == card_of(pair, "10.1.0.82") == (MACS[1], 1)


def test_a_machine_by_its_name_or_address() -> None:
    pair = paired([
        (MACS[0], b"a", "served", 0x0A010001), (MACS[0] | 1 << 48, b"a", "served", 0x0A010051),
        (MACS[1], b"a", "disabled", 0),
        (MACS[2], b"b", "disabled", 0), (MACS[3], b"b", "disabled", 0), (MACS[4], b"dead", "conflict", 0),
    ])  # fmt: skip
    assert card_of(pair, "a") == card_of(pair, "10.1.0.1") == (MACS[0], 0), "the card that is served"
    assert card_of(pair, "dead") == (MACS[4], 0) and card_of(None, "02-00-00-00-00-09") == (0x020000000009, 0)
    with pytest.raises(NotFound, match="'b' has 2 cards: 02:00:00:00:00:03, 02:00:00:00:00:04; wanted"):
        card_of(pair, "b")
    for text in ("c", "10.1.0.9", "", "02:00:00"):
        with pytest.raises(NotFound, match="is no MAC address, wanted one such as"):
            card_of(pair, text)
    with pytest.raises(NotFound):
        card_of(None, "a")


def test_a_name_may_look_like_a_mac_or_an_address() -> None:
    pair = paired([
        (MACS[0], b"200235412345", "served", 0x0A010001), (MACS[1], b"10.1.0.9", "served", 0x0A010002),
        (MACS[2], b"10.1.0.1", "served", 0x0A010003), (MACS[3], b"02000000-0005", "served", 0x0A010004),
        (MACS[4], b"e", "served", 0x0A010005),
    ])  # fmt: skip
    assert card_of(pair, "200235412345") == (MACS[0], 0) and card_of(pair, "10.1.0.9") == (MACS[1], 0)
    assert card_of(pair, "10.1.0.1") == (MACS[0], 0), "an address that the table has comes first"
    assert card_of(pair, "02000000-0005") == (MACS[4], 0), "and a MAC that it has"
    assert card_of(pair, "200235412346") == (0x200235412346, 0), "what nobody is called is a MAC"


def test_totals_are_of_all_rows(tmp_path: Path) -> None:
    hosts, pair = known(tmp_path), rack()
    hosts.ledger.note(pair, MACS[0], 0, int(Verdict.ACKED), 0, 1, hosts.ledger.now_s(), REQUEST)
    totals = asyncio.run(hosts.scans.totals(pair))
    assert totals["states"]["served"] == {
        "never": 5, "booting": 0, "stuck": 0, "done": 1, "unknown": 0, "refused": 0,
    }  # fmt: skip
    assert sum(sum(each.values()) for each in totals["states"].values()) == len(MACS)
    assert totals["progress"]["never"] == 6 and totals["progress"]["done"] == 1 == totals["relays"][""]["done"]
    assert asyncio.run(hosts.scans.totals(None))["states"] == {}


def test_a_damaged_file_is_named_and_costs_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ledger").write_bytes(b"bootstorm ledger 1\n" + bytes(100))
    known(tmp_path).load()
    assert "ledger is not used: its checksum is wrong" in caplog.text and not (tmp_path / "ledger").exists()


def test_a_folder_that_takes_nothing_costs_the_ledger_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hosts = known(tmp_path / "gone")
    hosts.load()
    hosts.save()
    assert "cannot keep the boot ledger" in caplog.text


def test_what_is_loaded_once_is_gone_from_the_disk(tmp_path: Path) -> None:
    """After a crash nobody takes the word of a stop long ago for the last one."""
    hosts, pair = known(tmp_path), rack()
    hosts.ledger.note(pair, MACS[0], 0, int(Verdict.ACKED), 0, 1, hosts.ledger.now_s(), REQUEST)
    hosts.save()
    again = known(tmp_path)
    again.load()
    assert names(asked(again, pair, progress="done")) == ["r1-n1"] and not (tmp_path / "ledger").exists()
    third = known(tmp_path)
    third.load()
    assert names(asked(third, pair, progress="done")) == []


@pytest.mark.parametrize(
    "seconds, said", [(0, "0 s"), (119, "119 s"), (300, "5 min"), (9000, "2 h"), (400_000, "5 days")]
)
def test_spans(seconds: float, said: str) -> None:
    assert span(seconds) == said


# --- the whole --------------------------------------------------------------------------------------------------------


def told(running: Running, **arguments: Any) -> dict[str, dict[str, Any]]:
    return {host["name"]: host for host in running.ctl("hosts", arguments)["hosts"]}


def heard(running: Running, folder: Path, mac: int, requests: int, total: int) -> dict[str, Any]:
    """Asks, from an address that is in none of the inventory's networks, and waits until the ledger has so many."""
    port = json.loads((folder / "services.conf").read_text())["dhcp"]["port"]
    deadline = time.monotonic() + 30
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(requests):
            sender.sendto(discover(mac), ("127.0.0.1", port))
        while True:
            found = [host for host in told(running, progress="booting,stuck").values() if host["requests"] >= total]
            if found:
                return found[0]
            assert time.monotonic() < deadline, told(running)


def test_the_ledger_of_a_running_service(tmp_path: Path) -> None:
    """Over the death of a worker, and over a restart."""
    may_serve()
    rows = "".join(
        f'- {{name: h{mac & 15}, mac: "{show_mac(mac)}", address: 10.1.0.{mac & 15}, pool: p}}\n' for mac in MACS
    )
    path = tmp_path / "hosts.yaml"
    path.write_text(
        "networks:\n- {name: n, base: 10.1.0.0, mask: 24}\n"
        f"pools:\n- {{name: p, dhcp: {{enabled: 1}}}}\nhosts:\n{rows}"
    )
    with serving(tmp_path, f"file://{path}") as running:
        running.wait_for(r"generation 1: 7 hosts")
        running.ctl("refresh", {"wait": True})
        assert len(told(running, progress="never")) == 7
        host = heard(running, tmp_path, MACS[0], 3, 3)
        assert (host["name"], host["stage"], host["verdict"]) == ("h1", "system-asked", "IGNORED_OTHER_LINK")
        assert host["reason"] == "a system has no answer: none of its addresses fits where it asks from"
        os.kill(children(running.process.pid)["worker"], signal.SIGKILL)
        assert heard(running, tmp_path, MACS[0], 3, 6)["requests"] == 6, "its successor goes on counting"
        status = running.status()["boots"]
        assert status["states"]["served"]["never"] == 6 and status["stages"]["system-asked"] == 1
        assert running.ctl("overview", {})["totals"] == {
            name: status[name] for name in ("states", "stages", "progress")
        }
        (by_pool,) = running.ctl("hosts", {"by": "pool"})["of"].items()
        assert by_pool[0] == "p" and {word: by_pool[1][word] for word in status["progress"]} == status["progress"]
        ran = CliRunner().invoke(main, ["ctl", "--socket", str(tmp_path / "control.sock"), "hosts", "--never-seen"])
        assert ran.exit_code == 0 and ran.stdout.count("not heard") == 6 and "6 hosts; nothing is known" in ran.stdout
        ran = CliRunner().invoke(main, ["ctl", "--socket", str(tmp_path / "control.sock"), "hosts", "--by", "relay"])
        assert ran.exit_code == 0 and ran.stdout.splitlines()[1].split()[:4] == ["(directly)", "0", "1", "1"]
        assert ran.stdout.splitlines()[-1].startswith("nothing is known of what was before 20")
        since_s = running.ctl("hosts", {})["since_s"]
        assert abs(running.ctl("lookup", {"mac": show_mac(MACS[0])})["boots_since_s"] - since_s) <= 1
    with serving(tmp_path, f"file://{path}") as running:
        running.wait_for(r"of 1 machines it is known how far they were")
        running.wait_for(r"generation \d+: 7 hosts|the table of generation")
        running.ctl("refresh", {"wait": True})
        assert told(running, progress="booting,stuck")["h1"]["requests"] == 6
        assert abs(running.ctl("hosts", {})["since_s"] - since_s) <= 1


@pytest.mark.parametrize("stage", [0, 0x13, 0xFF])
def test_a_damaged_entry_costs_nobody_the_list(tmp_path: Path, stage: int) -> None:
    """A worker writes its key before its stage, and control may look in between; or a worker that was taken over."""
    hosts, pair = known(tmp_path), rack()
    hosts.ledger.note(pair, MACS[0], 0, int(Verdict.OFFERED), ROM, 1, hosts.ledger.now_s())
    os.pwrite(hosts.ledger.fd, bytes([stage]), 4096 + pair.number_of(MACS[0]) * 64 + 50)
    assert len(names(asked(hosts, pair))) == len(MACS)


def test_sums_are_not_told_before_it_is_known_who_is_where(tmp_path: Path) -> None:
    """As `--pool` is not: "(in none)" for everybody would be taken for the truth."""
    hosts, pair = known(tmp_path), rack()
    with pytest.raises(WrongFilter, match="known once the inventory has been read"):
        asyncio.run(hosts.scans.sums(pair, "pool"))
    told = asyncio.run(hosts.scans.overview(pair))
    assert told["by"]["pool"] == told["by"]["rack"] == {} and sum(told["totals"]["progress"].values()) == len(MACS)


def test_control_starts_beside_a_ledger_of_another_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between installation and SIGUSR2 control may be replaced by the installed code's; the supervisor is the old one.
    Workers let such a ledger be."""
    fd, perhaps = create_ledger(), Fds.perhaps
    os.pwrite(fd, (2).to_bytes(4, "little"), 4)  # the version
    monkeypatch.setattr(Fds, "perhaps", lambda fds, name: fd if name == "ledger" else perhaps(fds, name))

    async def scenario(ctl: Ctl) -> None:
        assert (await ctl.status())["boots"] is None
        with pytest.raises(CallFailed, match="hosts: there is no boot ledger that this build can read"):
            await ctl("hosts")

    commanded(f"file://{tmp_path}/none.csv", tmp_path, scenario)
    os.close(fd)


def test_a_limit_on_files_costs_the_ledger_and_no_address(tmp_path: Path) -> None:
    may_serve()
    path = tmp_path / "hosts.yaml"
    path.write_text("networks:\n- {name: n, base: 10.1.0.0, mask: 24}\nhosts: []\n")
    with serving(tmp_path, f"file://{path}", within=("prlimit", "--fsize=536870912")) as running:
        running.wait_for("no boot ledger: .*File too large")
        running.wait_for(r"generation 1: 0 hosts")
        running.ctl("refresh", {"wait": True})
        assert running.ctl("health", {})["ready"] and running.status()["boots"] is None
        with pytest.raises(CallFailed, match="there is no boot ledger"):
            running.ctl("hosts", {})


def test_a_limit_on_address_space_costs_the_ledger_and_no_address(tmp_path: Path) -> None:
    may_serve()
    path = tmp_path / "hosts.yaml"
    path.write_text("networks:\n- {name: n, base: 10.1.0.0, mask: 24}\nhosts: []\n")
    with serving(tmp_path, f"file://{path}", within=("prlimit", "--as=1073741824")) as running:
        running.wait_for("worker 0 answers, and writes no boot ledger: .*LimitAS=")
        running.ctl("refresh", {"wait": True})
        assert running.ctl("health", {})["ready"] and running.status()["boots"] is None
