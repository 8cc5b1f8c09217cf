"""What hosts wait for after a restart: the libraries that control loads before it can hand on the table."""

from __future__ import annotations

import subprocess
import sys

# Of the planner, of a registrar, of doors.
LATER = {"requests", "urllib3", "yaml", "pysnmp", "prometheus_client", "sqlalchemy"}


def test_control_loads_nothing_that_others_read_the_inventory_with() -> None:
    """Requests and PyYAML alone were 170 ms on a core that five processes start on."""
    code = "import control.service.service, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not LATER & {name.partition(".")[0] for name in done.stdout.split()}


def test_a_start_loads_nothing_for_what_no_manager_has_handed_back() -> None:
    code = "import fastpath.supervisor.serving, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "fastpath.supervisor.manager" in loaded and "fastpath.supervisor.handed_back" not in loaded


def test_who_answers_starts_without_what_only_control_needs() -> None:
    """A restart of the supervisor is what nobody is answered in: asyncio was a quarter of its imports."""
    code = "import fastpath.supervisor.serving, fastpath.worker, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"asyncio", "ssl", "platform", "requests", "yaml"} & set(done.stdout.split())
