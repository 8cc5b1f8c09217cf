"""`ctl explain`: from the running table, with the planner's word on who said what, and without it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import msgpack
import pytest
from click.testing import Result

from control.config.config import Dhcp
from control.explain.command import explain, from_hosts, pieces_of
from control.messages.capture import Capture, read_capture
from control.messages.dissect import dissect
from control.service.doors.console import REQUEST_BYTES_MAX
from control.service.explaining import DATAGRAMS_MAX
from tests.control.explain.test_explain import CLIENT, HOSTS, OFF, VM, as_json, bootstorm
from tests.control.refreshing import Ctl, commanded
from tests.ext.captures import PCAPS, dhcp_captures


def test_ctl_explain(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    shutil.copy(HOSTS, file)

    async def scenario(ctl: Ctl) -> None:
        with pytest.raises(Exception, match="no table yet"):
            await ctl("explain", mac=VM)
        await ctl("refresh")
        found = await ctl("explain", mac=CLIENT)
        assert [network["by"] for network in found["networks"]] == [
            "by a relay, assumed at 10.88.0.254", "by a relay, assumed at 10.77.0.254",
        ]  # fmt: skip
        first = found["networks"][0]["groups"][0]["explained"]
        assert (first["verdict"], first["reply"]["address"]) == ("OFFERED", "10.88.0.11")
        alone = explain(CLIENT, from_hosts(HOSTS, Dhcp()))[1]["networks"][0]["groups"][0]["explained"]
        assert origins_in(first) == origins_in(alone) and "pool racks, name_server" in origins_in(first).values()
        off = await ctl("explain", mac=OFF)
        assert off["reason"] == "dhcp enabled is off (e2e-off)"
        ran = await asyncio.to_thread(bootstorm, "ctl", "--socket", ctl.path, "explain", CLIENT)
        assert ran.exit_code == 0 and "for ipxe, ipxe-http: OFFERED" in ran.stdout
        assert "table: generation 1, as the workers have it" in ran.stdout
        assert "<- pool racks, tftp_filename--ipxe" in ran.stdout
        assert (await ctl.status())["generation"] == 1, "nothing is published"
        with pytest.raises(Exception, match="no MAC address"):
            await ctl("explain", mac="x")

    commanded(f"file://{file}", tmp_path, scenario)


def origins_in(explained: dict[str, Any]) -> dict[int, str]:
    return {option["code"]: option["origin"] for option in explained["reply"]["options"]}


def test_ctl_explain_of_packets(tmp_path: Path) -> None:
    """The same as without a service, but for the interfaces, which are the real ones."""
    file, capture = tmp_path / "hosts.yaml", PCAPS / "ipxe-bios.pcap"
    shutil.copy(HOSTS, file)

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")

        async def shown(subject: str | Path) -> Result:
            return await asyncio.to_thread(bootstorm, "ctl", "--socket", ctl.path, "--json", "explain", subject)

        found = json.loads((await shown(capture)).stdout)
        alone = as_json(capture, "--hosts", HOSTS)["requests"]
        assert [said["frame"] for said in found["requests"]] == [1, 3, 5]
        assert [said["seconds"] for said in found["requests"]] == [said["seconds"] for said in alone]
        assert [len(said["seen"]) for said in found["requests"]] == [1, 1, 1] and found["frames"] == 6
        payload = read_capture(capture).datagrams[0].payload
        one = json.loads((await shown(payload.hex())).stdout)["request"]
        assert (one["host"], one["class"]) == ("e2e-vm", "ipxe-http") and one["verdict"] == found["requests"][0][
            "verdict"
        ]
        gone = await shown(tmp_path / "hosts.yaml")
        assert gone.exit_code == 1 and "wanted a pcap" in gone.stderr
        for bad in ({"capture": "x"}, {"capture": [[1, 2.0, 3, 4, 5, "6", b""]]}, {"datagram": "x"}, {}):
            with pytest.raises(Exception, match="explain: "):
                await ctl("explain", **bad)

    commanded(f"file://{file}", tmp_path, scenario)


def test_pieces_of_a_capture_keep_exchanges_together() -> None:
    captures = [read_capture(PCAPS / f"{name}.pcap") for name in dhcp_captures()]
    one = captures[0].datagrams[0]
    long = Capture([one._replace(frame=frame, payload=one.payload.ljust(1500, b"\0")) for frame in range(1000)])
    for capture in (*captures, long):
        pieces = pieces_of(capture)
        assert sorted(each for piece in pieces for each in piece) == sorted(capture.datagrams)
        assert all(len(msgpack.packb([list(each) for each in piece])) < REQUEST_BYTES_MAX - 1000 for piece in pieces)
        assert all(len(piece) <= DATAGRAMS_MAX for piece in pieces)
        keys = [{message.key for each in piece if (message := dissect(each.payload))} for piece in pieces]
        assert capture is long or sum(map(len, keys)) == len(set().union(*keys))
    assert len(pieces_of(long)) > 20, "one exchange that is longer than a piece is cut"


def test_ctl_explain_while_the_planner_is_busy_or_the_inventory_is_down(tmp_path: Path) -> None:
    """Within its time limit, with the table's word, and everybody else is served meanwhile."""
    file = tmp_path / "hosts.yaml"
    shutil.copy(HOSTS, file)

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        planner = ctl.service.refresher.process
        assert planner is not None
        os.kill(planner.pid, signal.SIGSTOP)
        try:
            asked = asyncio.create_task(ctl("explain", mac=CLIENT))
            assert (await ctl.status())["generation"] == 1 and not asked.done()
            busy = await asked
            again = await ctl("explain", mac=CLIENT)
        finally:
            os.kill(planner.pid, signal.SIGCONT)
        assert "not known now (the planner has no answer within" in busy["premises"][1]
        assert "the planner is still at the last question" in again["premises"][1]
        reply = busy["networks"][0]["groups"][0]["explained"]["reply"]
        assert reply["address"] == "10.88.0.11" and {each["origin"] for each in reply["options"]} == {None}
        file.rename(tmp_path / "away.yaml")
        while ctl.service.refresher.origins_due:  # the late answer; the planner was woken for it
            await asyncio.sleep(0)
        down = await ctl("explain", mac=CLIENT)
        assert "not known now" in down["premises"][1] and "hosts.yaml" in down["premises"][1]
        assert down["networks"][0]["groups"][0]["explained"]["verdict"] == "OFFERED"

    commanded(f"file://{file}", tmp_path, scenario)
