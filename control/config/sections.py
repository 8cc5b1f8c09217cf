"""The sections and keys of services.conf: what each means and may be, its default, whether a change needs a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Literal

from control.config import checks
from control.config.bmc import Rule
from control.config.checks import MAX_WORKERS, SnmpUser
from control.config.classes import CLASSES, SiteClass
from control.config.fleet import CANARY, DOMAIN, MACHINE, PUBLIC_KEYS, REPLICAS, SERVERS, SHARD, TLS, Tls

MAX_AUTO_WORKERS = 16


def key_of(
    default: Any, check: checks.Check, doc: str, *, restart: str = "", secret: bool = False, default_shown: str = ""
) -> Any:
    """One key.  restart: why a change can't be adopted by a running server; secret: never quoted in a message."""
    about = {"check": check, "doc": doc, "restart": restart, "secret": secret, "default_shown": default_shown}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about, repr=not secret, hash=False)
    return field(default=default, metadata=about, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Where `bootstorm inventory`, or the original clusto-httpd, listens."""

    bind_address: str = key_of("127.0.0.1", checks.HOST, "address that the embedded inventory listens on")
    bind_port: int = key_of(9996, checks.PORT, "its TCP port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dhcp:
    """The DHCP server."""

    api_url: str = key_of(
        "http://localhost:9996",
        checks.Check("a URL such as http://localhost:9996", checks.take_url),
        "base URL of clusto-httpd, a trailing slash is dropped; or file:///PATH, a file as `inventory load` takes it; "
        "or http+hosts://HOST[:PORT][/PATH] or https+hosts://..., any other inventory, by docs/contract.md",
    )
    update_ipmi: bool = key_of(
        False, checks.BOOL, "tell a server's IPMI card from the server itself and record its MAC"
    )
    extra_options: Mapping[str, str] = key_of(
        {},
        checks.Check('an object such as {"150": "tftp_address"}', checks.take_extra_options),
        "further subkeys of key `dhcp`: decimal option number (1..254, as text) -> name",
    )
    interfaces: tuple[str, ...] = key_of(
        (),
        checks.list_of(checks.text("an interface name", r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}")),
        "interfaces whose requests are answered; empty: all",
    )
    workers: int | Literal["auto"] = key_of(
        "auto",
        checks.Check(f'"auto" or a whole number 1..{MAX_WORKERS}', checks.take_workers),
        f"worker processes; auto: one a usable CPU, at most {MAX_AUTO_WORKERS}",
        restart="the kernel spreads requests over sockets that are made once, at the start",
    )
    port: int = key_of(67, checks.PORT, "UDP port to serve on", restart="the sockets are bound at the start")
    boot_port: int = key_of(
        4011,
        checks.integer(0, 65535),
        "UDP port of PXE's boot service, where a ROM with an address asks what to boot; 0: none",
        restart="the sockets are bound at the start",
    )
    refresh_interval: float | None = key_of(
        None,
        checks.nullable(checks.number(1, 604800)),
        "seconds between two full reads of the inventory; null: 20 times the last one's duration, at least 300",
    )
    server_id: IPv4Address | None = key_of(  # noqa: RUF009 (key_of makes a field)
        None, checks.nullable(checks.IPV4), "option 54 of every reply; null: the address that the request reached us on"
    )
    server_ids: tuple[IPv4Address, ...] = key_of(
        (),
        checks.list_of(checks.IPV4),
        "further server identifiers to answer to, such as those of a server that we replaced",
    )
    relays: tuple[IPv4Network, ...] = key_of(
        (), checks.list_of(checks.NETWORK), "relay agents (giaddr) that are answered; empty: all"
    )
    max_shrink: float = key_of(
        0.2, checks.number(0, 1), "share of the hosts that one refresh may remove without `ctl refresh --force`"
    )
    # A day: people move addresses in a static inventory by hand, at work, and hear of one that is down long before; a
    # NAK takes a running host off the net, while silence merely lets it ask again.
    max_nak_age: float = key_of(
        86400.0,
        checks.number(0, 2678400),
        "age of the table, in seconds, beyond which no NAK is sent any more; 0: never a NAK",
    )
    state_dir: Path = key_of(  # noqa: RUF009
        Path("/var/lib/bootstorm"),
        checks.PATH,
        "where the last good table, the lock and the journal are kept",
        restart="the running server holds its lock there",
    )
    user: str | None = key_of(
        None,
        checks.nullable(checks.text("a user name", r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")),
        "user to run as once the sockets are open; null: stay as started",
        restart="privileges are dropped at the start, for good",
    )
    io: str = key_of(
        "socket",
        checks.one_of("socket", "xdp"),
        "how packets are received and sent; xdp: past the kernel's network code, on the named `interfaces`, which it "
        "needs; sockets where that is not possible",
        restart="the workers' sockets are made at the start",
    )
    mode: str = key_of(
        "serve",
        checks.one_of("serve", "observe"),
        "observe: decide, count and record everything, send nothing, and compare with the server that is there",
        restart="no process may send while we observe, and the observer's socket is opened at the start",
    )
    drop_strangers: bool = key_of(
        False,
        checks.BOOL,
        "let the kernel drop most of a flood from MAC addresses that the inventory does not know",
        restart="the sockets' filters are loaded at the start, for only then may we",
    )
    bootp: bool = key_of(False, checks.BOOL, "answer BOOTP requests (those without option 53) as well")
    api_token: str | None = key_of(
        None,
        checks.nullable(checks.text("text of visible ASCII characters", r"[!-~]{1,4096}")),
        "bearer token for `api_url`",
        secret=True,
    )
    api_ca: Path | None = key_of(  # noqa: RUF009
        None,
        checks.nullable(checks.PATH),
        "file of certificates (PEM) of the authorities that may have signed the inventory's; null: those of this "
        "machine and of Python's `certifi`",
    )
    boot_ports: tuple[int, ...] | Literal["all"] = key_of(
        (1,),
        checks.BOOT_PORTS,
        "which network cards of a host are answered, by the number of their `port-nic-eth`; the others are known and "
        "not answered; a `dhcp` attribute `boot_ports` of a host or a container counts before it",
    )
    bmc_rules: tuple[Rule, ...] = key_of(
        (),
        checks.list_of(checks.BMC_RULE),
        "with `update_ipmi`: further signs of an IPMI card, before the built-in ones; the first that fits decides",
    )
    classes: tuple[SiteClass, ...] = key_of(
        (),
        CLASSES,
        "client classes of the site, before the built-in ones; the first that fits decides, and `OPTION--NAME` is "
        "said to it",
    )
    ipmi_port_name: str = key_of(
        "ipmi", checks.text("a port name", r"[A-Za-z0-9_.-]{1,64}"), "port whose MAC and address are the IPMI card's"
    )


# Families of traps that name the place of a MAC: each decoded by control/discovery/traps/decoders.py.
TRAPS = (
    "cisco-mac-notification",
    "cisco-mac-move",
    "cisco-port-security",
    "gbn-mac-notification",
    "juniper-mac-notification",
    "dell-mac-notification",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snmp:
    """The trap receiver, which runs where there is a section `snmp`, if only an empty one."""

    bind_address: str = key_of(
        "0.0.0.0",
        checks.LISTEN,
        "address to receive traps on; 0.0.0.0: every one",
        restart="the trap socket is bound at the start",
    )
    bind_port: int = key_of(162, checks.PORT, "its UDP port", restart="the trap socket is bound at the start")
    communities: tuple[str, ...] = key_of(
        (),
        checks.list_of(checks.text("a community (visible ASCII characters)", r"[!-~]{1,255}"), secret=True),
        'SNMPv1/v2c communities that are believed; "*": any; empty: none, but for what comes from `proxies`',
        secret=True,
    )
    users: tuple[SnmpUser, ...] = key_of(
        (),
        checks.list_of(checks.Check(f"an object of {', '.join(checks.USER_FIELDS)}", checks.take_user), secret=True),
        "SNMPv3 users",
        secret=True,
    )
    proxies: tuple[IPv4Network, ...] = key_of(
        (),
        checks.list_of(checks.NETWORK),
        "trap forwarders whose word for the real sender (snmpTrapAddress) is believed",
    )
    traps: tuple[str, ...] = key_of(
        TRAPS, checks.list_of(checks.one_of(*TRAPS)), "families of traps that are read; others are counted as unknown"
    )
    rackfactory: str | None = key_of(
        None,
        checks.nullable(
            checks.text("a Python module name or the absolute path of a .py file", r"/[ -~]+\.py|[A-Za-z_]\w*(\.\w+)*")
        ),
        "the site's rack factory (`get_factory(rack_name)`); null: the racks' declared layouts",
    )
    name_manager: str = key_of(
        "servernames",
        checks.text("the name of a SimpleEntityNameManager", r"[A-Za-z0-9_.-]{1,128}"),
        "name manager of the inventory whose properties say how new servers are called",
    )
    max_macs_per_port: int = key_of(
        8, checks.integer(1, 4096), "more MACs than this on one switch port: an uplink, which registers nothing"
    )
    dry_run: bool = key_of(False, checks.BOOL, "report what traps would change in the inventory, and change nothing")

    def believes_somebody(self) -> bool:
        """Else no trap is believed, whatever it says."""
        return bool(self.communities or self.users or self.proxies)


NOBODY_BELIEVED = (
    "snmp has neither communities nor users nor proxies: traps are counted as `unbelieved` and register nothing; "
    'list the switches\' community in snmp.communities, or set it to ["*"] to believe any'
)
STATE_SOCKET = "control.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The socket of `bootstorm ctl`."""

    socket: Path = key_of(  # noqa: RUF009
        Path("/var/lib/bootstorm") / STATE_SOCKET,
        checks.SOCKET,
        "Unix socket of `bootstorm ctl`",
        restart="the socket is opened at the start",
        default_shown=f"`<dhcp.state_dir>/{STATE_SOCKET}`",
    )
    allow_uids: tuple[int, ...] = key_of(
        (),
        checks.list_of(checks.integer(0, 2**32 - 2)),
        "further users, by number, who may change something by it besides root and our own user",
    )
    read_uids: tuple[int, ...] = key_of(
        (),
        checks.list_of(checks.integer(0, 2**32 - 2)),
        "users, by number, who may read by it: ask, and change nothing",
    )
    read_gids: tuple[int, ...] = key_of(
        (),
        checks.list_of(checks.integer(0, 2**32 - 2)),
        "groups, by number, whose members may read by it",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The Prometheus endpoint."""

    bind: tuple[str, int] | None = key_of(
        None,
        checks.nullable(checks.Check("an address and port such as 127.0.0.1:9100", checks.take_host_port)),
        "where to serve metrics; null: nowhere",
        restart="the endpoint is opened at the start",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """`bootstorm board`, a process of its own; the service needs none of it."""

    bind: tuple[str, int] | None = key_of(
        None,
        checks.nullable(checks.Check("an address and port such as 127.0.0.1:9970", checks.take_host_port)),
        "where the board serves HTTP; null: 127.0.0.1:9970; beyond loopback it wants `board.token_file`",
    )
    user: str | None = key_of(
        None,
        checks.nullable(checks.text("a user name", r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")),
        "user that the board becomes when root starts it; it has to be listed in `control.read_uids`",
    )
    token_file: Path | None = key_of(  # noqa: RUF009
        None,
        checks.nullable(checks.PATH),
        "file with the token that everybody who looks has to show; null: nobody has to",
    )
    names: tuple[str, ...] = key_of(
        (),
        checks.list_of(checks.text("a host name or an address", r"[A-Za-z0-9:._-]{1,255}")),
        "further names under which browsers may reach it, such as those of a proxy in front of it",
    )
    title: str | None = key_of(
        None,
        checks.nullable(checks.text("a text of at most 60 printable characters", r"[ -~]{1,60}")),
        "what the pages are headed with; null: the name of this machine",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Several servers of one site, which are a fleet where there is a section `fleet`, if only an empty one."""

    servers: tuple[str, ...] = key_of(
        ("nats://127.0.0.1:4222",), SERVERS, "servers of the message engine (NATS with JetStream)"
    )
    shard: str = key_of("main", SHARD, "whose table: the servers of one shard serve the same one")
    name: str | None = key_of(
        None, checks.nullable(MACHINE), "what this machine is called among them; null: its host name"
    )
    lead: bool = key_of(True, checks.BOOL, "false: it never leads, as where it cannot reach the inventory")
    tls: Tls | None = key_of(  # noqa: RUF009
        None, TLS, "who signed the engine's certificates, and our own; null: those whom this machine trusts"
    )
    credentials: Path | None = key_of(  # noqa: RUF009
        None,
        checks.nullable(checks.PATH),
        "file of mode 0600 by which the engine knows us: USER:PASSWORD, an nkey's seed, or NATS' .creds; null: none",
    )
    replicas: int = key_of(
        1, REPLICAS, "on so many nodes of the engine streams are kept that this machine makes: 3 where it has three"
    )
    hub: str | None = key_of(
        None,
        checks.nullable(DOMAIN),
        "JetStream domain of the shard's streams, where `servers` are leaf nodes that mirror them; null: they are not",
    )
    signing_key: Path | None = key_of(  # noqa: RUF009
        None,
        checks.nullable(checks.PATH),
        "file of mode 0600 with the key by which this machine signs what it publishes",
    )
    trusted_keys: tuple[bytes, ...] = key_of(
        (), PUBLIC_KEYS, "public keys of those who may lead; empty: whatever the engine has is believed"
    )
    operators: tuple[bytes, ...] = key_of(
        (), PUBLIC_KEYS, "public keys of those whose orders count; empty: those of `trusted_keys`"
    )
    canary: tuple[str, ...] = key_of(
        (), CANARY, "machines that serve a new table before the others; empty: all serve it at once"
    )
    canary_seconds: float = key_of(
        60.0, checks.number(1, 86400), "for so long they serve it without a fault before the others do"
    )
    canary_rows: int = key_of(
        100, checks.integer(0, 1_000_000), "a change of at most so many hosts goes to all at once"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What every process writes to standard error."""

    format: str = key_of(
        "text",
        checks.one_of("text", "json"),
        "how log lines look, json: one object a line; systemd's journal gets entries with fields, whatever stands here",
        restart="each process is told at its start",
    )
