"""TLS and credentials of section `fleet` with the real engine: right ones work, wrong ones are refused by name and the
table serves on, and a file that was replaced is tried."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from control.config.config import parse
from control.fleet.process.engine import Engine
from control.fleet.process.nkeys import user_key
from control.fleet.setup.certificates import Authority, new_authority, new_certificate, pem_of
from control.fleet.setup.permissions import follower, leader
from tests.fleet.rig.engines import NOW
from tests.fleet.rig.jwt import Operator
from tests.fleet.rig.members import Inventory, Member, until
from tests.fleet.rig.nats import Nats, running

pytestmark = pytest.mark.fleet
HERE = "127.0.0.1"
SEED, PUBLIC = user_key(bytes(range(32)))
OTHER_SEED, OTHER_PUBLIC = user_key(bytes(32))


class Files:
    """ca: the client's; node: the server's; own: the client's certificate.  Each may be replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = new_authority("ours", NOW)
        self.other = new_authority("another", NOW)
        self.put_ca(self.authority)
        self.put("node", HERE)
        self.put("own", "dhcp1")
        (folder / "ours.pem").write_text(pem_of(self.authority.cert))

    def put_ca(self, authority: Authority) -> None:
        (self.folder / "ca.pem").write_text(pem_of(authority.cert))

    def put(self, name: str, host: str, authority: Authority | None = None, days: int = 1) -> None:
        cert, key = new_certificate(authority or self.authority, host, NOW, timedelta(days=days, hours=-1))
        (self.folder / f"{name}.pem").write_text(cert)
        (self.folder / f"{name}.key").write_text(key)
        (self.folder / f"{name}.key").chmod(0o600)

    def secret(self, text: str) -> Path:
        path = self.folder / "secret"
        path.write_text(f"{text}\n")
        path.chmod(0o600)
        return path

    def server(self, more: str = "") -> str:
        return f'tls {{ cert_file: "{self.folder}/node.pem", key_file: "{self.folder}/node.key", {more} }}\n'

    @property
    def verified(self) -> str:
        return self.server(f'ca_file: "{self.folder}/ours.pem", verify: true')

    @property
    def tls(self) -> dict[str, str]:
        return {"ca": f"{self.folder}/ca.pem"}

    @property
    def both(self) -> dict[str, str]:
        return self.tls | {"cert": f"{self.folder}/own.pem", "key": f"{self.folder}/own.key"}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@contextlib.asynccontextmanager
async def connecting(engine: Nats, **fleet: Any) -> AsyncIterator[Engine]:
    """A client of the engine, which goes on trying."""
    text = json.dumps({"fleet": {"servers": [engine.url], "lead": False} | fleet})
    made = Engine(parse(text.encode(), Path("services.conf")).fleet, "dhcp1", {}, lambda: None)
    task = asyncio.ensure_future(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def refused(client: Engine, says: str) -> None:
    await until(lambda: says in client.fault, 10, f"it says {says!r}; it said {client.fault!r}")
    assert not client.connected


async def connects(client: Engine) -> None:
    await until(lambda: client.connected, 10, f"it connects; it said {client.fault!r}")


def rewritten(engine: Nats, before: str, after: str) -> None:
    """The engine reads its file again."""
    text = engine.conf.read_text()
    assert before in text or before == after
    engine.conf.write_text(text.replace(before, after))
    engine.signal(signal.SIGHUP)


# --- the server's certificate ----------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[Files], None], str]] = {
    "another authority": (lambda files: files.put("node", HERE, files.other), "unable to get local issuer certificate"),
    "expired": (lambda files: files.put("node", HERE, days=0), "certificate has expired"),
    "another name": (lambda files: files.put("node", "127.0.0.9"), "IP address mismatch"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_s_certificate(tmp_path: Path, files: Files, wrong: str) -> None:
    """Refused by name; when the server has a right one, the same client connects."""
    spoil, says = WRONG[wrong]
    spoil(files)

    async def scene(engine: Nats) -> None:
        async with connecting(engine, tls=files.tls) as client:
            await refused(client, f"its certificate is refused: {says}")
            files.put("node", HERE)
            rewritten(engine, "", "")
            await connects(client)

    with running(tmp_path / "nats", files.server()) as engine:
        asyncio.run(scene(engine))


def test_the_authority_s_file_is_read_for_each_connection(tmp_path: Path, files: Files) -> None:
    async def scene(engine: Nats) -> None:
        files.put_ca(files.other)
        async with connecting(engine, tls=files.tls) as client:
            await refused(client, "its certificate is refused: unable to get local issuer certificate")
            (tmp_path / "ca.pem").write_text("none\n")
            await refused(client, "ca.pem: cannot be used")
            files.put_ca(files.authority)
            await connects(client)

    with running(tmp_path / "nats", files.server()) as engine:
        asyncio.run(scene(engine))


@pytest.mark.parametrize("asked", ["by the section", "by the URL"])
def test_a_plain_server_where_tls_is_asked_for_gets_no_password(tmp_path: Path, files: Files, asked: str) -> None:
    """It would take the connection, and the password in clear."""
    secret = str(files.secret("a:secret"))
    fleet: dict[str, Any] = {"credentials": secret, "tls": files.tls}

    async def scene(engine: Nats) -> None:
        if asked == "by the URL":
            fleet["servers"] = [engine.url.replace("nats:", "tls:")]
            del fleet["tls"]
        async with connecting(engine, **fleet) as client:
            await refused(client, "it offers no TLS")
            if asked == "by the section":
                engine.kill()
                engine.conf.write_text(engine.conf.read_text() + files.server())
                engine.start()
                await connects(client)

    accounts = "authorization { users: [ { user: a, password: secret } ] }\n"
    with running(tmp_path / "nats", f"debug: true\ntrace: true\n{accounts}") as engine:
        asyncio.run(scene(engine))
    log = (tmp_path / "nats/nats.log").read_text()
    assert log.count("[CONNECT {") == (1 if asked == "by the section" else 0)


# --- the client's certificate ----------------------------------------------------------------------------------------

OWN: dict[str, Callable[[Files], None]] = {
    "another authority": lambda files: files.put("own", "dhcp1", files.other),
    "expired": lambda files: files.put("own", "dhcp1", days=0),
}


@pytest.mark.parametrize("wrong", [*OWN, "none"])
def test_our_own_certificate(tmp_path: Path, files: Files, wrong: str) -> None:
    async def scene(engine: Nats) -> None:
        if wrong in OWN:
            OWN[wrong](files)
        async with connecting(engine, tls=files.both if wrong in OWN else files.tls) as client:
            await refused(client, "it refuses our certificate (fleet.tls.cert): ")
            print(f"{wrong}: {client.fault}")
            if wrong in OWN:
                files.put("own", "dhcp1")
                await connects(client)
        async with connecting(engine, tls=files.both) as client:
            files.put("own", "dhcp1")
            await connects(client)

    with running(tmp_path / "nats", files.verified) as engine:
        asyncio.run(scene(engine))


# --- credentials -----------------------------------------------------------------------------------------------------

NKEY = f"authorization {{ users: [ {{ nkey: {PUBLIC} }} ] }}\n"


def test_an_nkey(tmp_path: Path, files: Files) -> None:
    """The right seed; another one, and one with a mistake, are refused by name; exchanged on both sides."""

    async def scene(engine: Nats) -> None:
        secret = files.secret(OTHER_SEED)
        async with connecting(engine, tls=files.tls, credentials=str(secret)) as client:
            await refused(client, "Authorization Violation")
            files.secret(SEED[:-1])
            await refused(client, "an nkey's seed with a mistake in it")
            files.secret(SEED)
            await connects(client)
            rewritten(engine, PUBLIC, OTHER_PUBLIC)
            await refused(client, "Authorization Violation")
            files.secret(OTHER_SEED)
            await connects(client)

    with running(tmp_path / "nats", files.server() + NKEY) as engine:
        asyncio.run(scene(engine))


def test_a_creds_file(tmp_path: Path, files: Files) -> None:
    """Of nsc's kind; one of another operator, and garbage in its place, are refused by name."""
    ours, other = Operator(), Operator()
    path = tmp_path / "fleet.creds"

    async def scene(engine: Nats) -> None:
        other.creds(path, leader("main", "dhcp1"))
        async with connecting(engine, tls=files.tls, credentials=str(path)) as client:
            await refused(client, "Authorization Violation")
            path.write_text("-----BEGIN NATS USER JWT-----\nnone\n")
            await refused(client, "no token and seed; wanted what nsc writes")
            ours.creds(path, leader("main", "dhcp1"))
            await connects(client)

    with running(tmp_path / "nats", files.server() + ours.conf) as engine:
        asyncio.run(scene(engine))


# --- a fleet by them -------------------------------------------------------------------------------------------------


@pytest.fixture
def by_creds(tmp_path: Path, files: Files) -> Iterator[tuple[Nats, Operator]]:
    operator = Operator()
    with running(tmp_path / "nats", files.verified + operator.conf) as engine:
        yield engine, operator


def test_a_fleet_by_creds_and_certificates(tmp_path: Path, files: Files, by_creds: tuple[Nats, Operator]) -> None:
    """And when the certificate of a machine has been replaced by one that is refused, its table serves on."""
    engine, operator = by_creds

    async def scene() -> None:
        inventory = Inventory()
        digest = inventory.changed()
        members = []
        for name, role in (("dhcp1", leader("main", "dhcp1")), ("dhcp2", follower("main", "dhcp2"))):
            creds = operator.creds(tmp_path / f"{name}.creds", role)
            conf = {"credentials": str(creds), "tls": files.both, "lead": name == "dhcp1"}
            members.append(Member(tmp_path, name, inventory, engine.url, **conf))
        try:
            for member in members:
                member.start()
            await until(lambda: all(member.state.follows for member in members), 40, "both serve by a head")
            files.put("own", "dhcp", files.other)
            engine.kill()
            engine.start()
            says = "refuses our certificate"
            await until(lambda: all(says in member.state.fault for member in members), 15, "both say why not")
            assert {member.digest for member in members} == {digest}
            files.put("own", "dhcp")
            began = time.monotonic()
            await until(lambda: all(member.state.connected for member in members), 15, "both come back")
            print(f"back {time.monotonic() - began:.1f} s after the certificate")
            await until(lambda: members[0].state.leads, 30, "it leads again")
            digest = inventory.changed()
            members[0].built()
            await until(lambda: all(member.digest == digest for member in members), 10, "a change arrives")
        finally:
            for member in members:
                await member.kill()

    asyncio.run(scene())
