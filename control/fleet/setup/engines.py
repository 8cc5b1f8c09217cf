"""The configurations of nats-server for a fleet: one node, three nodes, a hub and a leaf.  Pure: texts.

deploy/nats has the same texts with example names.  They are written for nats-server 2.9 (Debian 12) and newer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from control.fleet.setup import permissions
from control.fleet.setup.permissions import HUB, Allowed, Role

CONF, ACCOUNTS = "nats-server.conf", "nats/accounts.conf"  # below /etc, where Debian's unit looks
CLIENTS, ROUTES, LEAVES = 4222, 6222, 7422  # ports
NODES: Final = {"one": 1, "three": 3, "hub-leaf": 2}  # how many servers each kind has
FOLDER: Final = "/etc/nats"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """servers: names of the engine's nodes; of hub-leaf the hub's, then the leaf's.  leaders: machines that may lead,
    on the hub's side; followers: those that never do, on the leaf's."""

    shard: str
    leaders: tuple[str, ...]
    followers: tuple[str, ...]
    engine: str
    servers: tuple[str, ...]
    canary: tuple[str, ...] = ()

    @property
    def replicas(self) -> int:
        return 3 if self.engine == "three" else 1

    def servers_of(self, name: str) -> tuple[str, ...]:
        """Which nodes that machine connects to."""
        if self.engine != "hub-leaf":
            return self.servers
        return self.servers[1:] if name in self.followers else self.servers[:1]


def users_of(plan: Plan, server: str) -> dict[str, tuple[str, Role]]:
    """The machines that this node knows: name -> (what it is, what it may)."""
    found = {}
    for name in (*plan.leaders, *plan.followers):
        if server not in plan.servers_of(name):
            continue
        if name in plan.leaders:
            found[name] = f"{name} may lead.", permissions.leader(plan.shard, name)
        elif plan.engine == "hub-leaf":
            found[name] = f"{name} follows, and reads the mirrors.", permissions.behind_a_leaf(plan.shard, name)
        else:
            found[name] = f"{name} follows.", permissions.follower(plan.shard, name)
    return found


def accounts(plan: Plan, server: str, keys: Mapping[str, str], leaf_password: str) -> str:
    """keys: machine -> its public nkey.  leaf_password: at the hub, in the hub's file alone.  Both as values of NATS'
    configuration: quoted, or $NAME of its environment."""
    lines = [
        f"# The account of shard {plan.shard}, included by {CONF}: who may say and hear what.  What is not listed is",
        "# refused.  Another shard of this engine gets an account of its own beside this one, and hears nothing of it.",
        "accounts {",
        f'  "{plan.shard}" {{',
        "    jetstream: enabled  # streams of this account belong to it alone",
        "    users: [",
    ]
    for name, (what, role) in users_of(plan, server).items():
        lines += ["      {", f"        # {what}  Its nkey's public half: nobody who reads this can use it."]
        lines += [f"        nkey: {keys[name]}", *_permissions(role), "      }"]
    if plan.engine == "hub-leaf" and server == plan.servers[0]:
        lines += ["      {", "        # The leaf node, which may no more than its machines and its mirrors need."]
        lines += [f'        user: "{leaf_user(plan)}", password: {leaf_password}']
        lines += [
            "        # No machine can come in by that password.",
            '        allowed_connection_types: ["LEAFNODE"]',
        ]
        lines += [*_permissions(permissions.leaf_node(plan.shard)), "      }"]
    return "\n".join([*lines, "    ]", "  }", "}", ""])


def leaf_user(plan: Plan) -> str:
    return f"leaf-{plan.shard}"


def hub_url(plan: Plan, password: str) -> str:
    """Where the leaf connects to, and as whom."""
    return f'"tls://{leaf_user(plan)}:{password}@{plan.servers[0]}:{LEAVES}"'


def _permissions(role: Role) -> Iterator[str]:
    yield "        permissions: {"
    for verb, allowed in (("publish", role.publish), ("subscribe", role.subscribe)):
        yield f"          {verb}: {{ allow: ["
        yield from _subjects(allowed)
        yield "          ] }"
    yield "        }"


def _subjects(allowed: Allowed) -> Iterator[str]:
    for why, subjects in allowed:
        yield f"            # {why}"
        yield from (f'            "{subject}"' for subject in subjects)


def configuration(plan: Plan, server: str, hub_url: str) -> str:
    """nats-server.conf of that node.  hub_url: as hub_url(), for a leaf's."""
    if plan.engine == "three":
        parts = [_head(plan, server), _jetstream(""), _tls(), _cluster(plan)]
    elif plan.engine == "one":
        parts = [_head(plan, server), _jetstream(""), _tls()]
    elif server == plan.servers[0]:
        parts = [_head(plan, server), _jetstream(HUB), _tls(), _hub()]
    else:
        parts = [_head(plan, server), _jetstream(f"leaf-{plan.shard}"), _tls(), _leaf(plan, hub_url)]
    return "\n".join([*parts, _accounts()])


def _head(plan: Plan, server: str) -> str:
    what = {
        "one": "the engine of one node", "three": "one of three nodes; their files differ in server_name alone",
        "hub-leaf": "the hub" if server == plan.servers[0] else "a leaf node, which mirrors the hub's streams",
    }[plan.engine]  # fmt: skip
    return f"""\
# {CONF}, the message engine of a fleet (docs/fleet.md), shard {plan.shard}:
# {what}.

# Its name in logs, and among the nodes, where each needs another one.
server_name: "{server.replace(".", "-")}"
# For machines on all interfaces.  It needs nothing that DHCP boots; the responders' own machines are a good place.
listen: "0.0.0.0:{CLIENTS}"
# A chunk of a table is a message; larger ones are nobody's.
max_payload: 1MB
# A dead machine is noticed after 3 x 10 s, and its place is free.
ping_interval: "10s"
ping_max: 2
"""


def _jetstream(domain: str) -> str:
    named = f'''\
  # The name under which streams of this node are asked for from the other side of a leaf connection.
  domain: "{domain}"
''' if domain else ""  # fmt: skip
    return f"""\
jetstream {{
  # Head, lease and tables; it may be lost, for what counts is in the head's signature and on the responders' disks.
  store_dir: "/var/lib/nats"
  # Four tables and one on trial: 100 MB for 100,000 hosts.
  max_file_store: 4GB
  # All streams of a fleet are files.
  max_memory_store: 64MB
{named}}}
"""


def _tls() -> str:
    return f"""\
# Encrypted, and machines can tell that this is their engine.  Who they are, their nkeys say: they need no certificate.
tls {{
  cert_file: "{FOLDER}/server.pem"
  key_file: "{FOLDER}/server.key"
  # Seconds for a handshake: the 2 of the default are few for a machine under load.
  timeout: 3
}}
"""


def _mutual(what: str) -> str:
    return f"""\
  # {what}
  tls {{
    cert_file: "{FOLDER}/server.pem"
    key_file: "{FOLDER}/server.key"
    ca_file: "{FOLDER}/ca.pem"
    verify: true
    timeout: 3
  }}"""


def _cluster(plan: Plan) -> str:
    routes = "\n".join(f'    "tls://{server}:{ROUTES}"' for server in plan.servers)
    mutual = _mutual("A node believes whoever has a certificate of this authority: it signs those of nodes, no others.")
    return f"""\
# Three nodes keep each stream ("replicas": 3 in section fleet): one may be lost, and two decide.  Five bear two losses.
cluster {{
  # The same on all nodes.
  name: "fleet-{plan.shard}"
  listen: "0.0.0.0:{ROUTES}"
{mutual}
  # All nodes, this one too, so that the file is the same everywhere.
  routes: [
{routes}
  ]
}}
"""


def _hub() -> str:
    mutual = _mutual("A leaf node shows a certificate of this authority, and its password: that of its account's user.")
    return f"""\
# Where leaf nodes of datacenters connect to; the hub connects to nobody.
leafnodes {{
  listen: "0.0.0.0:{LEAVES}"
{mutual}
}}
"""


def _leaf(plan: Plan, hub_url: str) -> str:
    mutual = _mutual("Encrypted, with a certificate of the fleet's authority on both sides.").replace("\n", "\n    ")
    return f"""\
# The hub: tried again each second when it is away.
leafnodes {{
  remotes: [
    {{
      # The hub, and this leaf's user there.  This file is a secret: mode 0600.
      urls: [{hub_url}]
      # Its machines' account here.
      account: "{plan.shard}"
    {mutual}
    }}
  ]
}}
"""


def _accounts() -> str:
    return f"""\
# Who may say and hear what; beside this file.
include "{ACCOUNTS}"
"""
