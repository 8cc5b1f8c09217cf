"""`bootstorm fleet init`: a folder with all that the machines of a new fleet, and the nodes of its engine, need.

It is written aside and renamed, so that it is there as a whole or not at all.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from control.config.checks import Check, Wrong
from control.config.fleet import CANARIES_MAX, MACHINE, SHARD
from control.fleet.process.nkeys import user_key
from control.fleet.setup import engines
from control.fleet.setup.certificates import VALID, new_authority, new_certificate, pem_of, pem_of_key
from control.fleet.setup.engines import NODES, Plan, hub_url
from control.fleet.setup.permissions import HUB
from control.fleet.signing import Ed25519Signer

_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


class WrongPlan(Exception):
    """What was asked for, what was found, what was wanted."""


class NotWritten(Exception):
    """A sentence: which folder, why, and what to do."""


class Written(NamedTuple):
    """ends_on: the day after which the certificates count no more."""

    folder: Path
    ends_on: str


class Text(NamedTuple):
    path: str
    text: str
    secret: bool = False


def checked(plan: Plan) -> Plan:
    """Raises WrongPlan."""
    _taken("--shard", SHARD, plan.shard)
    names = (*plan.leaders, *plan.followers)
    for name in names:
        _taken("--machine" if name in plan.leaders else "--follower", MACHINE, name)
    for name in names:
        if names.count(name) > 1:
            raise WrongPlan(f"{name}: found it twice; wanted each machine once, as --machine or as --follower")
        if longer := [other for other in names if other.startswith(f"{name}.")]:
            raise WrongPlan(f"{name}: would hear what is said to {longer[0]}; wanted names of which none is another's "
                            "beginning up to a dot")  # fmt: skip
    if not plan.leaders:
        raise WrongPlan("--machine: found none; wanted at least one machine that may lead")
    if plan.engine == "hub-leaf" and not plan.followers:
        raise WrongPlan("--follower: found none; wanted the machines behind the leaf node")
    wanted = NODES[plan.engine]
    if len(plan.servers) != wanted:
        which = {1: "one", 2: "the hub, then the leaf node", 3: "three"}[wanted]
        raise WrongPlan(f"--server: found {len(plan.servers)}; --engine {plan.engine} wants {which}")
    for server in plan.servers:
        if not is_host(server):
            raise WrongPlan(f"--server: found {server!r}; wanted a host name in small letters or an address, no port")
        if plan.servers.count(server) > 1:
            raise WrongPlan(f"--server: found {server} twice; wanted different machines")
    if unknown := [name for name in plan.canary if name not in names]:
        raise WrongPlan(f"--canary: found {', '.join(unknown)}; wanted one of {', '.join(names)}")
    if len(plan.canary) > CANARIES_MAX:
        raise WrongPlan(f"--canary: found {len(plan.canary)}; wanted at most {CANARIES_MAX}")
    return plan


def _taken(option: str, check: Check, value: str) -> None:
    try:
        check.take(value)
    except Wrong as wrong:
        raise WrongPlan(f"{option}: found {value!r}; wanted {check.wanted}") from wrong


def is_host(text: str) -> bool:
    """A name, or an IPv4 address: as it stands in a URL, a certificate and the name of a folder."""
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return _HOST.fullmatch(text) is not None and not text.replace(".", "").isdecimal()


def texts_of(plan: Plan, etc: Path, now: datetime) -> Iterator[Text]:
    """All files, with keys that are new."""
    names = (*plan.leaders, *plan.followers)
    nkeys = {name: user_key(os.urandom(32)) for name in names}
    signing = {name: os.urandom(32) for name in plan.leaders}
    trusted = [Ed25519Signer(seed).public.hex() for seed in signing.values()]
    authority = new_authority(f"bootstorm fleet {plan.shard}", now)
    ca = pem_of(authority.cert)
    password = secrets.token_hex(24)
    for name in names:
        section = section_of(plan, name, etc, trusted)
        yield Text(f"machines/{name}/fleet.json", json.dumps({"fleet": section}, indent=4) + "\n")
        yield Text(f"machines/{name}/fleet-ca.pem", ca)
        yield Text(f"machines/{name}/fleet.secret", f"{nkeys[name][0]}\n", secret=True)
        if name in signing:
            yield Text(f"machines/{name}/fleet.key", f"{signing[name].hex()}\n", secret=True)
    for server in plan.servers:
        cert, key = new_certificate(authority, server, now)
        public = {name: f'"{pair[1]}"' for name, pair in nkeys.items()}
        joins = plan.engine == "hub-leaf"  # by a password, which both files have
        below = f"engine/{server}"
        yield Text(
            f"{below}/{engines.CONF}", engines.configuration(plan, server, hub_url(plan, password)), secret=joins
        )
        yield Text(f"{below}/{engines.ACCOUNTS}", engines.accounts(plan, server, public, f'"{password}"'), secret=joins)
        yield Text(f"{below}/nats/ca.pem", ca)
        yield Text(f"{below}/nats/server.pem", cert)
        yield Text(f"{below}/nats/server.key", key, secret=True)
    yield Text("authority/ca.pem", ca)
    yield Text("authority/ca.key", pem_of_key(authority.key), secret=True)


def section_of(plan: Plan, name: str, etc: Path, trusted: list[str]) -> dict[str, Any]:
    """`fleet` of that machine's services.conf."""
    said: dict[str, Any] = {
        "servers": [f"tls://{server}:{engines.CLIENTS}" for server in plan.servers_of(name)],
        "shard": plan.shard, "name": name, "tls": {"ca": str(etc / "fleet-ca.pem")},
        "credentials": str(etc / "fleet.secret"), "trusted_keys": trusted,
    }  # fmt: skip
    if name in plan.leaders:
        said |= {"signing_key": str(etc / "fleet.key"), "replicas": plan.replicas}
    else:
        said |= {"lead": False} | ({"hub": HUB} if plan.engine == "hub-leaf" else {})
    if plan.canary:
        said["canary"] = list(plan.canary)
    return said


def write(plan: Plan, folder: Path, etc: Path) -> Written:
    """plan: checked.  etc: where machines will have their files.  Raises NotWritten; what is there stays as it is."""
    folder, now = Path(os.path.abspath(folder)), datetime.now(UTC)
    if os.path.lexists(folder):
        raise NotWritten(f"{folder}: there already, and left as it is; move it away, or name another folder with -o")
    aside: Path | None = None
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))  # mode 0700
        for text in texts_of(plan, etc, now):
            path = aside / text.path
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text.text)
                os.fchmod(fd, 0o600 if text.secret else 0o644)  # whatever the umask: it is copied with its mode
        for below in aside.rglob("*/"):
            below.chmod(0o755)
        aside.rename(folder)
    except OSError as error:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        wanted = "wanted a folder that you may write to, with room"
        raise NotWritten(f"{folder}: {error.strerror or error}; {wanted}; nothing was written") from error
    return Written(folder, f"{now + VALID:%Y-%m-%d}")


def steps(plan: Plan, written: Written, folder: str, etc: str) -> Iterator[str]:
    """What is there, and what to do next, for a terminal.  folder: quoted for a shell."""
    names = (*plan.leaders, *plan.followers)
    copy = "sudo cp -r --preserve=mode"
    yield f"{folder}: keys, certificates and sections of {len(names)} machines, and {len(plan.servers)} of the engine"
    yield f"certificates count until {written.ends_on}; authority/ca.key makes others: keep it where no machine has it"
    yield "next:"
    for server in plan.servers:
        yield f"  on {server}:"
        yield f"    {copy} engine/{server}/* /etc && sudo chown -R nats: /etc/nats /etc/{engines.CONF}"
        yield "    sudo install -d -o nats -g nats -m 0750 /var/lib/nats"
        yield f"    sudo nats-server -t -c /etc/{engines.CONF} && sudo systemctl restart nats-server"
    for name in names:
        yield f"  on {name}:"
        yield f"    sudo install -d {etc} && {copy} machines/{name}/* {etc}"
        yield f"    sudo chown bootstorm: {etc}/fleet*    # to dhcp.user"
        yield f"    put the section of {etc}/fleet.json into services.conf; bootstorm check && bootstorm ctl reload"
    yield "  then, on any of them: bootstorm ctl fleet"
    yield f"  rm -r {folder}, once all have their files and authority/ is kept elsewhere"
