"""control/explain/leasequery.py: a leasequery and the answers to it are told as what they are, of nobody's request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from control.cli.command_line import main
from control.cli.explain_text import render_capture
from control.config.config import Dhcp
from control.explain.command import explain, from_hosts, pieces_of
from control.explain.explainer import Explainer
from control.explain.offline import Interface
from control.messages.capture import Capture, Datagram
from tests.control.explain.test_explain import HOSTS

MAC, ADDRESS = bytes.fromhex("02e2e0000011"), bytes((64, 0, 0, 9))
QUERY, UNASSIGNED, UNKNOWN, ACTIVE = 10, 11, 12, 13
CLIENT_ID = b"\x3d\x07\1" + MAC
RELAY, SERVER = 0x0A14_0001, 0x0A14_0002


def message(kind: int, *, mac: bytes = b"", ciaddr: bytes = bytes(4), more: bytes = b"") -> bytes:
    """RFC 4388 section 6.1: no hardware address in a query by address or by client id."""
    op = 1 if kind == QUERY else 2
    head = bytes((op, bool(mac), len(mac), 0)) + b"\x12\x34\x56\x78" + bytes(4) + ciaddr + bytes(8)
    body = head + RELAY.to_bytes(4, "big") + mac.ljust(208, b"\0") + bytes((99, 130, 83, 99, 53, 1, kind))
    return (body + more + b"\xff").ljust(300, b"\0")


@pytest.mark.parametrize(
    ("payload", "stage", "says"),
    [
        (message(QUERY, ciaddr=ADDRESS), "LEASEQUERY", "it asks who has 64.0.0.9"),
        (message(QUERY, mac=MAC), "LEASEQUERY", "it asks which addresses 02:e2:e0:00:00:11 has"),
        (message(QUERY, more=CLIENT_ID), "LEASEQUERY", "which addresses the client id Ethernet 02:e2:e0:00:00:11 has"),
        (message(QUERY), "LEASEQUERY", "it asks about nothing"),
        (message(UNASSIGNED, ciaddr=ADDRESS), "LEASEUNASSIGNED", "it is about 64.0.0.9"),
        (message(UNKNOWN, mac=MAC), "LEASEUNKNOWN", "it is about 02:e2:e0:00:00:11"),
        (
            message(ACTIVE, mac=MAC, ciaddr=ADDRESS, more=b"\x5c\x04\x40\0\0\x0a"),
            "LEASEACTIVE",
            "64.0.0.9 belongs to 02:e2:e0:00:00:11",
        ),
    ],
)
def test_it_is_told_as_what_it_is(payload: bytes, stage: str, says: str) -> None:
    ran = CliRunner(env={"HOME": "/nowhere"}).invoke(main, ["explain", payload.hex(), "--hosts", str(HOSTS)])
    assert ran.exit_code == 0
    assert f"{stage}: " in ran.stdout and says in ran.stdout and "the relay 10.20.0.1 asks" in ran.stdout
    for wrong in (
        "00:00:00:00:00:00",
        "it has the address",
        "the address 64.0.0.",
        "an operating system",
        "no client's message",
    ):
        assert wrong not in ran.stdout
    if stage == "LEASEQUERY":
        assert "none: this server answers no leasequery" in ran.stdout and "[IGNORED_MESSAGE_TYPE]" in ran.stdout
    _kind, said = explain(payload.hex(), from_hosts(HOSTS, Dhcp()))
    json.dumps(said)
    assert (said["request"]["mac"], said["request"]["class"], said["request"]["host"]) == (None, None, None)


def test_without_a_table_the_answer_is_not_known() -> None:
    assert Explainer(None, ()).datagram(message(QUERY, mac=MAC))["verdict"] is None


@pytest.mark.parametrize("mac", [b"", MAC], ids=["by-address", "by-MAC"])
def test_an_answer_in_a_capture_stands_with_its_query_and_makes_nobody_s_story(mac: bytes) -> None:
    """The answer names the machine, which the query did not: only their transaction id is the same."""
    query = message(QUERY, mac=mac) if mac else message(QUERY, ciaddr=ADDRESS)
    answer = message(ACTIVE, mac=MAC, ciaddr=ADDRESS)
    capture = Capture(
        datagrams=[
            Datagram(1, 0.0, RELAY, 67, SERVER, 67, query),
            Datagram(2, 0.5, SERVER, 67, RELAY, 67, answer),
        ],
        frames=2,
    )
    (said,) = Explainer(None, [Interface(1, SERVER, 24)]).capture(capture)
    assert [seen["message"] for seen in said["seen"]] == ["LEASEACTIVE: 64.0.0.9 belongs to 02:e2:e0:00:00:11"]
    lines = render_capture({"premises": [], "requests": [said], "frames": 2, "skipped": {}})
    text = "\n".join(lines)
    assert "in short" not in text and "answers LEASEACTIVE: 64.0.0.9 belongs to 02:e2:e0:00:00:11" in text


def test_a_query_and_its_answer_go_to_the_service_in_one_piece() -> None:
    """They have no hardware address in common; in two pieces, the answer would be one to nothing."""
    query = Datagram(1, 0.0, RELAY, 67, SERVER, 67, message(QUERY, ciaddr=ADDRESS))
    between = [query._replace(frame=frame, payload=filler(frame)) for frame in range(1000, 1398)]
    answer = Datagram(1400, 0.5, SERVER, 67, RELAY, 67, message(ACTIVE, mac=MAC, ciaddr=ADDRESS))
    first, *others = pieces_of(Capture([query, *between, answer]))
    assert query in first and answer in first and others
    assert "by relay" not in "\n".join(render_capture(explained_here([query, answer])))


def filler(number: int) -> bytes:
    """A DISCOVER of a machine of its own."""
    payload = bytearray(message(QUERY, mac=MAC[:4] + number.to_bytes(2, "big")))
    payload[242] = 1
    return bytes(payload)


def explained_here(datagrams: list[Datagram]) -> dict[str, Any]:
    capture = Capture(datagrams)
    requests = Explainer(None, ()).capture(capture)
    return {"premises": [], "requests": requests, "frames": len(datagrams), "skipped": {}}
