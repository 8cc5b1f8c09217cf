"""Beside 2,000 made-up machines a second a new server is answered at once, and known ones stay in sight."""

from __future__ import annotations

import sys
import time

import pytest

from bench.lab.clients import tiny
from bench.lab.lab import Lab
from bench.lab.site import ENVIRONMENT, INVENTORY, many_hosts, running_site

pytestmark = pytest.mark.netns

SERVER, NETWORK = "10.88.0.1", "10.88.0.0/255.255.0.0/10.88.0.1"
KNOWN, NEW_MAC, PER_S = "02:00:00:00:00:05", "02:00:00:aa:00:01", 2_000
FLOOD = f"""
import random, socket, sys, time
from tests.ext.packets import DECLINE, DISCOVER, message, tlv
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("{SERVER}", 67))
known, started, sent = int("{KNOWN}".replace(":", ""), 16), time.monotonic(), 0
while True:
    due = (time.monotonic() - started) * {PER_S}
    while sent < due:
        giaddr = random.choice((0, random.randrange(0x0B000000, 0x7E000000)))
        sock.send(message(DISCOVER, random.getrandbits(46) << 2, giaddr=giaddr, xid=random.getrandbits(32)))
        sent += 1
        if sent == 2 * {PER_S}:
            sock.send(message(DECLINE, known, tlv(50, "10.88.1.5") + tlv(54, "{SERVER}")))
            sys.stdout.write("declined\\n")
            sys.stdout.flush()
    time.sleep(0.002)
"""


def test_a_new_server_and_a_known_one_s_decline() -> None:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client, attacker = lab.host("server"), lab.host("client"), lab.host("attacker")
        segment = lab.bridge("segment")
        segment.plug(server, "sv", f"{SERVER}/16")
        segment.plug(client, "cl", mac=NEW_MAC)
        segment.plug(attacker, "at", "10.88.9.9/16")
        with running_site(server, many_hosts(20, NETWORK, 0x0A580100, 0x020000000000), 20) as running:
            flood = attacker.popen([sys.executable, "-c", FLOOD], env=ENVIRONMENT)
            flood.wait_for("declined", 60.0)
            program = f"from control.clusto.client import *\nconnect('http://{INVENTORY}')\n"
            program += f"s = BasicServer('new0')\ns.set_port_attr('nic-eth', 1, 'mac', '{NEW_MAC}')\n"
            program += "s.bind_ip_to_osport('10.88.2.1', 'eth0')\nPool('racks').insert(s)\n"
            server.run([sys.executable, "-c", program], timeout=60.0, env=ENVIRONMENT)
            before = running.ctl("status")
            started = time.monotonic()
            lease = tiny(client, "cl", timeout_s=20.0)
            took_s = time.monotonic() - started
            after = running.ctl("status")
            strangers = after["counters"]["IGNORED_UNKNOWN_MAC"] - before["counters"]["IGNORED_UNKNOWN_MAC"]
            asked = after["lookups"]["asked"] - before["lookups"]["asked"]
            sys.stdout.write(
                f"\nACK after {took_s:.1f} s, {strangers / took_s:,.0f} strangers/s, {asked / took_s:.0f} look-ups/s\n"
            )
            assert lease.address == "10.88.2.1" and took_s < 8.0, "the second DISCOVER"
            assert asked / took_s < 2 * 40 + 200 / took_s, "both kinds' budgets"
            (warning,) = running.ctl("recent", "--mac", KNOWN)
            assert warning["verdict"] == "NOTED_DECLINE" and warning["seconds_ago"] > 1.0
            (record,) = running.ctl("recent", "--packets", "--mac", KNOWN)["records"]
            assert record["verdict"] == "NOTED_DECLINE"
            assert running.server is not None
            running.server.wait_for(f"DECLINE from {KNOWN} \\(node000005\\).*declined", 10.0)
