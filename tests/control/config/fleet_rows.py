"""Rows of test_config.py's tables for section `fleet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control.config.fleet import Tls

GOOD: list[tuple[str, str, Any, Any]] = [
    ("fleet", "servers", ["tls://n1.example:4222", "nats://[::1]:1"], ("tls://n1.example:4222", "nats://[::1]:1")),
    ("fleet", "tls", {"ca": "/a", "cert": "/b", "key": "/c"}, Tls(ca=Path("/a"), cert=Path("/b"), key=Path("/c"))),
    ("fleet", "tls", {}, Tls()),
    ("fleet", "trusted_keys", ["0F" * 32], (b"\x0f" * 32,)),
    ("fleet", "canary", ["a.example", "b-2"], ("a.example", "b-2")),
    ("fleet", "replicas", 3, 3),
    ("fleet", "hub", "hub", "hub"),
    ("fleet", "name", "dhcp1.example.org", "dhcp1.example.org"),
]
WRONG: list[tuple[str, str, Any, str]] = [
    ("fleet", "servers", [], "name at least one, or remove the section"),
    ("fleet", "servers", ["n1.example:4222"], "write nats://n1.example:4222"),
    ("fleet", "servers", ["http://n1.example:4222"], "a URL such as nats://127.0.0.1:4222"),
    ("fleet", "servers", ["nats://u:p@n1.example:4222"], "set fleet.credentials"),
    ("fleet", "servers", ["nats://n1.example"], "a URL such as"),
    ("fleet", "shard", "dc.1", "1 to 32 of A-Z"),
    ("fleet", "name", "a..b", "a machine's name"),
    ("fleet", "name", "-a", "a machine's name"),
    ("fleet", "tls", {"ca": "a"}, 'fleet.tls.ca: found "a"; wanted an absolute path'),
    ("fleet", "tls", {"cert": "/a"}, "only one of cert and key; wanted both, or neither"),
    ("fleet", "tls", {"pem": "/a"}, 'the field "pem"; wanted an object of ca, cert, key'),
    ("fleet", "trusted_keys", ["0f"], "`bootstorm fleet-key FILE` makes a key"),
    ("fleet", "canary", [f"m{number}" for number in range(17)], "they are all in each head"),
    ("fleet", "canary", ["a", "a"], "a second time"),
    ("fleet", "canary_seconds", 0, "1..86400"),
    ("fleet", "replicas", 2, "wanted 1, 3 or 5"),
    ("fleet", "replicas", True, "wanted 1, 3 or 5"),
    ("fleet", "hub", "a.b", "a JetStream domain"),
]
CHANGED: dict[str, Any] = {
    "fleet.servers": ("nats://n1.example:4222",),
    "fleet.shard": "dc1",
    "fleet.name": "m1",
    "fleet.lead": False,
    "fleet.tls": Tls(),
    **dict.fromkeys(("fleet.credentials", "fleet.signing_key"), Path("/etc/key")),
    **dict.fromkeys(("fleet.trusted_keys", "fleet.operators"), (bytes(32),)),
    "fleet.replicas": 3,
    "fleet.hub": "hub",
    "fleet.canary": ("m1",),
    "fleet.canary_seconds": 5.0,
    "fleet.canary_rows": 7,
}
