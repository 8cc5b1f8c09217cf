"""Every exchange of the captures through answer(): goldens that a person has read, replies that scapy reads alike.

BOOTSTORM_GOLDEN=write makes the goldens anew; read the difference before you keep it.  tests/netns/test_exchanges.py
sends the same requests through sockets and wants the same octets back.
"""

import os

import pytest

from tests.ext import scapy_view
from tests.ext.captures import datagrams, dhcp_captures
from tests.ext.exchanges import FOLDER, exchanges, host_count, pair, portrait
from tests.ext.packets import Parsed

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", dhcp_captures())
def test_golden(name: str) -> None:
    path = FOLDER / f"{name}.txt"
    text = portrait(name)
    if os.environ.get("BOOTSTORM_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(dhcp_captures())


def test_every_machine_of_the_site_is_in_the_table() -> None:
    assert pair().top.host_count == host_count()


@pytest.mark.parametrize("name", dhcp_captures())
def test_scapy_reads_the_same(name: str) -> None:
    """Every field of every reply; the echoes against scapy's reading of the request."""
    answered = [each for each in exchanges(name) if each.reply.data]
    for exchange in answered:
        said, asked = scapy_view.compare(exchange.reply.data), Parsed.of(exchange.asked.payload)
        assert (said.xid, said.chaddr, said.giaddr) == (asked.xid, asked.chaddr, asked.giaddr)
        for echo in (61, 82):
            assert said.option(echo) == asked.option(echo)
    assert answered or all(Parsed.of(one.payload).kind in (4, 7) for one in datagrams(name))


def test_scapy_s_view_tells_a_difference() -> None:
    """Or the comparison would prove nothing."""
    reply = next(each.reply.data for each in exchanges("udhcpc") if each.reply.data)
    assert scapy_view.compare(reply).kind == 2
    cut = reply[:240] + b"\x35\x01\x02\x36\x04\x0a\x58" + b"\xff"
    with pytest.raises((ValueError, AssertionError)):
        scapy_view.compare(cut)
