"""Strangers by way of the leader, with the real nats-server: each row of docs/fleet.md that is about look-ups."""

from __future__ import annotations

import asyncio
import signal
import time

from control.fleet.messages import LookUp, encode
from control.fleet.strangers import HOST_BURST, LIMIT_MS
from tests.fleet.real.test_members import LEADS_S, Fleet, client, fleet_test, make_lease, pytestmark
from tests.fleet.rig.members import Member, until

__all__ = ["pytestmark"]


def mac(number: int) -> str:
    return number.to_bytes(6, "big").hex(":")


async def settled(fleet: Fleet, count: int = 3) -> tuple[Member, list[Member]]:
    """Who leads, and the others; all serve one table."""
    await make_lease(fleet.engine)
    digest = fleet.inventory.changed()
    for name in "abcdef"[:count]:
        fleet.add(name)
    leader = await fleet.leader(LEADS_S)
    await fleet.all_serve(digest)
    await until(lambda: all(member.state.follows for member in fleet.members), 10, "all follow")
    return leader, [member for member in fleet.members if member is not leader]


@fleet_test()
async def test_a_stranger_is_looked_up_by_the_leader_and_served_by_all(fleet: Fleet) -> None:
    leader, (one, other) = await settled(fleet)
    missing = (await one.look_up([mac(1), mac(2)])).told
    assert missing["missing"] == [mac(1), mac(2)] and not missing["missing_names"]
    digest = fleet.inventory.changed()
    leader.known = {mac(3)}
    began = time.monotonic()
    told = (await other.look_up([mac(3), mac(4)])).told
    answered_s = time.monotonic() - began
    assert told["missing"] == [mac(4)] and told["counts"] == [50, 1, 0, 0, 0]
    assert bytes.fromhex(told["digest"]) == digest
    took_s = answered_s + await fleet.all_serve(digest)
    print(f"answered after {answered_s:.3f} s, served by all three after {took_s:.3f} s")
    assert [each.macs for each in leader.looked_for] == [[mac(1), mac(2)], [mac(3), mac(4)]]
    assert not one.looked_for and not other.looked_for, "one machine alone asks the inventory"


@fleet_test()
async def test_who_is_not_there_is_asked_for_once_and_by_a_person_again(fleet: Fleet) -> None:
    leader, others = await settled(fleet)
    for member in others:
        assert (await member.look_up([mac(1)])).told["missing"] == [mac(1)]
    assert len(leader.looked_for) == 1
    assert (await others[0].look_up([mac(1)], ["nobody"], asked=True)).told["missing_names"] == ["nobody"]
    assert len(leader.looked_for) == 2 and leader.looked_for[1].asked


@fleet_test()
async def test_a_flood_of_one_machine_ends_at_its_budget(fleet: Fleet) -> None:
    leader, (one, other) = await settled(fleet)
    faults = set()
    for number in range(1, 20):
        faults.add((await one.look_up([mac(100 * number + n) for n in range(16)])).fault)
    looked_for = sum(len(each.macs) for each in leader.looked_for)
    assert HOST_BURST * 0.8 <= looked_for <= HOST_BURST + 60
    assert faults == {"", f"over the budget that the leader has for look-ups of {one.name}"}
    assert not (await other.look_up([mac(1)])).fault, "the others have theirs"
    assert not (await one.look_up([], ["host1"], asked=True)).fault, "and so has a person there"


@fleet_test()
async def test_nobody_leads_and_it_is_said(fleet: Fleet) -> None:
    leader, (one, _other) = await settled(fleet)
    leader.signal(signal.SIGSTOP)
    began = time.monotonic()
    told = await one.look_up([mac(1)])
    assert told.fault == f"no leader of the fleet answered within {LIMIT_MS // 1000} s"
    assert time.monotonic() - began < LIMIT_MS / 1000 + 3
    leader.signal(signal.SIGCONT)
    await until(lambda: len(fleet.leaders()) == 1, LEADS_S + 5, "one leads again")
    assert not (await one.look_up([mac(1)])).fault


@fleet_test()
async def test_a_person_s_question_outlives_the_leader(fleet: Fleet) -> None:
    """It is asked again until the next one answers."""
    leader, (one, other) = await settled(fleet)
    await leader.kill()
    told = await one.look_up([], ["host1"], asked=True)
    assert not told.fault and told.told["missing_names"] == ["host1"], told
    assert sum(len(member.looked_for) for member in (one, other)) == 1


@fleet_test()
async def test_without_an_engine_it_is_said_at_once(fleet: Fleet) -> None:
    _leader, (one, _other) = await settled(fleet)
    fleet.engine.kill()
    await until(lambda: not one.state.connected, 15, "it is noticed")
    began = time.monotonic()
    told = await one.look_up([mac(1)])
    assert "no engine" in told.fault and time.monotonic() - began < 1


@fleet_test()
async def test_garbage_and_another_s_name_are_counted_and_nothing_else(fleet: Fleet) -> None:
    leader, (one, _other) = await settled(fleet)
    said = LookUp(shard="main", host="x", session=bytes(16), number=1, macs=(bytes(6),), names=(), asked=False)
    async with client(fleet.engine) as mischief:
        for raw in (b"", b"\xc1", b"x" * 20_000, encode(said)[:-1], encode(said)):
            await mischief.publish(f"fleet.main.seen.{one.name}", raw)
            await mischief.publish(f"fleet.main.inbox.{one.name}.said", raw)
        await mischief.flush()
    await asyncio.sleep(0)
    assert not (await one.look_up([mac(1)])).fault
    refusals = (await leader.ask()).told["refusals"]
    assert refusals["other-host"] == 1 and len(leader.looked_for) == 1
