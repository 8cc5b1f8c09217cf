"""NATS' accounts as nsc makes them: an operator, an account with JetStream, and users' .creds files."""

from __future__ import annotations

import json
import os
from base64 import b32encode, urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import nkeys

from control.fleet.setup.permissions import Role

OPERATOR, ACCOUNT, USER = (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER)
NO_LIMIT: Final = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
JETSTREAM: Final = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def _coded(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


class Key:
    def __init__(self, kind: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), kind)
        self.pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self.pair.public_key.decode()

    def signs(self, subject: str, name: str, claims: dict[str, Any]) -> str:
        body = {"iat": 1, "iss": self.public, "name": name, "sub": subject, "nats": {"version": 2} | claims}
        body["jti"] = b32encode(sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        said = ".".join(_coded(json.dumps(each).encode()) for each in (head, body))
        return f"{said}.{_coded(self.pair.sign(said.encode()))}"


class Operator:
    """One with a system account and an account for a shard."""

    def __init__(self) -> None:
        self.key, self.system, self.account = Key(OPERATOR), Key(ACCOUNT), Key(ACCOUNT)

    @property
    def conf(self) -> str:
        """Lines of nats-server's configuration."""
        operator = self.key.signs(self.key.public, "op", {"type": "operator"})
        limits = {"wildcards": True} | NO_LIMIT
        system = self.key.signs(self.system.public, "SYS", {"type": "account", "limits": limits})
        account = self.key.signs(self.account.public, "main", {"type": "account", "limits": limits | JETSTREAM})
        return (
            f"operator: {operator}\nsystem_account: {self.system.public}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {self.system.public}: {system}\n{self.account.public}: {account} }}\n"
        )

    def creds(self, path: Path, role: Role) -> Path:
        """A new user's, mode 0600; also in the place of one that is there."""
        user = Key(USER)
        publish, subscribe = ([each for _why, some in part for each in some] for part in role)
        limits = dict.fromkeys(("subs", "data", "payload"), -1)
        claims = {"type": "user", "pub": {"allow": publish}, "sub": {"allow": subscribe}} | limits
        token = self.account.signs(user.public, "user", claims)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        path.chmod(0o600)
        return path
