"""`ctl hold`, `once`, `release`, `overrides` through a control with a real planner: who may, what every view says,
over the deaths of the planner and of control, while the inventory is down."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from control.cli.command_line import main
from control.cli.ctl import CallFailed, render_lookup, render_status
from control.explain.overridden import render_overrides
from control.service.doors.commands import COMMANDS, Right
from control.service.machines.overrides import LOOK_S
from tests.control.planning import site, text
from tests.control.refreshing import Ctl, Inventory, commanded, inventory_server

H2, H3 = text(2), text(3)


@pytest.fixture
def inventory(tmp_path: Path) -> Any:
    folder = tmp_path / "inventory"
    folder.mkdir()
    with inventory_server(folder) as made:
        site(gone=set()).store_in(made.store)
        yield made


def test_who_may(tmp_path: Path) -> None:
    rights = {name: COMMANDS[name].right for name in ("hold", "once", "release", "overrides")}
    assert rights == dict.fromkeys(("hold", "once", "release"), Right.CHANGE) | {"overrides": Right.READ}


def test_a_host_is_held_named_everywhere_and_released(
    inventory: Inventory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        with caplog.at_level(logging.INFO):
            told = await ctl("hold", host="h2", because="its board", **{"for": 7200})
        (row,) = told["overrides"]
        assert (row["kind"], row["host"], row["macs"], row["addresses"]) == ("hold", "h2", [H2], ["10.1.0.12"])
        assert (told["unsaved"], told["unlaid"], row["uid"]) == ("", "", os.geteuid()) and 7190 < row["left_s"] <= 7200
        assert f"h2 is held for 2 h (its board), by uid {os.geteuid()}" in caplog.text
        words = f"held by uid {os.geteuid()} for 1 h 59 min more: its board"
        found = await ctl("lookup", mac=H2)
        assert (found["state"], found["reason"], found["leases"]) == ("held", words, [])
        assert render_lookup(found)[0] == f"{H2}  h2  held: {words}"
        assert (await ctl("lookup", mac="10.1.0.12"))["host"] == "h2", "by its address, which no row gives now"
        status = await ctl.status()
        assert status["overrides"]["kinds"] == {"hold": 1, "once": 0} and status["hosts"] == 5
        assert [line for line in render_status(status) if "OVERRIDES" in line or "its board" in line] == [
            "OVERRIDES   1 in force; all of them: ctl overrides", f"  h2: {words}",
        ]  # fmt: skip
        explained = await ctl("explain", mac="h2")
        assert words in str(explained) and "an operator holds it" in str(explained)
        assert f"h2: {words}" in explained["premises"]
        assert await ctl.state_of(H3) == "served"
        told = await ctl("release", host="10.1.0.12")
        assert [row["host"] for row in told["overrides"]] == ["h2"] and await ctl.state_of(H2) == "served"
        assert f"h2 is released (its board), by uid {os.geteuid()}" in caplog.text
        assert (await ctl("overrides"))["overrides"] == [] and render_overrides(await ctl("overrides"))
        kinds = [event.kind for event in ctl.service.ring.places["service"]]
        assert kinds.count("override-set") == kinds.count("override-ended") == 1

    commanded(inventory.server.url, tmp_path, scenario)


def test_who_is_not_there_or_is_several_is_refused(inventory: Inventory, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        with pytest.raises(CallFailed, match="hold: there is no table yet"):
            await ctl("hold", host="h2")
        await ctl("refresh")
        for host, words in (
            ("nobody", "the table has no host 'nobody'; wanted a name, a MAC or an IPv4 address"),
            ("02:00:00:00:00:99", "the table has no host"), ("10.1.0.99", "the table has no host"),
        ):  # fmt: skip
            with pytest.raises(CallFailed, match=words):
                await ctl("hold", host=host)
        with pytest.raises(CallFailed, match="no override of 'h2'; `ctl overrides` lists them all"):
            await ctl("release", host="h2")
        for arguments in ({"for": 0}, {"for": -1}, {"for": True}, {"because": "a\nb"}, {"because": "x" * 201}):
            with pytest.raises(CallFailed, match="wanted a"):
                await ctl("hold", host="h2", **arguments)
        assert (await ctl("overrides"))["overrides"] == []

    commanded(inventory.server.url, tmp_path, scenario)


def test_a_hold_outlives_the_planner_and_control_while_the_inventory_is_down(
    inventory: Inventory, tmp_path: Path
) -> None:
    async def first(ctl: Ctl) -> None:
        await ctl("refresh")
        await ctl("hold", host=H2)
        inventory.down = b""
        assert ctl.service.refresher.process is not None
        os.kill(ctl.service.refresher.process.pid, signal.SIGKILL)
        await ctl("hold", host="h3")
        assert [await ctl.state_of(each) for each in (H2, H3)] == ["held", "held"]

    async def second(ctl: Ctl) -> None:
        while not ctl.service.table.generation:
            await asyncio.sleep(0.01)
        assert [await ctl.state_of(each) for each in (H2, H3)] == ["held", "held"], "by the disk"
        await ctl("release", host="h2")
        assert await ctl.state_of(H2) == "served" and (await ctl.status())["inventory"] != "ok"
        inventory.forget()
        await ctl("refresh")
        assert [await ctl.state_of(each) for each in (H2, H3)] == ["served", "held"]

    commanded(inventory.server.url, tmp_path, first)
    commanded(inventory.server.url, tmp_path, second)


def test_one_whose_time_is_over_ends_and_one_that_left_is_named(
    inventory: Inventory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(ctl: Ctl) -> None:
        overrides = ctl.service.overrides
        await ctl("refresh")
        await ctl("hold", host="h2", **{"for": 60})
        await ctl("hold", host="h3")
        overrides.book.boottime_s = lambda: 1e9
        await overrides.look()
        assert await ctl.state_of(H2) == "served" and await ctl.state_of(H3) == "held"
        assert "h2 is held for 1 min: over, its time has come" in caplog.text
        site(gone={3}).store_in(inventory.store)
        await ctl("refresh")
        for _ in range(2):
            await overrides.look()
        assert caplog.text.count("h3 is held: the inventory does not have it now") == 1
        (row,) = (await ctl("overrides"))["overrides"]
        assert (
            row["absent"]
            and "does not have it now" in render_overrides({"overrides": [row], "unsaved": "", "unlaid": ""})[1]
        )
        site().store_in(inventory.store)
        await ctl("refresh")
        await overrides.look()
        assert await ctl.state_of(H3) == "held" and not (await ctl("overrides"))["overrides"][0]["absent"]
        site(gone={3}).store_in(inventory.store)
        await ctl("refresh")
        assert [each["host"] for each in (await ctl("release", host=H3))["overrides"]] == ["h3"], "gone or not"

    assert LOOK_S <= 1
    commanded(inventory.server.url, tmp_path, scenario)


def test_the_next_boot_gets_other_options(inventory: Inventory, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        with pytest.raises(CallFailed, match="no boot ledger says when a boot is over; wanted --for"):
            await ctl("once", host="h2", options=["tftp_filename=/install.0"])
        options = ["tftp_filename=/install.0", "tftp_filename--ipxe=http://10.1.0.1/install.ipxe", "lease_time=600"]
        told = await ctl("once", host="h2", options=options, **{"for": 1800})
        assert [row["kind"] for row in told["overrides"]] == ["once"]
        found = await ctl("lookup", mac="h2")
        (lease,) = found["leases"]
        assert (lease["file"], lease["lease_s"]) == ("/install.0", 600)
        assert lease["classes"]["ipxe"]["file"] == "http://10.1.0.1/install.ipxe"
        assert found["state"] == "served" and "tftp_filename=/install.0" in "\n".join(render_lookup(found))
        assert (await ctl("lookup", mac="h3"))["leases"][0]["file"] == ""
        site(changed={2}).store_in(inventory.store)
        await ctl("refresh")
        (lease,) = (await ctl("lookup", mac="h2"))["leases"]
        assert (lease["address"], lease["file"]) == ("10.1.0.112", "/install.0"), "with what the inventory says now"
        inventory.down = b""
        assert ctl.service.refresher.process is not None
        os.kill(ctl.service.refresher.process.pid, signal.SIGKILL)
        await ctl("hold", host="h2")
        assert await ctl.state_of(H2) == "held", "a hold counts more"
        inventory.forget()
        await ctl("release", host="h2")
        (lease,) = (await ctl("lookup", mac="h2"))["leases"]
        assert lease["file"] == "" and lease["lease_s"] == 3600

    commanded(inventory.server.url, tmp_path, scenario)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("tftp_filenme=/x", "dhcp tftp_filenme: no such option; did you mean tftp_filename?"),
        ("lease_time=1h", "1h is 3600 seconds"),
        ("ntp_servers=nowhere", "NTP_server (42): found 'nowhere'; wanted one or more IPv4"),
        ("tftp_server--http-boot=10.1.0.1", "reaches nobody: who boots by HTTP finds its server in the URL"),
        ("enabled=1", "it says who is answered, not with what; wanted an option"),
        ("boot_ports=all", "it says who is answered, not with what"),
        ("tftp_filename", "wanted OPTION=VALUE"),
        ("=x", "wanted OPTION=VALUE"),
    ],
)  # fmt: skip
def test_what_cannot_be_encoded_is_refused_in_the_words_of_lint(
    inventory: Inventory, tmp_path: Path, option: str, words: str
) -> None:
    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        before = ctl.service.table.generation
        with pytest.raises(CallFailed) as refused:
            await ctl("once", host="h2", options=[option], **{"for": 60})
        assert words in str(refused.value)
        assert (await ctl("overrides"))["overrides"] == [] and ctl.service.table.generation == before

    commanded(inventory.server.url, tmp_path, scenario)


def test_without_the_inventory_s_word_nothing_is_kept(inventory: Inventory, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        inventory.down = b""
        with pytest.raises(CallFailed, match="once: h2 cannot be read"):
            await ctl("once", host="h2", options=["tftp_filename=/x"], **{"for": 60})
        assert (await ctl("overrides"))["overrides"] == []

    commanded(inventory.server.url, tmp_path, scenario)


@pytest.mark.parametrize("said", ["2", "2x", "h", "-1h", "0s", "2h ", "367d", "1e3s", ""])
def test_a_duration_that_is_none_is_wrong_usage(said: str) -> None:
    done = CliRunner().invoke(main, ["ctl", "hold", "h2", "--for", said, "--socket", "/nowhere"])
    assert done.exit_code == 2 and "wanted a duration such as 90s, 30m, 2h or 1d12h" in done.output


@pytest.mark.parametrize(
    ("said", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d12h", 129_600), ("5min", 300)]
)
def test_durations(said: str, seconds: int) -> None:
    from control.cli.ctl_commands import duration

    assert duration(None, None, said) == seconds  # type: ignore[arg-type]
    assert duration(None, None, None) is None  # type: ignore[arg-type]
