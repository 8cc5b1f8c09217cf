"""deploy/nats/one-node.conf as it stands there: what a fleet needs is allowed, every attempt beyond it refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest

from tests.fleet.rig.members import Inventory, Member, until
from tests.fleet.rig.nats import Nats
from tests.house import ROOT

pytestmark = pytest.mark.fleet
CONF = ROOT / "deploy/nats/one-node.conf"
NAMES = ("dhcp1", "dhcp2", "dhcp3")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nats]:
    for name in NAMES:
        monkeypatch.setenv(name.upper(), f"secret-{name}")
    folder = tmp_path / "nats"
    folder.mkdir()
    made = Nats(folder)
    text = CONF.read_text().replace('"127.0.0.1:4222"', f'"127.0.0.1:{made.port}"')
    made.conf.write_text(text.replace('"/var/lib/nats"', f'"{made.store}"'))
    made.start()
    yield made
    made.kill()


async def settled(folder: Path, engine: Nats) -> list[Member]:
    """dhcp1 leads, dhcp3 follows, by the permissions of the file."""
    inventory = Inventory()
    digest = inventory.changed()
    members = []
    for name, more in (("dhcp1", {}), ("dhcp3", {"lead": False})):
        secret = folder / f"secret-{name}"
        secret.write_text(f"{name}:secret-{name}\n")
        secret.chmod(0o600)
        members.append(Member(folder, name, inventory, engine.url, credentials=str(secret), **more))
        members[-1].start()
    await until(lambda: all(member.state.follows for member in members), 40, "both serve by a head")
    assert members[0].state.leads and {member.digest for member in members} == {digest}
    return members


def test_a_fleet_lives_by_them(tmp_path: Path, engine: Nats) -> None:
    async def scene() -> None:
        members = await settled(tmp_path, engine)
        try:
            digest = members[0].inventory.changed()
            members[0].built()
            await until(lambda: all(member.digest == digest for member in members), 5, "a change arrives")
            told = (await members[1].ask()).told
            assert [row["host"] for row in told["machines"]] == ["dhcp1", "dhcp3"]
            missing = await members[1].look_up(["02:00:00:00:00:99"])
            assert (missing.fault, missing.told["missing"]) == ("", ["02:00:00:00:00:99"]), "by way of who leads"
            assert not (await members[1].ask("hold")).fault
        finally:
            for member in members:
                await member.kill()

    asyncio.run(scene())


PUBLISH = [
    "$KV.fleet-main.head", "$KV.fleet-main.lease", f"fleet.main.blob.{'0' * 64}.0", "fleet.main.have.dhcp1",
    "fleet.main.seen.dhcp1", "fleet.main.announce", "fleet.main.inbox.dhcp1.x", "$JS.API.STREAM.CREATE.mine",
    "$JS.API.STREAM.DELETE.KV_fleet-main",
    "$JS.API.STREAM.PURGE.fleet-main-blobs", "$JS.API.STREAM.UPDATE.fleet-main-blobs", "$JS.API.STREAM.NAMES",
    "$JS.API.CONSUMER.CREATE.KV_fleet-main", "$SYS.REQ.SERVER.PING",
]  # fmt: skip
SUBSCRIBE = [
    ">",
    "fleet.>",
    "fleet.main.have.>",
    "fleet.main.seen.>",
    "fleet.main.inbox.>",
    "fleet.main.inbox.dhcp1.>",
    "_INBOX.>",
    "$KV.>",
]


@pytest.mark.parametrize(
    "kind, subject",
    [*(("Publish", subject) for subject in PUBLISH), *(("Subscription", subject) for subject in SUBSCRIBE)],
)
def test_what_a_responder_may_not_do(engine: Nats, kind: str, subject: str) -> None:
    async def scene() -> str:
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def on_error(error: Exception) -> None:
            if not said.done():
                said.set_result(str(error))

        client: Any = await nats.connect(
            engine.url, user="dhcp3", password="secret-dhcp3", inbox_prefix="fleet.main.inbox.dhcp3", error_cb=on_error,
            allow_reconnect=False,
        )  # fmt: skip
        try:
            if kind == "Publish":
                await client.publish(subject, b"x")
            else:
                await client.subscribe(subject)
            async with asyncio.timeout(5):
                return await said
        finally:
            await client.close()

    assert f"Permissions Violation for {kind} to".lower() in asyncio.run(scene()).lower()


@pytest.mark.parametrize("user, password", [("dhcp3", "wrong"), ("nobody", "secret-dhcp3"), ("dhcp1", "secret-dhcp3")])
def test_who_has_no_password_is_shut_out(engine: Nats, user: str, password: str) -> None:
    async def scene() -> None:
        async def on_error(_error: Exception) -> None:
            """Said below."""

        await nats.connect(engine.url, user=user, password=password, allow_reconnect=False, error_cb=on_error)

    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        asyncio.run(scene())
