"""What `bootstorm fleet init` writes, and deploy/nats, with the real engine: it is taken, and a fleet lives by it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from control.fleet.process.nkeys import user_key
from control.fleet.setup.certificates import new_authority, new_certificate, pem_of
from control.fleet.setup.engines import CONF
from tests.control.fleet.setup.examples import FOLDER, PLACES, keys_of
from tests.fleet.rig.engines import NOW, Site, checked, copied
from tests.fleet.rig.members import Inventory, Member, until
from tests.fleet.rig.nats import PROGRAM

pytestmark = pytest.mark.fleet
ONE, THREE, TWO = ("127.0.0.1",), ("127.0.0.1", "127.0.0.2", "127.0.0.3"), ("127.0.0.1", "127.0.0.2")
ENGINES: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "one": (ONE, ["--machine", "a", "--machine", "b", "--follower", "c"]),
    "three": (THREE, ["--machine", "a", "--machine", "b", "--follower", "c"]),
    "hub-leaf": (TWO, ["--machine", "a", "--follower", "b", "--follower", "c"]),
}


def members_of(folder: Path, site: Site, inventory: Inventory) -> list[Member]:
    found = []
    for name in ("a", "b", "c"):
        section: dict[str, Any] = site.section(name)
        found.append(Member(folder, name, inventory, section["servers"][0], **section))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fleet_lives_by_what_init_wrote(tmp_path: Path, engine: str) -> None:
    """Three members, from nothing: one leads, all serve, a change arrives, and the follower's order is heard."""
    servers, words = ENGINES[engine]
    site = Site(tmp_path, servers, "--engine", engine, *words)
    assert [checked(node.conf) for node in site.nodes] == [""] * len(servers)

    async def scene() -> None:
        inventory = Inventory()
        digest = inventory.changed()
        members = members_of(tmp_path, site, inventory)
        try:
            for member in members:
                member.start()
            await until(lambda: all(member.state.follows for member in members), 60, "all serve by a head")
            assert {member.digest for member in members} == {digest}
            leader = next(member for member in members if member.state.leads)
            assert leader.name in "ab"
            digest = inventory.changed()
            leader.built()
            took_s = await until(lambda: all(member.digest == digest for member in members), 10, "a change arrives")
            print(f"{engine}: a change was served by three after {took_s:.2f} s")
            told = (await members[2].ask()).told
            assert {row["host"]: row["behind"] for row in told["machines"]} == dict.fromkeys("abc", ""), told
        finally:
            for member in members:
                await member.kill()

    with site.running():
        asyncio.run(scene())


@pytest.mark.parametrize("place", PLACES)
def test_the_engine_takes_what_is_in_deploy(tmp_path: Path, place: str) -> None:
    """With keys in its environment and certificates in their place; without the keys it does not start."""
    if PROGRAM is None:
        pytest.skip("nats-server is not installed")
    plan, server = PLACES[place]
    folder = copied(tmp_path / "etc", FOLDER / place)
    authority = new_authority("a test", NOW)
    certificate, key = new_certificate(authority, server, NOW)
    for name, text in (("ca.pem", pem_of(authority.cert)), ("server.pem", certificate), ("server.key", key)):
        (folder / "nats" / name).write_text(text)
    conf = folder / CONF
    conf.write_text(conf.read_text().replace('"/etc/', f'"{folder}/'))
    environment = {value[1:]: user_key(os.urandom(32))[1] for value in keys_of(plan).values()}
    environment |= {"LEAF": "secret", "HUB": f"tls://leaf-main:secret@{plan.servers[0]}:7422"}
    assert checked(conf, environment) == ""
    assert "variable reference" in checked(conf, {})
