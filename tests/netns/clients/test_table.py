"""The table of clients, and the times in it, out of a capture's text."""

from __future__ import annotations

import pytest

from tests.netns.clients.table import ROW, Row, render, row_of
from tests.netns.clients.wire import answer_times, packets, until_ack

HEAD = ", ethertype IPv4 (0x0800), length 300: (tos 0x0, ttl 64, id 0, proto UDP (17), length 286)\n"
NEXT = "\t  Vendor-rfc1048 Extensions\n\t    Magic Cookie 0x63825363\n\t    DHCP-Message (53), length 1: "
OPTION_82 = "\t    Agent-Information (82), length 4: \n\t      Circuit-ID SubOption 1, length 2: rc\n"


def words(at: str, kind: str, message: str, mac: str = "02:00:00:00:00:01", more: str = "") -> str:
    """One packet as `tcpdump -n -e -vvv` prints it."""
    ends = "0.0.0.0.68 > 255.255.255.255.67" if kind == "Request" else "10.88.0.1.67 > 10.88.0.11.68"
    sender = f" from {mac}" if kind == "Request" else ""
    line = (
        f"    {ends}: [udp sum ok] BOOTP/DHCP, {kind}{sender}, length 300, xid 0x1a2b, secs 1, Flags [none] (0x0000)\n"
    )
    address = "\t  Your-IP 10.88.0.11\n" if kind == "Reply" else ""
    return (
        f"{at} {mac} > ff:ff:ff:ff:ff:ff{HEAD}{line}{address}\t  Client-Ethernet-Address {mac}\n{NEXT}{message}\n{more}"
    )


OTHER = "02:00:00:00:00:02"
LOG = (
    "tcpdump: listening on sv, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n"
    + words("23:59:59.500000", "Request", "Discover")
    + words("23:59:59.600000", "Request", "Discover", OTHER)  # the same transaction id, and no answer
    + words("23:59:59.750000", "Reply", "Offer", more=OPTION_82)
    + words("00:00:01.000000", "Request", "Request")
    + words("00:00:01.125000", "Reply", "ACK", more=OPTION_82)
)


def test_packets_are_what_tcpdump_printed() -> None:
    seen = packets(LOG)
    assert [(packet.message, packet.reply) for packet in seen] == [
        ("Discover", False),
        ("Discover", False),
        ("Offer", True),
        ("Request", False),
        ("ACK", True),
    ]
    assert {packet.xid for packet in seen} == {"0x1a2b"} and seen[1].mac == OTHER
    assert seen[2].address == "10.88.0.11"
    assert seen[2].options == ("DHCP-Message (53), length 1: Offer",), "82 is the relay's, not the answer's"


def test_times_belong_to_a_machine_and_pass_midnight() -> None:
    assert answer_times(packets(LOG)) == pytest.approx([0.25, 0.125])
    assert until_ack(packets(LOG)) == pytest.approx(1.625)
    assert until_ack(packets(words("10:00:00.000000", "Request", "Discover"))) is None


def report(client: str, case: str, longrepr: object = None, **seconds: float | None) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid="x", location=("x", 0, "x"), keywords={}, outcome="passed", longrepr=longrepr,  # type: ignore[arg-type]
        when="call", duration=2.5, user_properties=[(ROW, f"{client}\n{case}"), *seconds.items()],
    )  # fmt: skip


def test_a_row_has_the_times_or_the_reason() -> None:
    passed = row_of(report("udhcpc", "direct", until_ack=0.02, slowest=None), "passed")
    assert passed == Row("udhcpc", "direct", "passed", 0.02, None, None, 2.5)
    skipped = row_of(report("nmap", "offer", longrepr=("file", 1, "Skipped: nmap is not installed")), "skipped")
    assert skipped == Row("nmap", "offer", "skipped: nmap is not installed")


def test_the_table_is_one_line_a_row() -> None:
    rows = [Row("udhcpc", "direct", "passed", 0.02, None, None, 2.5), Row("nmap", "offer", "skipped: not installed")]
    assert render(rows) == [
        "client  case    result  asked to ACK  slowest answer  boot    test",
        "nmap    offer   skipped: not installed",
        "udhcpc  direct  passed       20.0 ms                        2.50 s",
    ]
