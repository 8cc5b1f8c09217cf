"""The fleet's process: its first message, then one loop until control closes the channel."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from pathlib import Path

from ext.table import TABLE_LAYOUT, TableInvalid

from control.config.config import MAX_FILE_BYTES, Config, parse_accepted
from control.fleet.actions import WriteLease
from control.fleet.canary import Canary
from control.fleet.heads import Site
from control.fleet.messages import VERSION_BYTES_MAX
from control.fleet.process import jobs
from control.fleet.process.asking import answer
from control.fleet.process.engine import EngineFault
from control.fleet.process.forwarding import take_journaled, take_look_up, take_looked, take_seen
from control.fleet.process.keyfiles import KeyFault, read_signing_key
from control.fleet.process.node import Node
from control.fleet.process.page import LeadPage
from control.fleet.signing import Anybody, Ed25519Keys, Ed25519Signer, Keys
from control.fleet.wire import Reason, Refused
from fastpath.process.build import BUILD, VERSION
from fastpath.process.logs import configure_logging, leave
from fastpath.protocol import Channel, ChannelClosed, close_all

log = logging.getLogger("bootstorm.fleet")

FAULT_S = 5.0
RELEASE_S = 0.5  # for the next leader, who need not wait then


def main(fd: int) -> None:
    """fd: its channel to control."""
    configure_logging()
    channel = Channel.of_fd(fd, jobs.TO_FLEET)
    with contextlib.suppress(ChannelClosed):
        asyncio.run(run(channel))
    leave()


def name_of(config: Config) -> str:
    return config.fleet.name or socket.gethostname()


def site_of(config: Config) -> tuple[Site, bool]:
    """And whether this machine may lead: nobody believes one without a key where keys are asked for.  Raises
    KeyFault."""
    fleet = config.fleet
    path = fleet.signing_key
    signer = read_signing_key(path) if path is not None else Ed25519Signer(os.urandom(32))
    may_lead = fleet.lead and fleet.hub is None and (path is not None or not fleet.trusted_keys)
    keys: Keys = Ed25519Keys(fleet.trusted_keys) if fleet.trusted_keys else Anybody()
    operators: Keys = Ed25519Keys(fleet.operators) if fleet.operators else keys
    canary = Canary(hosts=fleet.canary, wait_ms=int(fleet.canary_seconds * 1000), rows=fleet.canary_rows)
    return Site(
        host=name_of(config), shard=fleet.shard, signer=signer, keys=keys, operators=operators, layout=TABLE_LAYOUT,
        canary=canary, version=f"{VERSION} {BUILD}"[:VERSION_BYTES_MAX],
    ), may_lead  # fmt: skip


async def run(channel: Channel) -> None:
    """Raises ChannelClosed."""
    begin, fds = channel.receive()
    if not isinstance(begin, jobs.FleetBegin):
        raise TypeError(f"fleet: the first message is {type(begin).__name__}, wanted FleetBegin")
    text = os.pread(fds.one("config"), MAX_FILE_BYTES, 0)
    config, _refused = parse_accepted(text, Path(begin.config_path), Path(begin.state_dir))
    try:
        site, may_lead = site_of(config)
    except KeyFault as fault:
        log.error("fleet: %s", fault)
        channel.send(jobs.State(leads=False, follows=False, connected=False, fault=str(fault)))
        await asyncio.sleep(FAULT_S)  # control starts another, which looks again
        return
    channel.sock.setblocking(False)
    page = LeadPage(fds.one("lead")) if fds.perhaps("lead") >= 0 else None
    node = Node(config, site, may_lead, channel, [*fds.all("base"), *fds.all("delta")], page)
    close_all(fds)
    closed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(channel.fileno(), on_message, node, channel, closed)
    work = asyncio.ensure_future(node.run())
    await asyncio.wait((work, closed), return_when=asyncio.FIRST_COMPLETED)
    asyncio.get_running_loop().remove_reader(channel.fileno())
    if work.done():
        work.result()
    await release(node)


async def release(node: Node) -> None:
    """The lease is free where nobody writes to the inventory: the next leader need not wait for its end then."""
    for action in node.end():
        if isinstance(action, WriteLease):
            with contextlib.suppress(EngineFault, TimeoutError):
                async with asyncio.timeout(RELEASE_S):
                    await node.engine.write_key("lease", action.value, action.last)


def on_message(node: Node, channel: Channel, closed: asyncio.Future[None]) -> None:
    try:
        message, fds = channel.receive()
    except BlockingIOError:
        return
    except ChannelClosed:
        if not closed.done():
            closed.set_result(None)
        return
    try:
        take(node, message, [*fds.all("base"), *fds.all("delta")])
    except TableInvalid as foreign:
        log.error("a table of control's cannot be read: %s", foreign)
    finally:
        close_all(fds)


def take(node: Node, message: object, fds: list[int]) -> None:
    """Raises TableInvalid."""
    match message:
        case jobs.Built():
            node.take_built(fds)
        case jobs.Alone():
            node.take_alone(fds)
        case jobs.Checked(digest=digest, reason=reason, said=said):
            fault = Refused(Reason(reason), said) if reason else None
            node.event(lambda now: node.member.table_checked(digest, fault, now))
        case jobs.Served():
            node.take_served(message)
        case jobs.Adopted(digest=digest):
            node.event(lambda now: node.member.adopted(digest, now))
        case jobs.Counts():
            node.take_counts(message)
        case jobs.Ask():
            node.spawn("answer", message.number, answer(node, message))
        case jobs.LookUp():
            take_look_up(node, message)
        case jobs.Looked():
            take_looked(node, message)
        case jobs.Seen():
            take_seen(node, message)
        case jobs.Journaled():
            take_journaled(node, message)
        case jobs.Keep(mac=mac, record=record):
            node.journal.keep(mac, record)
        case jobs.Sync(number=number):
            node.journal.sync(number)
