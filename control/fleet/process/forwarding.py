"""Between control and the leader, by way of the decisions: look-ups that a follower wants, and what became of them;
traps and sightings from a follower's spool to the leader's journal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from control.fleet import actions as act
from control.fleet import intake
from control.fleet.messages import COUNTS
from control.fleet.process import jobs
from control.fleet.strangers import Found

if TYPE_CHECKING:
    from control.fleet.process.node import Node

log = logging.getLogger("bootstorm.fleet")

OUTBOX_MAX: Final = intake.WAITING_MAX


def octets_of(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def text_of(mac: bytes) -> str:
    return mac.hex(":")


# --- who follows -----------------------------------------------------------------------------------------------------


def take_look_up(node: Node, message: jobs.LookUp) -> None:
    """Of control: its answer comes with learnt(), or now where there is no engine to ask by."""
    if not node.engine.connected:
        node.send(jobs.Told(number=message.number, fault=f"no engine: {node.engine.fault}; the leader cannot be asked"))
        return
    macs = [octets_of(mac) for mac in message.macs]
    node.looking_up[node.member.asking.number + 1] = message.number
    node.event(lambda now: node.member.look_up(macs, message.names, message.asked, now))


def ask_leader(node: Node, action: act.AskLeader) -> None:
    node.say(f"seen.{node.site.host}", action.value)


def learnt(node: Node, action: act.Learnt) -> None:
    said = action.said
    number = node.looking_up.pop(said.number, 0)
    if not number:
        return
    told: dict[str, Any] = {
        "missing": [text_of(mac) for mac in said.missing], "missing_names": list(said.missing_names),
        "digest": said.digest.hex(), "counts": list(said.counts),
    }  # fmt: skip
    node.send(jobs.Told(number=number, told={} if said.fault else told, fault=said.fault))


def take_seen(node: Node, message: jobs.Seen) -> None:
    """On disk first; what finds no room there comes again by its switch, or with the machine's next request."""
    if not intake.has_room(node.member.spool):
        node.lost += 1
        return
    try:
        number = node.spool.add(message.what)
    except OSError as error:
        node.lost += 1
        log.error("%s: %s; a trap is not kept", node.spool.path, error.strerror)
        return
    node.event(lambda _now: node.member.trap_kept(number, message.what))


def pass_on(node: Node, action: act.PassOn) -> None:
    put(node, "", action.value)


def put(node: Node, host: str, value: bytes) -> None:
    """A burst is hundreds of these: one after the other, and what finds no engine is said again by the decisions.
    host: to that one; "": from this one, to who leads."""
    if len(node.outbox) >= OUTBOX_MAX:
        node.lost += 1
        return
    node.outbox.append((host, value))
    if ("outbox", "") not in node.tasks:
        node.spawn("outbox", "", send_all(node))


async def send_all(node: Node) -> None:
    """Raises EngineFault."""
    try:
        while node.outbox:
            host, value = node.outbox.popleft()
            if host:
                await node.engine.say_to(host, value)
            else:
                await node.engine.say_to_all(f"seen.{node.site.host}", value)
    finally:
        node.outbox.clear()


def take_confirmed(node: Node, raw: bytes) -> None:
    numbers = tuple(node.member.trap_confirmed(raw))
    if numbers:
        node.spool.confirmed(numbers)


# --- who leads -------------------------------------------------------------------------------------------------------


def look_into(node: Node, action: act.LookInto) -> None:
    macs = [text_of(mac) for mac in action.macs]
    asked = jobs.LookFor(number=action.number, macs=macs, names=list(action.names), asked=action.asked)
    if not node.send(asked):
        unread = Found(fault="the leader's control does not read what it is sent")
        node.later(lambda now: node.member.looked(action.number, unread, now))


def take_looked(node: Node, message: jobs.Looked) -> None:
    """What it changed was built before, and goes into the next head."""
    found = Found(
        missing=tuple(octets_of(mac) for mac in message.missing), missing_names=tuple(message.missing_names),
        digest=next(iter(node.building), b""), counts=tuple(message.counts[:COUNTS]), fault=message.fault,
    )  # fmt: skip
    node.event(lambda now: node.member.looked(message.number, found, now))


def answer(node: Node, action: act.Answer) -> None:
    node.spawn("answer", (action.host, action.value), node.engine.say_to(action.host, action.value))


def journal(node: Node, action: act.Journal) -> None:
    """Control is told; where it does not read, the host says it again."""
    host, spool, number = action.key
    node.send(jobs.Journal(host=host, spool=spool, number=number, what=action.what))


def take_journaled(node: Node, message: jobs.Journaled) -> None:
    key = message.host, message.spool, message.number
    node.event(lambda _now: node.member.journaled(key))


def confirm(node: Node, action: act.Confirm) -> None:
    put(node, action.host, action.value)


HANDS: dict[type[act.Action], Callable[[Node, Any], None]] = {
    act.AskLeader: ask_leader, act.Learnt: learnt, act.LookInto: look_into, act.Answer: answer, act.PassOn: pass_on,
    act.Journal: journal, act.Confirm: confirm,
}  # fmt: skip
