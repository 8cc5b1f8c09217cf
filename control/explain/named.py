"""What services.conf names, looked at for `bootstorm check`: is it there, and can the service use it?

The service starts whatever is found here, as long as the keys themselves are right: an inventory may come back and an
interface may come later.  A person who checks wants to know before.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from control.clusto.errors import InventoryDown
from control.clusto.hostfile import Fault
from control.config.config import Config
from control.fleet.process import keyfiles
from control.sources.contract.source import HostsSource
from control.sources.fetch import Progress
from control.sources.file_url import SCHEME
from control.sources.filesource import FileSource
from control.sources.hosts_url import is_hosts_url, plain_url
from control.sources.rowreading import Row

IMPORT_S = 20.0
_IMPORT = "import sys; from control.discovery.registrar.factories import Loaded; Loaded(sys.argv[1])"


class Found(NamedTuple):
    """key: of services.conf.  fault: the service cannot use it; else it is a warning."""

    key: str
    text: str
    fault: bool


def look(config: Config, progress: Progress = lambda *_: None) -> list[Found]:
    """As far as this user may look."""
    found = user(config)
    owner = None if found else owner_of(config.dhcp.user)
    found += interfaces(config) + authorities(config, owner) + rack_factory(config, owner) + fleet(config, owner)
    if config.dhcp.api_url.startswith(SCHEME):
        found += host_file(FileSource(config.dhcp.api_url, progress), owner)
    if is_hosts_url(config.dhcp.api_url):
        source = HostsSource(config.dhcp.api_url, config.dhcp.api_token, progress, config.dhcp.api_ca)
        found += in_the_clear(config) + hosts_of(source)
    return found


def user(config: Config) -> list[Found]:
    name = config.dhcp.user
    if name is None or owner_of(name) is not None:
        return []
    step = f"create it (useradd --system {name}), or leave the key out"
    return [Found("dhcp.user", f"found {name!r}, no such user; {step}", True)]


def owner_of(name: str | None) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name) if name is not None else None
    except KeyError:
        return None


def interfaces(config: Config) -> list[Found]:
    """One may come later: it is served from then on."""
    there = {name for _index, name in socket.if_nameindex()}
    return [
        Found("dhcp.interfaces", f"found {name!r}, which this machine has not just now; it is served once it is there",
              False)
        for name in config.dhcp.interfaces if name not in there
    ]  # fmt: skip


def authorities(config: Config, owner: pwd.struct_passwd | None) -> list[Found]:
    path = config.dhcp.api_ca
    if path is None:
        return []
    if reason := unreadable(path, owner):
        return [Found("dhcp.api_ca", f"{path}: cannot be read ({reason})", True)]
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # SSLError is one
        return [Found("dhcp.api_ca", f"{path}: found {error.strerror or error}, wanted certificates in PEM", True)]
    if "https" not in urlsplit(config.dhcp.api_url).scheme:
        return [Found("dhcp.api_ca", "nobody asks for it: dhcp.api_url is no https URL", False)]
    return []


def rack_factory(config: Config, owner: pwd.struct_passwd | None) -> list[Found]:
    """Imported as a registrar imports it, in a process of its own: it may hang, and end who imports it."""
    named = config.snmp.rackfactory
    if named is None or not config.receives_traps:
        return []
    try:
        ran = subprocess.run(
            [sys.executable, "-P", "-c", _IMPORT, named],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=IMPORT_S, check=False, **as_user(owner),  # type: ignore[call-overload]
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [Found("snmp.rackfactory", f"{named}: its import has not ended after {IMPORT_S:.0f} s", True)]
    except OSError as error:
        return [Found("snmp.rackfactory", f"{named}: cannot be tried ({error.strerror})", False)]
    if ran.returncode == 0:
        return []
    lines = ran.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit {ran.returncode}"]
    return [
        Found("snmp.rackfactory", f"{named}: cannot be imported: {lines[-1][:300]}; racks need their own layouts", True)
    ]


def fleet(config: Config, owner: pwd.struct_passwd | None) -> list[Found]:
    """The library, and the files that the section names."""
    if not config.in_fleet:
        return []
    said = config.fleet
    found = [] if find_spec("nats") is not None else [Found("fleet", keyfiles.NO_LIBRARY, True)]
    for key, read in (("credentials", keyfiles.read_credentials), ("signing_key", keyfiles.read_signing_key)):
        path = getattr(said, key)
        if path is None:
            continue
        try:
            read(path)
        except keyfiles.KeyFault as fault:
            found.append(Found(f"fleet.{key}", str(fault), True))
        else:
            if reason := unreadable(path, owner):
                found.append(Found(f"fleet.{key}", f"{path}: cannot be read by {config.dhcp.user} ({reason})", True))
    if said.tls is not None:
        for name in ("ca", "cert", "key"):
            path = getattr(said.tls, name)
            if path is not None and (reason := unreadable(path, owner)):
                found.append(Found(f"fleet.tls.{name}", f"{path}: cannot be read ({reason})", True))
        try:
            keyfiles.tls_context(said.tls)
        except keyfiles.KeyFault as fault:
            found.append(Found("fleet.tls", str(fault), True))
    return found + trust(config)


def trust(config: Config) -> list[Found]:
    said = config.fleet
    if not said.trusted_keys:
        return [Found("fleet.trusted_keys", "none: whatever the engine has is believed, as far as its own accounts "
                      "allow; make a key with `bootstorm fleet-key FILE`", False)]  # fmt: skip
    if not said.lead:
        return []
    if said.hub is not None:
        return [Found("fleet.hub", "this machine never leads, for it writes no stream of the hub; set fleet.lead to "
                      "false as well", False)]  # fmt: skip
    if said.signing_key is None:
        return [Found("fleet.signing_key", "none, so that this machine never leads, for nobody would believe what it "
                      "publishes; name one, or set fleet.lead to false", False)]  # fmt: skip
    with contextlib.suppress(keyfiles.KeyFault):  # found above
        public = keyfiles.read_signing_key(said.signing_key).public
        if public not in said.trusted_keys:
            return [Found("fleet.signing_key", f"its public key {public.hex()} is none of fleet.trusted_keys; "
                          "add it there on every machine", True)]  # fmt: skip
    return []


def as_user(owner: pwd.struct_passwd | None) -> dict[str, object]:
    """For subprocess: the service's user, where we can be that."""
    if owner is None or os.geteuid() != 0:
        return {}
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def host_file(source: FileSource, owner: pwd.struct_passwd | None) -> list[Found]:
    key = "dhcp.api_url"
    reason = unreadable(source.path, owner)
    if reason:
        whom = f" by {owner.pw_name}" if owner is not None and os.geteuid() == 0 else ""
        return [
            Found(key, f"{source.path}: cannot be read{whom} ({reason}); the service would have no inventory", True)
        ]
    try:
        return bad_rows(source.rows())
    except InventoryDown as down:
        return [Found(key, f"{down}; nothing of it is used", True)]


def bad_rows(rows: Iterable[Row]) -> list[Found]:
    """How many, and the first.  Raises what reading them raises."""
    first = ""
    count = good = 0
    for row in rows:
        if isinstance(row, Fault):
            count += 1
            first = first or row.text
        good += not isinstance(row, Fault)
    if not count:
        return []
    said = f"{count:,} of {count + good:,} rows are bad, the first: {first}; all faults: bootstorm lint"
    return [Found("dhcp.api_url", said, False)]


def hosts_of(source: HostsSource) -> list[Found]:
    """An inventory may come back: one that does not answer is no fault of the configuration."""
    try:
        state = source.brought_up_to_date()
    except InventoryDown as down:
        return [Found("dhcp.api_url", f"{down}; the service starts without it and asks again", False)]
    parts = chain.from_iterable(part.entries().values() for part in state.parts)
    return bad_rows(source.rows(chain(state.frame.values(), parts)))


def in_the_clear(config: Config) -> list[Found]:
    """Whoever is on the way may read the token, and say which hosts there are."""
    url = urlsplit(plain_url(config.dhcp.api_url))
    if url.scheme == "https" or is_loopback(url.hostname or ""):
        return []
    said = f"found http+hosts: to {url.hostname}: token and hosts go in the clear, and may be changed on the way"
    return [Found("dhcp.api_url", f"{said}; use https+hosts:", False)]


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unreadable(path: Path, owner: pwd.struct_passwd | None) -> str:
    """Why it is not readable, for the service's user where we can be that; nothing for a file that is."""
    if owner is None or os.geteuid() != 0:
        return tried(path)
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.setgroups([])
            os.setresgid(owner.pw_gid, owner.pw_gid, owner.pw_gid)
            os.setresuid(owner.pw_uid, owner.pw_uid, owner.pw_uid)
            code = errno_of(lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)))
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "" if code == 0 else os.strerror(code) if 0 < code < 255 else "it could not be tried"


def tried(path: Path) -> str:
    code = errno_of(lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)))
    return os.strerror(code) if code else ""


def errno_of(work: Callable[[], None]) -> int:
    try:
        work()
    except OSError as error:
        return error.errno or 255
    return 0
