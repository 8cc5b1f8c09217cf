"""What goes wrong in a schedule: drawn from its seed, each with a time and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from control.fleet.messages import (
    HEAD_BYTES_MAX,
    MACS_MAX,
    NOWHERE,
    Announcement,
    Blob,
    Content,
    Have,
    Head,
    Mark,
    Order,
    Verb,
    decode,
    encode,
)  # fmt: skip
from control.fleet.signing import opened, sealed
from control.fleet.strangers import UNDER_WAY_MAX
from tests.fleet.keys import LEADERS, OPERATORS, STRANGER
from tests.fleet.tables import evil, split

if TYPE_CHECKING:
    from tests.fleet.machine import Machine
    from tests.fleet.world import World

LEADER = "leader"  # in the place of a machine's name: whoever leads then
ACTIVE_MS = (18_000, 45_000)


@dataclass(frozen=True, slots=True)
class Trouble:
    time: int
    name: str
    args: tuple[Any, ...]


def drawn(random: Random, names: list[str]) -> list[Trouble]:
    """In order of time.  Few kinds in one schedule, so that they meet."""
    length = random.randint(*ACTIVE_MS)
    kinds = random.sample(sorted(DRAWS), random.randint(2, 5))
    found = [(random.randrange(length), random.choice(kinds)) for _ in range(random.randint(3, 9))]
    found += [(random.randrange(length), "change") for _ in range(random.randint(1, 4))]
    found += [(random.randrange(length), "trap") for _ in range(random.randint(0, 3))]
    who = [*names, LEADER, LEADER]
    return [Trouble(time, name, DRAWS[name](random, who)) for time, name in sorted(found)]


def span(random: Random) -> int:
    """Milliseconds: of every order of size."""
    return random.randint(8_000, 20_000) if random.random() < 0.3 else int(10 ** random.uniform(2, 4.5))


def between(random: Random) -> str:
    """Before or after which action a machine is caught."""
    return random.choice(("WriteHead", "WriteHead", "WriteLease", "PutBlobs", "KeepMark", "Serve", "Write", "Journal"))


DRAWS: dict[str, Callable[[Random, list[str]], tuple[Any, ...]]] = {
    "kill": lambda random, who: (random.choice(who), span(random)),
    "stop": lambda random, who: (random.choice(who), span(random)),
    "kill between": lambda random, who: (random.choice(who), "kill", between(random), random.choice((0, 1)),
                                         span(random)),
    "end": lambda random, who: (random.choice(who), span(random)),
    "stop between": lambda random, who: (random.choice(who), "stop", between(random), random.choice((0, 1)),
                                         span(random)),
    "cut": lambda random, who: (random.choice(who), span(random)),
    "engine down": lambda random, _who: (span(random),),
    "engine wiped": lambda random, _who: (random.choice((0, 500, 12_000)),),
    "engine saved": lambda random, _who: (),
    "engine restored": lambda random, _who: (random.randint(11_000, 15_000),),
    "weather": lambda random, _who: (random.choice((0.02, 0.1, 0.3)), random.choice((0.0, 0.1, 0.3)),
                                     random.choice((0.0, 0.1, 0.5)), span(random) // 3, 2 * span(random)),
    "mirror late": lambda random, who: (random.choice(who), random.choice((300, 2_000, 15_800)), span(random)),
    "mirror lacks": lambda random, who: (random.choice(who), random.choice((0.2, 0.6))),
    "inventory down": lambda random, _who: (span(random),),
    "change": lambda random, _who: (random.random() < 0.5, random.random() < 0.25),
    "trap": lambda random, who: (random.choice(who),),
    "stranger": lambda random, who: (random.choice(who), random.random() < 0.2),
    "flood of strangers": lambda random, who: (random.choice(who), random.randint(2, 12)),
    "order": lambda random, _who: (random.choice([str(verb) for verb in Verb]),),
    "head forged": lambda random, _who: (random.choice(("stranger", "replay", "flip", "garbage")), span(random)),
    "blob forged": lambda random, _who: (random.choice(("evil", "flip", "cut", "swap")), span(random)),
    "store forged": lambda random, _who: (random.choice(("stranger", "garbage", "replay")),),
    "liar": lambda random, who: (random.choice(who),),
    "disk wiped": lambda random, who: (random.choice(who), span(random)),
    "wall clock": lambda random, who: (random.choice(who), random.choice((-3600, 3600, -86400 * 365))),
}  # fmt: skip


def one(world: World, who: str) -> Machine:
    if who == LEADER:
        leaders = world.leaders()
        return leaders[0] if leaders else world.machines[0]
    return next(m for m in world.machines if m.name == who)


def kill(world: World, who: str, ms: int) -> None:
    one(world, who).kill(ms)


def end(world: World, who: str, ms: int) -> None:
    one(world, who).end(ms)


def stop(world: World, who: str, ms: int) -> None:
    one(world, who).pause(ms)


def stop_between(world: World, who: str, kind: str, action: str, after: int, ms: int) -> None:
    """Before or after the next action of that kind."""
    one(world, who).stop_in = (kind, action, after, ms)


def cut(world: World, who: str, ms: int) -> None:
    machine = one(world, who)
    machine.cut.add("engine")
    world.later(ms, machine.cut.discard, "engine")


def engine_up(world: World) -> None:
    if not world.engine.restoring:
        world.engine.up = True
        world.tell("the engine is up")


def engine_down(world: World, ms: int) -> None:
    world.engine.up = False
    world.later(ms, engine_up, world)


def engine_wiped(world: World, ms: int) -> None:
    world.engine.wipe(world.now)
    engine_down(world, ms)


def engine_saved(world: World) -> None:
    world.engine.save()


def engine_restored(world: World, ms: int) -> None:
    """Whoever restores a store has had it down for longer than a lease."""
    world.engine.up = False
    world.engine.restoring += 1
    this = world.engine.restoring

    def back() -> None:
        if world.engine.restoring == this:
            world.engine.restoring = 0
            world.engine.restore(world.now)
            engine_up(world)

    world.later(ms, back)


def weather(world: World, lost: float, doubled: float, slow: float, slow_ms: int, ms: int) -> None:
    from tests.fleet.world import CALM, Weather

    world.weather = now = Weather(lost, doubled, slow, slow_ms)

    def over() -> None:
        if world.weather is now:
            world.weather = CALM

    world.later(ms, over)


def mirror_late(world: World, who: str, lag: int, ms: int) -> None:
    machine = one(world, who)
    machine.lag = lag
    world.later(ms, setattr, machine, "lag", 0)


def mirror_lacks(world: World, who: str, share: float) -> None:
    one(world, who).holes = share


def inventory_down(world: World, ms: int) -> None:
    world.inventory_up = False
    world.later(ms, setattr, world, "inventory_up", True)


def change(world: World, big: bool, poison: bool) -> None:
    world.inventory = world.changed(world.inventory.version + 1, big or poison, poison and bool(world.canaries))


def trap(world: World, who: str) -> None:
    one(world, who).trap(b"trap %d" % world.order)


def stranger(world: World, who: str, asked: bool) -> None:
    one(world, who).look_up([b"\xff" + world.order.to_bytes(5, "big")], asked)


def flood_of_strangers(world: World, who: str, seconds: int) -> None:
    """As much as fits into its requests, new ones ten times a second."""
    machine = one(world, who)
    first = bytes([world.machines.index(machine)])

    def burst() -> None:
        if not machine.alive:
            return
        for _ in range(UNDER_WAY_MAX - len(machine.member.asking.under_way)):
            world.order += MACS_MAX
            machine.look_up([first + (world.order + n).to_bytes(5, "big") for n in range(MACS_MAX)], False)

    for tenth in range(seconds * 10):
        world.later(100 * tenth, burst)


# --- orders ----------------------------------------------------------------------------------------------------------


def present_head(world: World) -> Head | None:
    raw, _revision = world.engine.read("head")
    try:
        return decode(Head, opened(raw, LEADERS, HEAD_BYTES_MAX)) if raw else None
    except ValueError:
        return None


def order(world: World, verb: str) -> None:
    """The next of that kind that the present head has a use for; the one before is sent again as well."""
    head = present_head(world)
    digest = b""
    if head is None or (verb == Verb.PROMOTE and head.trial is None) or (verb == Verb.ROLLBACK and not head.kept):
        return
    if verb == Verb.PROMOTE and head.trial is not None:
        digest = head.trial.digest
        world.truth.forced.add(digest)
    if verb == Verb.ROLLBACK:
        digest = head.kept[-1].digest
    send_order(world, Order(shard="dc1", number=head.orders + 1, verb=Verb(verb), digest=digest))
    if head.orders:
        send_order(world, Order(shard="dc1", number=head.orders, verb=Verb.HOLD, digest=b""))


def send_order(world: World, said: Order) -> None:
    raw = sealed(encode(said), OPERATORS)
    for machine in world.machines:
        if machine.alive and world.engine.up and "engine" not in machine.cut:
            world.later(5, machine.event, machine.life, partial(machine.member.order, raw))


def release(world: World) -> None:
    """At the end: the fleet may go on by itself."""
    best = [m.member.responder.head for m in world.machines if m.alive and m.member.responder.head]
    if best:
        head = max(best, key=lambda head: head.mark)
        if head.held or head.pinned:
            send_order(world, Order(shard="dc1", number=head.orders + 1, verb=Verb.RELEASE, digest=b""))


# --- lies ------------------------------------------------------------------------------------------------------------


def evil_head(world: World, head: Head) -> bytes:
    """Signed by a stranger: higher than all, with a table that nobody built."""
    data = evil(head.stable)
    content = Content(head.stable.layout, b"e" * 32, 666, b"rules", Blob(b"e" * 32, len(data), 1), None)
    forged = replace(head, mark=Mark(head.mark.incarnation + 1, 1, 1), stable=content, trial=None, canary=())
    return sealed(encode(forged), STRANGER)


def head_forged(world: World, how: str, ms: int) -> None:
    def meddle(world: World, found: tuple[bytes | None, int]) -> tuple[bytes | None, int]:
        raw, revision = found
        head = present_head(world)
        if raw is None or head is None or world.random.random() < 0.3:
            return found
        if how == "stranger":
            # What it names is there to be read: only the signature is wrong.
            built = [t for t in world.tables.values() if t.content != head.stable]
            stable = world.random.choice(built).content if built else head.stable
            for blob in stable.blobs:
                for number, chunk in enumerate(split(world.tables[stable.digest].data[blob.sha256])):
                    world.engine.put(blob, number, chunk, 0)
            later = Mark(head.mark.incarnation, head.mark.revision, head.mark.generation + 3)
            return sealed(encode(replace(head, mark=later, stable=stable)), STRANGER), revision
        if how == "replay":
            old = [value for _time, value, _revision in world.engine.past if value is not None]
            return world.random.choice(old), revision
        if how == "flip":
            at = world.random.randrange(len(raw))
            return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], revision
        return world.random.randbytes(60), revision

    world.head_meddler = meddle

    def over() -> None:
        if world.head_meddler is meddle:
            world.head_meddler = None

    world.later(ms, over)


def blob_forged(world: World, how: str, ms: int) -> None:
    def meddle(world: World, blob: Blob, found: list[bytes | None]) -> list[bytes | None]:
        if world.random.random() < 0.3 or None in found:
            return found
        at = world.random.randrange(len(found))
        chunk = found[at] or b""
        if how == "flip":
            found[at] = chunk[:-1] + bytes([chunk[-1] ^ 1])
        elif how == "cut":
            found[at] = chunk[:-1]
        elif how == "swap" and len(found) > 1:
            found[0], found[1] = found[1], found[0]
        elif how == "evil":
            for each in world.tables.values():
                if blob == (each.content.delta or each.content.base):
                    return list(split(evil(each.content).ljust(blob.size, b"\xc0")[: blob.size]))
        return found

    world.blob_meddler = meddle

    def over() -> None:
        if world.blob_meddler is meddle:
            world.blob_meddler = None

    world.later(ms, over)


def store_forged(world: World, how: str) -> None:
    """Whoever may write to the store, and has no key.  What stood there is lost, but those who accepted it know it."""
    head = present_head(world)
    if head is not None and world.engine.up:
        if how == "replay":
            raw = world.random.choice([value for _time, value, _revision in world.engine.past if value is not None])
        else:
            raw = evil_head(world, head) if how == "stranger" else world.random.randbytes(80)
        world.forging = True
        world.engine.write("head", raw, None, world.now)
        world.forging, world.forged_over = False, True


def liar(world: World, who: str) -> None:
    """Claims marks that nobody proved, and announces what is not there."""
    mark = Mark(1 << 50, 1, 1)
    have = encode(
        Have(shard="dc1", host=who, mark=mark, serves=b"", refused="", served_s=0, restarts=0, abandoned=0, proof=b"x")
    )
    said = encode(Announcement(shard="dc1", mark=world.random.choice((mark, NOWHERE))))
    for machine in world.machines:
        if machine.alive:
            for decide in (machine.member.have, machine.member.announcement):
                raw = have if decide == machine.member.have else said
                world.later(3, machine.event, machine.life, partial(decide, raw))


def disk_wiped(world: World, who: str, ms: int) -> None:
    machine = one(world, who)
    machine.kill(ms)
    machine.wipe_disk()


def wall_clock(world: World, who: str, seconds: int) -> None:
    one(world, who).wall_off += seconds


STRIKES: dict[str, Callable[..., None]] = {
    "kill": kill, "stop": stop, "kill between": stop_between, "stop between": stop_between, "cut": cut,
    "engine down": engine_down, "engine wiped": engine_wiped, "engine saved": engine_saved,
    "engine restored": engine_restored, "weather": weather, "mirror late": mirror_late, "mirror lacks": mirror_lacks,
    "inventory down": inventory_down, "change": change, "trap": trap, "order": order, "head forged": head_forged,
    "end": end, "stranger": stranger, "flood of strangers": flood_of_strangers,
    "blob forged": blob_forged, "store forged": store_forged, "liar": liar, "disk wiped": disk_wiped,
    "wall clock": wall_clock,
}  # fmt: skip
