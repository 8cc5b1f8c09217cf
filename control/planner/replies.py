"""What a job given to the planner comes to, as control waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from control.planner.jobs import Failed, Laid, Listed, Planned, TableChecked

SUPERSEDED = "superseded"  # Failed.kind, of what a reconfiguration ended
FOLLOWS = "follows"  # Failed.kind, of what reads the inventory, while another machine does


@dataclass(frozen=True, slots=True)
class Origins:
    """(MAC, client class, address) -> option code -> who said it."""

    said: dict[tuple[int, int | str, int], dict[int, str]]


class NoProgress(Exception):
    """The planner hangs: the text says at what."""


Reply = Planned | Failed | tuple[Listed, list[dict[str, Any]]] | Origins | TableChecked | Laid


def is_superseded(reply: Reply) -> bool:
    return isinstance(reply, Failed) and reply.kind in (SUPERSEDED, FOLLOWS)


def is_unread(reply: Reply) -> bool:
    return isinstance(reply, Failed) and reply.kind == "unread"


def reason_of(reply: Reply) -> str:
    return reply.reason if isinstance(reply, Failed) else f"the planner answered {type(reply).__name__}"
