"""SIGHUP, until a control has obeyed it: any may be dying, hanging or stopping, and there may be none."""

from __future__ import annotations

import logging
import time

from fastpath.supervisor.children import Child

log = logging.getLogger("bootstorm.supervisor")

TOLD_MAX = 3  # controls that end over one SIGHUP, before it is given up


class PendingReload:
    """wanted: also over an upgrade, until one has obeyed and lives on."""

    def __init__(self) -> None:
        self.wanted = False
        self.told: Child | None = None
        self.tries, self.read_s = 0, 0.0

    def ask(self) -> None:
        """Also where the last one is not obeyed yet: that control may have read the file already."""
        self.wanted, self.told, self.tries = True, None, 0

    def is_for(self, control: Child, turned_s: float) -> bool:
        """This one is to be told now.  turned_s: the last turn of its loop.

        It has obeyed when it has read its channel empty and turned since; it says nothing of a file that it refuses.
        Raises OSError."""
        if not self.wanted:
            return False
        if control is not self.told and self.tries == TOLD_MAX:
            self.wanted = False
            log.error("not reloaded: %d control processes ended over it; mend services.conf, then SIGHUP", TOLD_MAX)
        elif control is not self.told:
            self.told, self.read_s = control, 0.0
            self.tries += 1
            return True
        elif not self.read_s:
            self.read_s = time.monotonic() if control.channel.is_read() else 0.0
        elif turned_s > self.read_s:
            self.wanted, self.told = False, None
        return False
