"""Code that is installed, and not upgraded to: children are of it already, the supervisor is not.

What does not go with this image is told; and where nothing else could make good what is missing, the upgrade begins
without SIGUSR2: docs/design.md, "Upgrade".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from fastpath.process import build
from fastpath.process.turns import KINDS as TURNING
from fastpath.process.turns import Turns
from fastpath.protocol import UnknownKind
from fastpath.supervisor.children import Child, differing, printable

log = logging.getLogger("bootstorm.supervisor")

PAUSES_S = (2.0, 5.0, 10.0, 30.0, 60.0)  # between trials that nobody asked for
FOREIGN_S = 10.0  # so long a child that does not go with us may stay where other code is installed by now
UNFIT = 2  # so many of a kind in a row died before they were any use: one may have been killed by a person
WORDS_MAX = 50  # kinds of messages that are told of
SERVING = ("spare", "worker")  # who is missing only where a slot is free


class Installed:
    def __init__(self) -> None:
        self.unfit: dict[str, int] = {}  # kind -> how many in a row were no use (note_death())
        self.told_build = self.told_need = ""  # each is told once
        self.told_words: set[str] = set()
        self.tries, self.next_try_s = 0, 0.0

    def note_ready(self, spare: Child) -> None:
        """What does not go with us is told once for each build."""
        if spare.outdated:
            return
        self.unfit["spare"] = 0
        if not spare.is_foreign:
            self.told_build = ""
        elif self.told_build != (other := spare.build or "unknown build"):
            self.told_build = other
            log.error(
                "the installed code (%s) has another layout of %s than this service (%s), which can start no worker "
                "any more: finish the upgrade with SIGUSR2 or put the old code back",
                other,
                ", ".join(differing(spare.layouts)) or "memory",
                build.BUILD_NAME,
            )

    def note_death(self, child: Child, was_use: bool) -> None:
        """It may be of other code, which finds our memory laid out otherwise or does not understand us; it cannot say
        so any more.  was_use: its loop turned or, of a spare, it was ready."""
        if not child.outdated:
            self.unfit[child.kind] = 0 if was_use else self.unfit.get(child.kind, 0) + 1

    def excuses(self, child: Child, unknown: UnknownKind) -> bool:
        """A child of another build may say what only that build knows; each is told once."""
        if not child.outdated and (child.build == build.BUILD_NAME or not build.another_is_installed()):
            return False
        words = f"{child.kind}: {printable(str(unknown))}"
        if words not in self.told_words and len(self.told_words) < WORDS_MAX:
            self.told_words.add(words)
            log.info("%s %d of another build: %s; ignored from now on", child.kind, child.pid, printable(str(unknown)))
        return True

    def need(self, children: Iterable[Child], turns: Turns, slot_free: bool) -> str:
        """Why hosts are silent, or without what is new, until the installed code takes over; "" where they are not."""
        here = [child for child in children if not child.stopping_s]
        spares = [child for child in here if child.kind == "spare" and child.ready]
        if slot_free and spares and all(child.is_foreign for child in spares):
            return "a worker is missing, and the installed code has none that this supervisor can use"
        if any(child.kind == "control" and child.is_foreign for child in here) and build.another_is_installed():
            return "control is of the installed code and makes tables that no worker of ours can read"
        missing = {kind for kind in TURNING if not turns.last_s(kind)} | set(SERVING if slot_free else ())
        unfit = sorted(kind for kind in missing if self.unfit.get(kind, 0) >= UNFIT)
        if unfit and build.another_is_installed():
            return f"{', '.join(unfit)} of the installed code cannot start beside this supervisor"
        return ""

    def is_due(self, need: str, now: float) -> bool:
        """To be asked while no trial runs.  The reason is told once, for as long as there is need."""
        if not need:
            self.told_need, self.tries, self.next_try_s = "", 0, 0.0
        if not need or now < self.next_try_s:
            return False
        if need != self.told_need:
            log.error("%s: upgrading without having been asked to", need)
        self.told_need = need
        self.next_try_s = now + PAUSES_S[min(self.tries, len(PAUSES_S) - 1)]
        self.tries += 1
        return True

    def replaceable(self, children: Sequence[Child], now: float) -> list[Child]:
        """Those that do not go with us, where others are to be had: the old code may have been put back."""
        old = [c for c in children if c.is_foreign and not c.stopping_s and now - c.started_s > FOREIGN_S]
        if not old:
            return []
        name = build.installed_name()
        return [
            child
            for child in old
            if (child.kind == "spare" and child.build != name) or (child.kind == "control" and name == build.BUILD_NAME)
        ]
