"""Traps and the journal of discovery, with the real nats-server: who dies when, nothing is lost."""

from __future__ import annotations

import signal

from control.fleet.messages import Seen, encode
from control.fleet.process import jobs
from tests.fleet.real.test_look_ups import settled
from tests.fleet.real.test_members import LEADS_S, QUIET_S, Fleet, client, fleet_test, pytestmark
from tests.fleet.rig.members import Member, until

__all__ = ["pytestmark"]

MAC, OTHER = "00:11:22:33:44:55", "00:11:22:33:44:66"


def seen(what: bytes) -> jobs.Seen:
    return jobs.Seen(what=what)


def journaled(fleet: Fleet) -> set[bytes]:
    return {what for member in fleet.members for _host, what in member.journal}


async def through(fleet: Fleet, member: Member, what: bytes, limit_s: float = 15) -> None:
    """It is in a journal, and its follower has forgotten it."""
    await until(lambda: what in journaled(fleet), limit_s, "it is in a journal")
    await until(lambda: member.state.waiting == 0, limit_s, f"the spool of {member.name} is empty")


@fleet_test()
async def test_a_follower_s_traps_are_in_the_leader_s_journal(fleet: Fleet) -> None:
    leader, (one, other) = await settled(fleet)
    for number in range(100):
        one.send(seen(b"%d" % number))
    other.send(seen(b"other"))
    await until(lambda: len(leader.journal) >= 101, 10, "all are there")
    await through(fleet, one, b"99")
    assert journaled(fleet) == {b"other", *(b"%d" % number for number in range(100))}
    assert len(leader.journal) == 101, "and each once"


@fleet_test()
async def test_a_trap_survives_who_received_it_and_who_led(fleet: Fleet) -> None:
    """The leader dies before it has it, and the follower's process with it."""
    leader, (one, _other) = await settled(fleet)
    leader.journals = False
    one.send(seen(b"trap"))
    await until(lambda: bool(leader.journal), 10, "the leader hears of it")
    assert one.state.waiting == 1
    await leader.kill()
    await one.kill()
    leader.journal.clear()
    one.start()
    await through(fleet, one, b"trap", LEADS_S + 10)


@fleet_test()
async def test_a_trap_waits_for_the_engine(fleet: Fleet) -> None:
    _leader, (one, _other) = await settled(fleet)
    fleet.engine.kill()
    await until(lambda: not one.state.connected, 15, "it is noticed")
    one.send(seen(b"trap"))
    await until(lambda: one.state.waiting == 1, 5, "it is on disk")
    await one.kill()
    fleet.engine.wipe()
    fleet.engine.start()
    one.start()
    await through(fleet, one, b"trap", QUIET_S + LEADS_S)


@fleet_test()
async def test_the_next_leader_finds_the_journal(fleet: Fleet) -> None:
    leader, others = await settled(fleet)
    await until(lambda: leader.recalled == {}, 10, "there is none")
    assert (await leader.keep({MAC: b"one", OTHER: b"two"})).fault == ""
    assert (await leader.keep({MAC: b"three", OTHER: b""})).fault == ""
    await leader.kill()
    await until(lambda: any(member.state.leads for member in others), LEADS_S + 4, "another leads")
    (heir,) = [member for member in others if member.state.leads]
    await until(lambda: heir.recalled is not None, 10, "it has read it")
    assert heir.recalled == {MAC: b"three"}


@fleet_test()
async def test_a_leader_that_was_stopped_writes_no_journal(fleet: Fleet) -> None:
    leader, others = await settled(fleet)
    leader.signal(signal.SIGSTOP)
    await until(lambda: any(member.state.leads for member in others), LEADS_S + 4, "another leads")
    (heir,) = [member for member in others if member.state.leads]
    assert (await heir.keep({MAC: b"new"})).fault == ""
    leader.signal(signal.SIGCONT)
    told = await leader.keep({MAC: b"old"})
    assert told.fault == "this machine does not lead its fleet any more"
    await heir.kill()
    left = [member for member in fleet.members if member.process is not None]
    for member in left:
        member.recalled = None
    await until(lambda: any(member.recalled is not None for member in left), LEADS_S + 10, "a third leads")
    assert [member.recalled for member in left if member.recalled is not None] == [{MAC: b"new"}]


@fleet_test()
async def test_nobody_speaks_for_another(fleet: Fleet) -> None:
    """What was said in another's name is in no journal."""
    leader, (one, other) = await settled(fleet)
    forged = encode(Seen(host=other.name, spool=b"12345678", number=1, what=b"forged"))
    async with client(fleet.engine) as mischief:
        await mischief.publish(f"fleet.main.seen.{one.name}", forged)
        await mischief.flush()
    one.send(seen(b"trap"))
    await through(fleet, one, b"trap")
    assert journaled(fleet) == {b"trap"}
    assert (await leader.ask()).told["refusals"]["other-host"] == 1
