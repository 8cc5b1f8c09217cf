"""Rows of docs/fleet.md's table of failures, with the real nats-server and the real process of each member."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import nats
import pytest

from control.fleet.messages import Head, Lease, Order, Verb, decode, encode
from control.fleet.process.keyfiles import make_key
from control.fleet.signing import Ed25519Signer, opened, sealed
from tests.fleet.rig.members import Inventory, Member, until
from tests.fleet.rig.nats import Nats, running

pytestmark = pytest.mark.fleet
LEADS_S = 14.0  # 10 s without a renewal, and a look each second
QUIET_S = 24.0  # where the lease was lost as well
HEAD, BUCKET = "$KV.fleet-main.head", "KV_fleet-main"


class Fleet:
    def __init__(self, folder: Path, engine: Nats) -> None:
        self.folder, self.engine = folder, engine
        self.inventory = Inventory()
        self.members: list[Member] = []

    def add(self, name: str, **conf: Any) -> Member:
        made = Member(self.folder, name, self.inventory, self.engine.url, **conf)
        self.members.append(made)
        made.start()
        return made

    def leaders(self) -> list[Member]:
        return [member for member in self.members if member.state.leads]

    async def leader(self, limit_s: float = QUIET_S) -> Member:
        await until(lambda: len(self.leaders()) == 1, limit_s, "one leads")
        return self.leaders()[0]

    async def all_serve(self, digest: bytes, limit_s: float = 15) -> float:
        return await until(lambda: all(m.digest == digest for m in self.members if m.process), limit_s, "all serve it")


def fleet_test(*, more: str = "") -> Callable[[Callable[[Fleet], Coroutine[Any, Any, None]]], Callable[[Path], None]]:
    """more: of the engine's configuration."""

    def decorate(test: Callable[[Fleet], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
        def run(tmp_path: Path) -> None:
            with running(tmp_path / "nats", more) as engine:
                asyncio.run(scene(tmp_path, engine))

        async def scene(folder: Path, engine: Nats) -> None:
            fleet = Fleet(folder, engine)
            try:
                await test(fleet)
            finally:
                for member in fleet.members:
                    await member.kill()

        run.__doc__ = test.__doc__
        run.__name__ = test.__name__
        return run

    return decorate


@contextlib.asynccontextmanager
async def client(engine: Nats, **more: Any) -> AsyncIterator[Any]:
    made = await nats.connect(engine.url, **more)
    try:
        yield made
    finally:
        await made.close()


async def make_lease(engine: Nats, more: dict[str, Any] | None = None) -> None:
    """A fleet that was made before: its lease is free, so that the first leader need not wait for what may have been
    lost."""
    async with client(engine, **(more or {})) as made:
        js = made.jetstream()
        await js.add_stream(name=BUCKET, subjects=["$KV.fleet-main.>"], max_msgs_per_subject=1, allow_direct=True)
        await js.publish("$KV.fleet-main.lease", encode(Lease(holder="", session=bytes(16), beat=0)))


async def three(fleet: Fleet, **conf: Any) -> tuple[Member, bytes]:
    """Three machines that serve the first table; the leader, and that table."""
    await make_lease(fleet.engine)
    digest = fleet.inventory.changed()
    for name in ("a", "b", "c"):
        fleet.add(name, **conf)
    leader = await fleet.leader()
    await fleet.all_serve(digest)
    await until(lambda: all(member.state.follows for member in fleet.members), 10, "by the head")
    return leader, digest


@fleet_test()
async def test_all_serve_what_one_read(fleet: Fleet) -> None:
    """A change is everywhere within a second of its being read, and only the leader reads."""
    leader, _digest = await three(fleet)
    for member in fleet.members:
        member.inventory_reads = 0
    digest = fleet.inventory.changed()
    leader.built()
    took_s = await fleet.all_serve(digest)
    print(f"a change was served by three after {took_s:.2f} s")
    assert took_s < 1.0
    assert [member.inventory_reads for member in fleet.members if member is not leader] == [0, 0]
    late = fleet.add("late")
    took_s = await until(lambda: late.digest == digest, 5, "a new responder serves it")
    print(f"a new responder served it {took_s:.2f} s after its start")
    assert late.inventory_reads == 0


@fleet_test()
async def test_the_leader_is_killed(fleet: Fleet) -> None:
    leader, _digest = await three(fleet)
    mark = leader.state.mark
    await leader.kill()
    took_s = await until(lambda: len(fleet.leaders()) == 1, LEADS_S, "another leads")
    print(f"another led {took_s:.1f} s after the kill")
    digest = fleet.inventory.changed()
    fleet.leaders()[0].built()
    await fleet.all_serve(digest)
    leader.start()
    await fleet.all_serve(digest)
    assert leader.state.mark > mark and len(fleet.leaders()) == 1


@fleet_test()
async def test_a_leader_that_ends_in_order_is_followed_at_once(fleet: Fleet) -> None:
    leader, _digest = await three(fleet)
    await leader.end()
    took_s = await until(lambda: len(fleet.leaders()) == 1, LEADS_S, "another leads")
    print(f"another led {took_s:.1f} s after an orderly end")
    assert took_s < 4


@fleet_test()
async def test_the_leader_is_stopped_and_goes_on(fleet: Fleet) -> None:
    """Its next head is refused, and it follows."""
    leader, _digest = await three(fleet)
    leader.signal(signal.SIGSTOP)
    leader.state = type(leader.state)(leads=False, follows=True, connected=True)
    other = await fleet.leader(LEADS_S)
    digest = fleet.inventory.changed()
    other.built()
    await until(lambda: other.digest == digest, 10, "the new leader's table is served")
    old, fleet.inventory.fds = fleet.inventory.fds, []
    stale = Inventory()
    stale.changed(first=90_000)
    leader.send(type_built(), stale.fds)  # what it had in hand when it was stopped
    leader.signal(signal.SIGCONT)
    fleet.inventory.fds = old
    await fleet.all_serve(digest)
    await until(lambda: fleet.leaders() == [other], 5, "one leads")
    assert stale.digest not in {served for member in fleet.members for served in member.history}


def type_built() -> Any:
    from control.fleet.process.jobs import Built

    return Built()


@fleet_test()
async def test_the_engine_is_gone_and_comes_back(fleet: Fleet) -> None:
    """All serve on, over restarts as well; afterwards one leads and a change arrives."""
    leader, digest = await three(fleet)
    fleet.engine.kill()
    await until(lambda: not fleet.leaders(), 12, "nobody leads")
    await until(lambda: not any(m.state.connected for m in fleet.members), 12, "all say that it is gone")
    reads = [member.inventory_reads for member in fleet.members]
    await leader.kill()
    leader.start()
    await until(lambda: leader.state.follows, 5, "from its disk it knows what it serves")
    assert leader.state.fault and not leader.state.connected
    assert [member.inventory_reads for member in fleet.members] == reads
    assert {member.digest for member in fleet.members} == {digest}
    fleet.engine.start()
    other = await fleet.leader(LEADS_S)
    digest = fleet.inventory.changed()
    other.built()
    await fleet.all_serve(digest)


@fleet_test()
async def test_the_engine_comes_back_empty(fleet: Fleet) -> None:
    """Blobs and head are put again, above every epoch; nobody's table goes back."""
    leader, digest = await three(fleet)
    mark = leader.state.mark
    fleet.engine.wipe()
    fleet.engine.start()
    await until(lambda: not fleet.leaders(), 12, "the lease is gone")
    again = await fleet.leader(QUIET_S + 10)
    await until(lambda: again.state.mark > mark, 10, "a head above it")
    new = fleet.add("new")
    await until(lambda: new.digest == digest, 10, "a new responder finds it")
    assert {member.digest for member in fleet.members} == {digest}
    assert {served for member in fleet.members for served in member.history} == {digest}


@fleet_test()
async def test_the_engine_comes_back_as_it_was_earlier(fleet: Fleet) -> None:
    """Restored from a copy, after longer than a lease: its old head is written over, and no table goes back."""
    _leader, old = await three(fleet)
    fleet.engine.kill()
    copy = fleet.folder / "copy"
    shutil.copytree(fleet.engine.store, copy)
    fleet.engine.start()
    leader = await fleet.leader(LEADS_S)
    new = fleet.inventory.changed()
    leader.built()
    await fleet.all_serve(new)
    fleet.engine.wipe()
    await until(lambda: not fleet.leaders(), 12, "nobody leads")
    marks = [member.state.mark for member in fleet.members]
    await asyncio.sleep(3)  # until no lease counts, by anybody's clock
    shutil.copytree(copy, fleet.engine.store)
    fleet.engine.start()
    above = lambda: all(m.state.mark > mark for m, mark in zip(fleet.members, marks, strict=True))  # noqa: E731
    print(f"above every head {await until(above, 40, 'a head above all'):.1f} s after the store was restored")
    assert all(member.history[-1] == new and member.history.count(old) == 1 for member in fleet.members)
    newest = fleet.inventory.changed()
    (await fleet.leader()).built()
    await fleet.all_serve(newest)


@fleet_test()
async def test_the_engine_stands_still(fleet: Fleet) -> None:
    """It takes connections and answers nothing."""
    _leader, digest = await three(fleet)
    fleet.engine.signal(signal.SIGSTOP)
    await until(lambda: not fleet.leaders(), 12, "nobody leads")
    assert {member.digest for member in fleet.members} == {digest}
    fleet.engine.signal(signal.SIGCONT)
    other = await fleet.leader(LEADS_S)
    digest = fleet.inventory.changed()
    other.built()
    await fleet.all_serve(digest)


@fleet_test()
async def test_heads_and_blobs_that_are_none(fleet: Fleet) -> None:
    """Garbage, another's signature, a replay, blobs cut and flipped: refused, named, and the table serves on."""
    key = fleet.folder / "fleet.key"
    public = make_key(key)
    leader, digest = await three(fleet, signing_key=str(key), trusted_keys=[public])
    async with client(fleet.engine) as engine:
        js = engine.jetstream()
        first = (await js.get_msg(BUCKET, subject=HEAD)).data
        follower = next(member for member in fleet.members if member is not leader)
        head = decode(Head, opened(first, anybody(), len(first)))
        forged = sealed(encode(head), Ed25519Signer(bytes(32)))
        for raw, reason in ((b"\xc1garbage", "not-msgpack"), (forged, "unknown-key"), (b"x" * 5000, "too-long")):
            await js.publish(HEAD, raw)
            await until(lambda reason=reason: reason in follower.state.refused, 6, f"{reason} is named")
            await until(lambda: not follower.state.refused, 20, "the leader writes over it")
        digest = fleet.inventory.changed()
        (await fleet.leader()).built()
        await fleet.all_serve(digest)
        before = follower.state.mark
        await js.publish(HEAD, first)
        await until(lambda: follower.state.mark > before, 20, "the leader writes over a replay")
        assert follower.digest == digest and follower.history[-1] == digest
        await follower.kill()
        blobs = "fleet-main-blobs"
        info = await js.stream_info(blobs, subjects_filter="fleet.main.blob.>")
        for name in info.state.subjects:
            await js.publish(name, b"flipped")
        follower.serving.clear()
        (follower.folder / "fleet-state").unlink()
        follower.start()
        await until(lambda: "blob-wrong" in follower.state.refused, 10, "blobs are named")
    assert all(member.digest == digest for member in fleet.members if member is not follower)


def anybody() -> Any:
    from control.fleet.signing import Anybody

    return Anybody()


@fleet_test()
async def test_a_table_that_kills_workers_stays_with_the_canary(fleet: Fleet) -> None:
    leader, good = await three(fleet, canary=["c"], canary_seconds=2)
    canary = fleet.members[2]
    bad = fleet.inventory.changed()
    leader.built()
    await until(lambda: canary.digest == bad, 10, "the canary serves it")
    canary.counts = type(canary.counts)(served_s=1, restarts=3, abandoned=0)
    await until(lambda: canary.digest == good, 15, "it is dropped")
    assert all(bad not in member.history for member in fleet.members[:2])
    canary.counts = type(canary.counts)(served_s=0, restarts=0, abandoned=0)
    better = fleet.inventory.changed()
    (await fleet.leader()).built()
    await until(lambda: canary.digest == better, 10, "the canary serves the next")
    assert all(better not in member.history for member in fleet.members[:2])
    canary.counts = type(canary.counts)(served_s=3, restarts=0, abandoned=0)
    await fleet.all_serve(better, 15)


@fleet_test()
async def test_orders(fleet: Fleet) -> None:
    """Hold, release, rollback; by a machine that does not lead."""
    leader, first = await three(fleet)
    follower = next(member for member in fleet.members if member is not leader)
    told = await follower.ask("hold")
    assert not told.fault and told.told["head"]["held"], told
    second = fleet.inventory.changed()
    leader.built()
    await asyncio.sleep(3)  # nothing is to happen
    assert {member.digest for member in fleet.members} == {first}
    assert not (await follower.ask("release")).fault
    await fleet.all_serve(second)
    told = await follower.ask("rollback", first.hex()[:12])
    assert not told.fault and told.told["head"]["pinned"], told
    await fleet.all_serve(first)
    assert "no table" in (await follower.ask("rollback", "ffff")).fault
    assert "there is no trial" in (await follower.ask("promote")).fault
    state = (await follower.ask()).told
    assert {row["host"]: row["behind"] for row in state["machines"]} == {"a": "", "b": "", "c": ""}, state


@fleet_test()
async def test_an_order_of_somebody_else_s_key_is_not_obeyed(fleet: Fleet) -> None:
    key = fleet.folder / "fleet.key"
    leader, _digest = await three(fleet, signing_key=str(key), trusted_keys=[make_key(key)])
    said = encode(Order(shard="main", number=1, verb=Verb.HOLD, digest=b""))
    told = await leader.ask("hold", signed=sealed(said, Ed25519Signer(bytes(32))))
    assert "no leader obeyed it" in told.fault
    assert not (await leader.ask()).told["head"]["held"]


@fleet_test()
async def test_a_new_responder_without_an_engine_reads_the_inventory(fleet: Fleet) -> None:
    fleet.engine.kill()
    digest = fleet.inventory.changed()
    alone = fleet.add("a")
    await until(lambda: alone.digest == digest, 10, "it serves what it read itself")
    assert alone.inventory_reads == 1 and not alone.state.follows


ACCOUNTS = """
authorization { users: [ { user: a, password: secret } ] }
"""


@fleet_test(more=ACCOUNTS)
async def test_credentials_that_are_revoked_cost_no_table(fleet: Fleet) -> None:
    secret = fleet.folder / "secret"
    secret.write_text("a:secret\n")
    secret.chmod(0o600)
    await make_lease(fleet.engine, {"user": "a", "password": "secret"})
    digest = fleet.inventory.changed()
    member = fleet.add("a", credentials=str(secret))
    await fleet.leader()
    await fleet.all_serve(digest)
    conf = fleet.engine.conf.read_text()
    fleet.engine.conf.write_text(conf.replace("password: secret", "password: other"))
    fleet.engine.signal(signal.SIGHUP)
    await until(lambda: not member.state.connected, 15, "it is shut out")
    await until(lambda: "uthorization" in member.state.fault, 15, f"it says why: {member.state.fault}")
    assert member.digest == digest
    secret.write_text("a:other\n")
    await until(lambda: member.state.connected, 15, "it comes back with the new ones")


@fleet_test(more="max_payload: 262144")
async def test_a_store_that_is_full_costs_no_table(fleet: Fleet) -> None:
    leader, digest = await three(fleet)
    async with client(fleet.engine) as engine:
        js = engine.jetstream()
        info = await js.stream_info("fleet-main-blobs")
        config = info.config
        config.max_bytes, config.discard = info.state.bytes + 100, "new"
        await js.update_stream(config)
        bigger = fleet.inventory.changed(hosts=3000)
        leader.built()
        await asyncio.sleep(4)
        assert {member.digest for member in fleet.members} == {digest}
        config.max_bytes = -1
        await js.update_stream(config)
    (await fleet.leader()).built()
    await fleet.all_serve(bigger, 20)
