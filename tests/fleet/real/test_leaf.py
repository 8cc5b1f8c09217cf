"""A leaf node: what its mirrors lack is read at the hub, and what it may not do there comes to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import pytest

from control.fleet.setup.engines import ACCOUNTS
from tests.fleet.rig.engines import Node, Site
from tests.fleet.rig.members import Inventory, Member, until

pytestmark = pytest.mark.fleet
HUB, LEAF = "127.0.0.1", "127.0.0.2"
KEYS, BLOBS = "KV_fleet-main", "fleet-main-blobs"


@contextlib.asynccontextmanager
async def anybody(node: Node, **more: Any) -> AsyncIterator[Any]:
    url, inbox = f"nats://{node.host}:{node.port}", "fleet.main.inbox.b"  # whose answers may come back
    made = await nats.connect(url, allow_reconnect=False, inbox_prefix=inbox, **more)
    try:
        yield made
    finally:
        await made.close()


def taken_over(node: Node) -> None:
    """Its own machines may do whatever they like at it; towards the hub it is who it was."""
    text = node.conf.read_text().replace('include "nats/accounts.conf"', "")
    head, tls, rest = text.partition("# Encrypted, and machines")
    rest = rest[rest.index("leafnodes {") :]
    node.conf.write_text(
        f'{head}{rest}\naccounts {{ "main" {{ jetstream: enabled, users: [ {{ user: x, password: x }} ] }} }}\n'
        "no_auth_user: x\n"
    )
    assert tls


def test_mirrors_that_are_lost_or_lack_something(tmp_path: Path) -> None:
    """What they have not got is read at the hub; a mirror that is gone is made again."""
    site = Site(tmp_path, (HUB, LEAF), "--engine", "hub-leaf", "--machine", "a", "--follower", "b", "--follower", "c")
    leaf = site.nodes[1]
    accounts = leaf.folder / ACCOUNTS
    accounts.write_text(accounts.read_text().replace("users: [", "users: [ { user: x, password: x }", 1))

    async def scene() -> None:
        inventory = Inventory()
        digest = inventory.changed()
        members = []
        for name in ("a", "b", "c"):
            section = site.section(name)
            members.append(Member(tmp_path, name, inventory, section["servers"][0], **section))
        leader, _near, new = members
        try:
            for member in members[:2]:
                member.start()
            await until(lambda: all(member.state.follows for member in members[:2]), 60, "they serve by a head")
            async with anybody(leaf, user="x", password="x", tls=insecure()) as owner:
                js = owner.jetstream()
                await mirrored(js, KEYS)
                await mirrored(js, BLOBS)
                await js.purge_stream(BLOBS)
                await js.delete_stream(KEYS)
                new.start()
                took_s = await until(lambda: new.digest == digest and new.state.follows, 10, "a new one serves it")
                print(f"a new responder behind mirrors that lack all served after {took_s:.1f} s")
                assert new.inventory_reads == 0
                await mirrored(js, KEYS)
            digest = inventory.changed()
            leader.built()
            await until(lambda: {member.digest for member in members} == {digest}, 10, "a change arrives")
        finally:
            for member in members:
                await member.kill()

    with site.running():
        asyncio.run(scene())


async def mirrored(js: Any, stream: str) -> None:
    """Until it has a message."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(nats.js.errors.NotFoundError):
                if (await js.stream_info(stream)).state.messages:
                    return
            await asyncio.sleep(0.1)


def insecure() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


ATTEMPTS = [
    "$KV.fleet-main.head", "$JS.hub.API.$KV.fleet-main.head", "$JS.hub.API.$KV.fleet-main.lease",
    "$JS.hub.API.STREAM.DELETE.KV_fleet-main", "$JS.hub.API.STREAM.PURGE.fleet-main-blobs",
    "$JS.hub.API.STREAM.UPDATE.KV_fleet-main",
    f"fleet.main.blob.{'0' * 64}.0", "fleet.main.announce", "fleet.main.inbox.a.x", "$JS.hub.API.STREAM.NAMES",
]  # fmt: skip


def test_a_leaf_node_that_was_taken_over(tmp_path: Path) -> None:
    site = Site(tmp_path, (HUB, LEAF), "--engine", "hub-leaf", "--machine", "a", "--follower", "b")
    leaf = site.nodes[1]
    taken_over(leaf)

    async def scene() -> None:
        inventory = Inventory()
        digest = inventory.changed()
        section = site.section("a")
        leader = Member(tmp_path, "a", inventory, section["servers"][0], **section)
        leader.start()
        try:
            await until(lambda: leader.state.leads and leader.state.follows, 60, "it leads")
            refusals = leader.state.lost
            async with anybody(leaf) as thief:
                heard: list[str] = []

                async def on_message(message: Any) -> None:
                    if message.data != b"{}":  # its own attempts, which go no further than its own node
                        heard.append(message.subject)

                for wanted in ("fleet.main.have.>", "$KV.>", "fleet.main.blob.>"):
                    await thief.subscribe(wanted, cb=on_message)
                for subject in ATTEMPTS:
                    with contextlib.suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
                        answer = await thief.request(subject, b"{}", timeout=0.5)
                        pytest.fail(f"{subject}: it was answered {answer.data!r}")
                found = await thief.jetstream(domain="hub").get_msg(KEYS, subject="$KV.fleet-main.head", direct=True)
                assert found.data, "a leaf reads what its machines have to"
                mark = leader.state.mark
                digest = inventory.changed()
                leader.built()
                await until(lambda: leader.digest == digest and leader.state.mark > mark, 10, "the hub is as it was")
            assert heard == [] and leader.state.lost == refusals and not leader.state.refused
        finally:
            await leader.kill()

    with site.running():
        asyncio.run(scene())


def test_a_leaf_s_password_is_no_machine_s(tmp_path: Path) -> None:
    site = Site(tmp_path, (HUB, LEAF), "--engine", "hub-leaf", "--machine", "a", "--follower", "b")
    hub, leaf = site.nodes
    password = leaf.conf.read_text().partition("leaf-main:")[2].partition("@")[0]
    conf = hub.conf.read_text()
    start = conf.index("# Encrypted, and machines")
    hub.conf.write_text(conf[:start] + conf[conf.index("# Where leaf nodes") :])
    hub.start()

    async def scene() -> None:
        async def on_error(_error: Exception) -> None:
            """Said below."""

        url = f"nats://{hub.host}:{hub.port}"
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await nats.connect(url, user="leaf-main", password=password, allow_reconnect=False, error_cb=on_error)

    try:
        asyncio.run(scene())
    finally:
        hub.kill()
