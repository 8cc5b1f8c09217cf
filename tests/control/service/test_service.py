"""The whole service, started as an operator starts it: its file inventory is watched, its guards show in `ctl status`.

It listens on a free port above 1024, and hardly anybody sends to it: what is on the wire is tested in tests/netns.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from control.cli.ctl import CallFailed
from tests.control.serving import WAIT_S, may_serve, serving
from tests.ext.packets import discover

HOSTS = """base,mask,gateway
10.1.0.0,255.255.255.0,10.1.0.1

name,mac,address,dhcp.enabled
"""


def content(*hosts: int, address: int = 10) -> str:
    return HOSTS + "".join(f"h{host},02:00:00:00:00:{host:02x},10.1.0.{address + host},1\n" for host in hosts)


@pytest.fixture(scope="module", autouse=True)
def _may() -> None:
    may_serve()


def test_a_file_that_is_written_or_replaced_is_served_without_any_command(tmp_path: Path) -> None:
    inventory = tmp_path / "watched"
    inventory.mkdir()
    path = inventory / "hosts.csv"
    path.write_text(content(1))
    with serving(tmp_path, f"file://{path}") as running:
        running.wait_for(r"generation 1: 1 hosts, 1 added")
        path.write_text(content(1, 2))
        running.wait_for(r"generation 2: 2 hosts, 1 added")
        aside = inventory / "hosts.csv.new"
        aside.write_text(content(1, 2, address=50))
        os.replace(aside, path)
        running.wait_for(r"generation 3: 2 hosts, 0 added, 2 changed")
        (inventory / "another.csv").write_text("x")
        with path.open("a") as file:
            file.write(content(3).splitlines()[-1] + "\n")
        running.wait_for(r"generation 4: 3 hosts, 1 added")
        found = running.ctl("lookup", {"mac": "02:00:00:00:00:02"})
        assert found["leases"][0]["address"] == "10.1.0.52"


def test_a_file_that_is_broken_or_gone_and_back_again(tmp_path: Path) -> None:
    path = tmp_path / "hosts.csv"
    path.write_text(content(1, 2))
    with serving(tmp_path, f"file://{path}") as running:
        running.wait_for(r"generation 1: 2 hosts")
        path.write_bytes(b"base,mask\n\xff\n")
        running.wait_for(r"refresh failed: hosts\.csv: .*; generation 1 serves on")
        status = running.status()
        assert (status["hosts"], status["inventory"]) == (2, "stale") and "hosts.csv" in status["inventory_reason"]
        path.unlink()
        path.write_text(content(1, 2, 3))
        running.wait_for(r"the inventory is back")
        status = running.status()
        assert (status["inventory"], status["hosts"], status["generation"]) == ("ok", 3, 2)


def test_a_guard_diff_and_rollback_on_the_running_service(tmp_path: Path) -> None:
    """max_shrink: the workers answer from the table as it was, the reason stands in `ctl status --json`."""
    path = tmp_path / "hosts.csv"
    path.write_text(content(*range(1, 11)))
    with serving(tmp_path, f"file://{path}") as running:
        running.wait_for(r"generation 1: 10 hosts")
        path.write_text(content(1, 2))
        running.wait_for(r"refresh failed: 8 of 10 hosts would no longer be answered \(8 removed\)")
        argv = [sys.executable, "-P", "-m", "control", "ctl", "--socket", str(tmp_path / "control.sock"), "--json"]
        ran = subprocess.run([*argv, "status"], capture_output=True, text=True, timeout=WAIT_S, check=False)
        status = json.loads(ran.stdout)
        assert (status["hosts"], status["inventory"]) == (10, "stale")
        assert "dhcp.max_shrink allows 20%" in status["inventory_reason"]
        assert status["refresh"]["outcomes"]["shrunk"] >= 1
        assert [worker["generation"] for worker in status["workers"]] == [1]
        with pytest.raises(CallFailed, match="8 of 10 hosts"):
            running.ctl("refresh", {"wait": True})
        assert running.ctl("refresh", {"wait": True, "force": True})["removed"] == 8
        diff = running.ctl("diff", {})
        assert diff["total"] == 8 and {change["new"] for change in diff["changes"]} == {None}
        assert running.ctl("rollback", {})["hosts"] == 10
        status = running.status()
        assert status["pinned_s"] is not None and [worker["generation"] for worker in status["workers"]] == [3]
        path.write_text(content(1, 2, 3))
        with pytest.raises(CallFailed, match="pinned to generation 3"):
            running.ctl("refresh", {})
        assert running.status()["hosts"] == 10, "a pinned table does not follow its file either"
        assert running.ctl("refresh", {"wait": True, "force": True})["hosts"] == 3
        path.write_text(content(1, 2, 3, 4))
        running.wait_for(r"generation 5: 4 hosts")


def test_another_inventory_is_watched_after_a_reload(tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text(content(1))
    second.write_text(content(1, 2))
    with serving(tmp_path, f"file://{first}") as running:
        running.wait_for(r"generation 1: 1 hosts")
        conf = tmp_path / "services.conf"
        conf.write_text(conf.read_text().replace("first.csv", "second.csv"))
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(r"configuration reloaded")
        running.wait_for(r": 2 hosts, 1 added")
        second.write_text(content(1, 2, 3))
        running.wait_for(r": 3 hosts, 1 added")


def test_the_flight_recorder_of_the_running_service(tmp_path: Path) -> None:
    """What is sent to its socket stands in `ctl recent --packets`, junk as well; wrong questions are refused."""
    path = tmp_path / "hosts.csv"
    path.write_text(content(1))
    with serving(tmp_path, f"file://{path}", workers=2) as running:
        running.wait_for(r"generation 1: 1 hosts")
        running.ctl("refresh", {"wait": True})
        port = json.loads((tmp_path / "services.conf").read_text())["dhcp"]["port"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(1, 9):
                discover = bytes((1, 1, 6, 0)) + bytes(24) + bytes((2, 0, 0, 0, 0, number)) + bytes(202)
                sender.sendto(discover + bytes((99, 130, 83, 99, 53, 1, 1, 255)), ("127.0.0.1", port))
            sender.sendto(b"junk", ("127.0.0.1", port))
        argv = [sys.executable, "-P", "-m", "control", "ctl", "--socket", str(tmp_path / "control.sock"), "recent"]
        for _ in range(100):  # each question is a process, and paces the loop
            lines = subprocess.run(
                [*argv, "--packets"], capture_output=True, text=True, timeout=WAIT_S, check=True
            ).stdout
            if lines.count(" on lo ") == 9:
                break
        assert lines.count("  DISCOVER on lo from 127.0.0.1  IGNORED_") == 8
        assert "4 bytes that are no DHCP  datagram on lo from 127.0.0.1  IGNORED_SHORT: silence" in lines
        assert re.search(r"02:00:00:00:00:01 \(h1\)  DISCOVER on lo", lines)
        assert len(running.ctl("packets", {"slot": 0})["records"]) < 9, "both workers have recorded"
        for wrong in ({"slot": 2}, {"slot": -1}, {"slot": "x"}, {"slot": 0, "since": 1.5}, {"slot": 0, "mac": "x"}):
            with pytest.raises(CallFailed, match=r"^packets: "):
                running.ctl("packets", wrong)
        with pytest.raises(CallFailed, match="only a service with"):
            running.ctl("observed", {})


def test_a_host_that_is_added_is_no_stranger_to_the_kernel_any_more(tmp_path: Path) -> None:
    path = tmp_path / "hosts.csv"
    path.write_text(content(1))
    with serving(tmp_path, f"file://{path}", drop_strangers=True) as running:
        running.wait_for(r"generation 1: 1 hosts, 1 added")
        found = running.status()["strangers"]
        if found["state"] == "failed":
            pytest.skip(found["reason"])
        port = json.loads((tmp_path / "services.conf").read_text())["dhcp"]["port"]

        def dropped(host: int) -> int:
            before = running.status()["strangers"]["dropped"]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(500):
                    sock.sendto(discover(0x020000000000 + host), ("127.0.0.1", port))
            return int(running.status()["strangers"]["dropped"]) - before

        assert dropped(1) == 0
        assert dropped(2) > 250, "all but some 64 in each 67 ms"
        path.write_text(content(1, 2))
        running.wait_for(r"generation 2: 2 hosts, 1 added")
        assert dropped(1) == dropped(2) == 0
        assert dropped(3) > 250
