"""The paths of services.conf: which clash with the service's own files, and what stands in their place on disk."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

# Of ours in dhcp.state_dir, besides table.*; tests/control/config/test_refused.py asks those who write them.
STATE_FILES = (
    "lock", "pinned", "pinned.new", "ledger", "ledger.new", "overrides", "overrides.new",
    "discovery.journal", "discovery.journal.new", "snmp-engine", "snmp-engine.new",
    "fleet-state", "fleet-state.new", "fleet-delta", "fleet-delta.new", "fleet-spool", "fleet-spool.new",
)  # fmt: skip


def clash(socket: Path, state_dir: Path) -> str:
    """What else control.socket would be, or nothing.  Neither path is looked at."""
    path, state = Path(os.path.normpath(socket)), Path(os.path.normpath(state_dir))
    if path == state:
        return "dhcp.state_dir itself"
    if path in state.parents:
        return "a folder above dhcp.state_dir"
    if path.parent == state and (path.name in STATE_FILES or path.name.startswith("table.")):
        return "a file that the service keeps in dhcp.state_dir"
    return ""


def faults_on_disk(state_dir: Path, socket: Path) -> list[str]:
    """What stands in their place so that a start is refused, as far as we may look."""
    faults = []
    for key, path, wanted in (("dhcp.state_dir", state_dir, "a folder"), ("control.socket", socket, "a socket")):
        try:
            mode = path.stat().st_mode if path is state_dir else path.lstat().st_mode
        except NotADirectoryError:
            found = "a path below a file"
        except OSError:
            continue
        else:
            if stat.S_ISDIR(mode) if path is state_dir else stat.S_ISSOCK(mode) or stat.S_ISLNK(mode):
                continue
            found = "a folder" if stat.S_ISDIR(mode) else "a plain file" if stat.S_ISREG(mode) else "something else"
        shown, step = json.dumps(str(path)), "remove it, or name another path"
        faults.append(f"{key}: found {shown}, {found}; wanted {wanted}, or nothing yet; {step}")
    return faults
