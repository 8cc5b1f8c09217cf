"""In a fleet: a request that writes to the inventory is sent only while this machine leads for longer than it may take.

Asked before each request, not once a registration: between two of them the lead may have gone to another machine, which
takes the registration up where this one stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from control.clusto.client.api import NotSent

# Of a request that writes: for connecting, and until its answer begins.  Less than what is left of a lease that is
# renewed in time.
WRITE_TIMEOUT_S: Final = (0.9, 2.0)
TIMEOUT_MS: Final = int(1000 * sum(WRITE_TIMEOUT_S))
WAIT_S: Final = 2.0  # for a renewal that is due
LOOK_S: Final = 0.05  # the page has no bell
READS: Final = frozenset({"show", "attrs", "ports", "get_port_attr"})  # actions of an entity that change nothing


def writes(method: str, path: str) -> bool:
    """Whether a request may change something: what is not known to be harmless may."""
    parts = path.strip("/").split("/")
    if parts[0] == "query":  # a long one is a POST
        return False
    if method != "GET":
        return True
    return len(parts) > 2 and parts[-1] not in READS


class Page(Protocol):
    """control/fleet/process/page.py, which is loaded in a fleet only."""

    @property
    def until_ms(self) -> int: ...

    def now_ms(self) -> int: ...

    def may_send(self, now: int, timeout_ms: int) -> bool: ...

    def note(self, place: int, busy_ms: int) -> None: ...


class Lead:
    """permit() is for Api, before each request.  place: this registrar's in the page."""

    def __init__(self, page: Page, place: int, wait: Callable[[float], None] = time.sleep) -> None:
        self.page, self.place, self.wait = page, place, wait

    def permit(self, method: str, path: str) -> tuple[float, float] | None:
        """The time-outs of this request; None: the usual ones.  Raises NotSent."""
        if not writes(method, path):
            return None
        give_up_ms = self.page.now_ms() + int(1000 * WAIT_S)
        while True:
            now = self.page.now_ms()
            self.page.note(self.place, now + TIMEOUT_MS)  # before the look: whoever gives the lease back looks there
            if self.page.may_send(now, TIMEOUT_MS):
                return WRITE_TIMEOUT_S
            self.page.note(self.place, 0)
            until_ms = self.page.until_ms
            if until_ms <= now or now >= give_up_ms:
                raise NotSent(f"{method} {path}: not sent: {self.why(until_ms - now)}; the machine that leads goes on")
            self.wait(LOOK_S)

    @staticmethod
    def why(left_ms: int) -> str:
        if left_ms <= 0:
            return "this machine does not lead its fleet any more"
        return f"its lead lasts for {left_ms / 1000:.1f} s, the request may take {TIMEOUT_MS / 1000:.1f} s"
