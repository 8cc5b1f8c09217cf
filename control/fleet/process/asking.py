"""What a person asks the fleet by control: how far all machines are, and orders to the leader."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Final

from control.fleet import actions as act
from control.fleet.messages import Content, Head, Order, Verb, decode, encode
from control.fleet.orders import target
from control.fleet.process import jobs
from control.fleet.process.engine import EngineFault
from control.fleet.process.node import Node
from control.fleet.process.page import now_ms
from control.fleet.process.peers import SILENT_MS, lacking, rows_of
from control.fleet.signing import AROUND_BYTES, sealed
from control.fleet.wire import Refused, unpacked

OBEYED_S: Final = 6.0
SERVED_S: Final = 10.0  # for all to serve a table
LOOK_S: Final = 0.1


class NotDone(Exception):
    """Why an order was not obeyed, or is none."""


async def answer(node: Node, asked: jobs.Ask) -> None:
    try:
        if asked.verb == jobs.SERVED:
            told = await all_serve(node, bytes.fromhex(asked.digest))
        elif asked.verb:
            told = await order(node, asked)
        else:
            told = await whole_state(node)
        node.send(jobs.Told(number=asked.number, told=told))
    except (NotDone, EngineFault, Refused) as fault:
        node.send(jobs.Told(number=asked.number, fault=str(fault)))


def shown(content: Content | None) -> dict[str, Any] | None:
    if content is None:
        return None
    blobs = [{"sha256": blob.sha256.hex(), "bytes": blob.size} for blob in content.blobs]
    return {"digest": content.digest.hex(), "hosts": content.hosts, "rules": content.rules.hex(), "blobs": blobs}


def shown_head(head: Head | None) -> dict[str, Any] | None:
    if head is None:
        return None
    return {
        "mark": list(head.mark), "leader": head.leader, "created_s": head.created_s, "stable": shown(head.stable),
        "trial": shown(head.trial), "canary": list(head.canary), "failed": head.failed.hex(), "held": head.held,
        "pinned": head.pinned, "orders": head.orders, "kept": [shown(content) for content in head.kept],
    }  # fmt: skip


async def whole_state(node: Node) -> dict[str, Any]:
    """machines: as the leader heard them, each with `behind`: why it does not serve what it should, or nothing."""
    responder, now = node.member.responder, now_ms()
    node.peers.look(responder.head, now)
    state = node.state()
    machines, fault = node.peers.rows(now), ""
    if not state.leads:
        try:
            machines = rows_of(await node.engine.ask("ask"))
        except (EngineFault, Refused) as silent:
            machines, fault = [], f"no leader answers: {silent}"
    for row in machines:
        row["behind"] = behind(responder.head, row)
    return {
        "now_s": int(time.time()), "shard": node.site.shard, "host": node.site.host, "leads": state.leads,
        "leader": state.leader, "follows": state.follows, "connected": state.connected, "engine_fault": state.fault,
        "fault": fault, "refused": state.refused, "rules": node.rules.hex(), "head": shown_head(responder.head),
        "by_itself": responder.by_itself, "serves": state.serves, "machines": machines,
        "refusals": dict(node.member.refusals), "lost": state.lost, "order_refused": node.member.leading.refused,
    }  # fmt: skip


def behind(head: Head | None, row: dict[str, Any]) -> str:
    if row["heard_ms"] > SILENT_MS:
        return f"not heard of for {row['heard_ms'] // 1000} s"
    return lacking(head, row["host"], row["serves"], row["adopted"], row["refused"])


async def all_serve(node: Node, digest: bytes) -> dict[str, Any]:
    """Until all workers of every machine that was heard of lately answer from that table.  machines: how many those
    are; silent: the names of those that are known and were not waited for.  Raises NotDone, which names who does not,
    at once where each of them says why."""
    deadline = now_ms() + SERVED_S * 1000
    while True:
        node.news.clear()
        late, silent = node.peers.without(digest, node.member.responder.head, now_ms())
        if not late:
            return {"machines": len(node.peers.known) - len(silent), "silent": silent}
        left_s = (deadline - now_ms()) / 1000
        if left_s <= 0 or all(late.values()):
            said = "; ".join(f"{host}: {why or f'not within {SERVED_S:.0f} s'}" for host, why in late.items())
            raise NotDone(f"published, but not served by all machines of the shard: {said}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await node.news.wait()


async def order(node: Node, asked: jobs.Ask) -> dict[str, Any]:
    """Signed, sent, and looked for in the heads that follow.  Raises NotDone, EngineFault, Refused."""
    head = node.member.responder.head
    if head is None:
        raise NotDone("there is no head yet that an order could be about")
    raw = asked.signed
    if raw:
        body = unpacked(raw, 512 + AROUND_BYTES)
        number = decode(Order, body[0] if type(body) is list and body and type(body[0]) is bytes else b"").number
    else:
        number, verb = head.orders + 1, Verb(asked.verb)
        trial = head.trial.digest if head.trial is not None else b""
        digest = target(verb, trial, [content.digest for content in head.kept], asked.digest)
        said = Order(shard=node.site.shard, number=number, verb=verb, digest=digest)
        raw = sealed(encode(said), node.site.signer)
    await node.engine.say_to_all("order", raw)
    deadline = now_ms() + OBEYED_S * 1000
    while now_ms() < deadline:
        await asyncio.sleep(LOOK_S)
        found = node.member.responder.head
        if found is not None and found.orders >= number:
            return {"now_s": int(time.time()), "number": number, "head": shown_head(found)}
        node.read_head(act.ReadHead(True, now_ms()))
    raise NotDone(f"no leader obeyed it within {OBEYED_S:.0f} s; its log says why, if there is one")
