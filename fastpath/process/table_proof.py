"""What the table on disk depends on, kept beside it: whoever finds all of that as it was may serve it as it lies there.

The planner writes it behind the table, the supervisor reads it at a start.  A table is named by its header, which has
the checksum of all that follows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from fastpath.process.build import BUILD

FILE: Final = "table.proof"  # in dhcp.state_dir
BYTES_MAX: Final = 1 << 23  # 65,536 addresses
SECONDS_MAX: Final = 1 << 40
HEADER_BYTES: Final = 512  # more than a header


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """build, config: of whose code and which services.conf; links: (ifindex, name, address, prefix, mtu) of each
    address, in the order in which control says them; base, delta: of name_of(), delta "" where there is none;
    confirmed_s: since 1970, when the inventory last confirmed what base and delta say."""

    build: str
    config: str
    links: tuple[tuple[Any, ...], ...]
    base: str
    delta: str
    confirmed_s: float

    def unlike(self, config: bytes, links: Iterable[Sequence[Any]]) -> str:
        """Why the table is not to be served as it lies there; "" where it is."""
        if self.build != BUILD:
            return "another build made it"
        if self.config != digest(config):
            return "services.conf is another one now"
        return "" if self.links == plain(links) else "the addresses of the interfaces are others now"

    def packed(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def proof(config: bytes, links: Iterable[Sequence[Any]], base_fd: int, delta_fd: int, confirmed_s: float) -> Proof:
    """delta_fd: -1 for none.  Raises OSError."""
    return Proof(
        build=BUILD,
        config=digest(config),
        links=plain(links),
        base=name_of(base_fd),
        delta=name_of(delta_fd) if delta_fd >= 0 else "",
        confirmed_s=confirmed_s,
    )


def read(content: bytes) -> Proof:
    """Of packed().  Raises ValueError for anything else."""
    try:
        said = json.loads(content)
        found = Proof(**said | {"links": plain(said["links"])})
        texts = (found.build, found.config, found.base, found.delta)
        if not all(isinstance(text, str) for text in texts) or not 0 <= found.confirmed_s < SECONDS_MAX:
            raise TypeError("fields of other types")
    except (ValueError, TypeError, KeyError, RecursionError) as damaged:
        raise ValueError(f"it is damaged ({damaged})") from damaged
    return found


def plain(links: Iterable[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(link) for link in links)


def digest(config: bytes) -> str:
    """Of section `dhcp` of a services.conf, the only one that decides what is answered; of one that is none, of all."""
    try:
        section = json.loads(config.decode("utf-8-sig"))["dhcp"]
        config = json.dumps(section, sort_keys=True).encode("utf-8", "backslashreplace")
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    return hashlib.sha256(config).hexdigest()


def name_of(fd: int) -> str:
    """Of the table behind fd.  Raises OSError."""
    return hashlib.sha256(os.pread(fd, HEADER_BYTES, 0)).hexdigest()
