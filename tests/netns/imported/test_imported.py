"""A site of 50 hosts served by ISC dhcpd, dnsmasq or Kea, and by us from what `bootstorm import` made of their files.

The same requests go to both; a table has the fields that are alike and those that are not, each with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from bench.lab.lab import Host, Lab, which
from bench.lab.site import running_site
from control.explain.classes import said_by_firmware
from control.plan.classes import CLASSES
from tests.control.importers.support import imported, lost, reasons, written
from tests.ext.packets import TYPE_NAMES, Parsed, discover, ip, request, tlv
from tests.netns.asker import Asker, Heard
from tests.netns.imported.sites import ASKER, RELAY, SENTINEL, SERVER, SERVERS, Machine, machines

pytestmark = [pytest.mark.netns, pytest.mark.long]

STAGES = ("bios-pxe", "uefi-x64", "uefi-arm64", "http-boot-x64", "ipxe-http", "os")
WANTED = (1, 3, 6, 12, 15, 17, 26, 28, 42, 43, 51, 54, 58, 59, 60, 66, 67, 119)
# What differs on purpose, or cannot matter: field -> why.
REASONS = {
    "option 58": "T1 is half of the lease, which a client takes where none is sent; dnsmasq varies it",
    "option 59": "T2 is 7/8 of the lease, which a client takes where none is sent; dnsmasq varies it",
    "option 28": "the network's last address, which a client takes where none is sent",
    "boot server": "nobody needs one for a URL, or without a boot file",
    "boot file": "HTTP boot is told URLs alone: its firmware can load nothing else",
}


class Case(NamedTuple):
    machine: Machine
    stage: str
    asked: str
    ours: dict[str, Any]
    theirs: dict[str, Any]


def told(heard: list[Heard]) -> dict[str, Any]:
    """What a client acts by.  The boot file is 67 or the field, the boot server 66, siaddr or the field."""
    if not heard:
        return {"kind": "silence"}
    assert len(heard) == 1
    said = Parsed.of(heard[0].payload)
    file = (said.option(67) or said.file).rstrip(b"\0").decode()
    server = (said.option(66) or b"").rstrip(b"\0").decode() or said.siaddr
    options = {f"option {code}": said.option(code) for code in WANTED if code not in (66, 67)}
    shown: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if "option 119" in shown:
        shown["option 119"] = names_of(shown["option 119"])
    return {"kind": TYPE_NAMES[said.kind], "yiaddr": said.yiaddr, "boot file": file, "boot server": server} | shown


def names_of(payload: bytes) -> list[str]:
    """Of a search list, compressed or not (RFC 3397)."""
    names, at = [], 0
    while at < len(payload):
        labels, here, jumped = [], at, False
        while payload[here]:
            if payload[here] >= 0xC0:
                at, here, jumped = at if jumped else here + 2, (payload[here] & 0x3F) << 8 | payload[here + 1], True
                continue
            labels.append(payload[here + 1 : here + 1 + payload[here]].decode())
            here += 1 + payload[here]
        at = at if jumped else here + 1
        names.append(".".join(labels))
    return names


def ask(asker: Asker, payload: bytes, is_far: bool) -> list[Heard]:
    if is_far:
        return asker.ask("near", payload, ip(ASKER), 67, ip(SERVER))
    return asker.ask("near", payload, 0, 68, 0xFFFFFFFF)


def questions(machine: Machine, stage: str) -> Iterator[tuple[str, bytes]]:
    mac, where = int(machine.mac.replace(":", ""), 16), {"giaddr": RELAY} if machine.is_far else {}
    said = tlv(55, bytes(WANTED)) + said_by_firmware(CLASSES[stage])
    xid = 0x10000 + machine.number * 16 + STAGES.index(stage)
    yield "DISCOVER", discover(mac, xid=xid, options=said, **where)
    yield "REQUEST", request(mac, requested=machine.address, server_id=SERVER, xid=xid, options=said, **where)


@pytest.fixture(scope="module", params=SERVERS)
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Case]]]:
    old = SERVERS[request.param]
    if reason := Lab.available():
        pytest.skip(reason)
    if which(old.program) is None:
        pytest.skip(f"{old.program} is not installed (Debian package {old.package})")
    with Lab() as lab:
        (theirs, their_asker), (ours, our_asker) = (wired(lab, name) for name in ("old", "ours"))
        for name, text in old.files(theirs.scratch).items():
            (theirs.scratch / name).write_text(text)
        found = imported(theirs.scratch / next(iter(old.files(theirs.scratch))))
        assert [line for line in lost(found) if "interfaces-config" not in line] == [], reasons(found)
        text = written(tmp_path_factory.mktemp(request.param), found).read_text()
        process = old.start(theirs)
        try:
            with (
                running_site(ours, text, 51, 1),
                Asker(our_asker, ours, ("near",), SENTINEL, "near") as one,
                Asker(their_asker, theirs, ("near",), SENTINEL, "near") as other,
            ):
                yield request.param, list(asked(one, other))
        finally:
            process.stop()


def wired(lab: Lab, name: str) -> tuple[Host, Host]:
    """A server and the asker's end of its wire."""
    server, client = lab.host(name), lab.host(f"{name}-asker")
    lab.wire(server, client, a_if="near", b_if="near", a_addr=f"{SERVER}/24", b_addr=f"{ASKER}/24")
    server.route("default", ASKER)
    return server, client


def asked(one: Asker, other: Asker) -> Iterator[Case]:
    for machine in machines():
        if machine.name == "sentinel":
            continue
        for stage in STAGES:
            for kind, payload in questions(machine, stage):
                ours, theirs = (told(ask(asker, payload, machine.is_far)) for asker in (one, other))
                yield Case(machine, stage, kind, ours, theirs)


def differing(case: Case) -> list[str]:
    return sorted(field for field in {*case.ours, *case.theirs} if case.ours.get(field) != case.theirs.get(field))


def why(case: Case, field: str) -> str | None:
    """Why a field may differ there; None: it may not."""
    file = case.ours["boot file"]
    if field == "boot server" and file and "://" not in file:
        return None
    if field == "boot file" and (case.stage != "http-boot-x64" or file or "://" in case.theirs["boot file"]):
        return None
    return REASONS.get(field)


def test_every_stage_of_50_machines_is_answered_alike(cases: tuple[str, list[Case]]) -> None:
    server, found = cases
    alike, other = Counter[str](), Counter[str]()
    unexplained = []
    for case in found:
        for field in {*case.ours, *case.theirs}:
            (other if field in differing(case) else alike)[field] += 1
        unexplained += [
            f"{case.machine.name} {case.stage} {case.asked}: {field}: ours {case.ours.get(field)!r}, "
            f"{server}'s {case.theirs.get(field)!r}"
            for field in differing(case)
            if why(case, field) is None
        ]
    print(f"\n{server}: {len(found)} requests of 50 machines\n{'field':<12} {'alike':>6} {'other':>6}  why")
    for field in sorted({*alike, *other}):
        reason = REASONS.get(field, "") if other[field] else ""
        print(f"{field:<12} {alike[field]:6} {other[field]:6}  {reason}")
    assert not unexplained, f"{len(unexplained)} differences without a reason:\n" + "\n".join(unexplained[:40])
    assert len(found) == 50 * len(STAGES) * 2
    assert alike["kind"] == len(found) and all(case.ours["kind"] != "silence" for case in found)
