"""`bootstorm serve --try`: what it keeps is elsewhere, and gone when it ends, however that comes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from control.cli.ctl import Client
from control.cli.trial import on_trial
from control.config.config import load, parse
from tests.control.service.test_service import content
from tests.control.serving import may_serve
from tests.ports import free_port

WAIT_S = 120.0


def test_only_the_state_and_the_socket_are_elsewhere() -> None:
    given = b'# mine\n{"dhcp": {"port": 1067, "api_token": "t"}, "control": {"socket": "/run/x", "read_uids": [7]}}'
    before, after = parse(given, Path("x")), parse(on_trial(given, Path("/tmp/y")).encode(), Path("x"))
    assert (after.dhcp.state_dir, after.control.socket) == (Path("/tmp/y"), Path("/tmp/y/control.sock"))
    assert (after.dhcp.port, after.dhcp.api_token, after.control.read_uids) == (1067, "t", (7,))
    assert before.control.socket == Path("/run/x")
    assert parse(on_trial(b"{}", Path("/tmp/y")).encode(), Path("x")).control.socket == Path("/tmp/y/control.sock")


@pytest.mark.parametrize("ending", ["terminal", signal.SIGHUP])  # SIGTERM is handled as SIGHUP is
def test_a_trial_from_its_first_line_to_its_end(ending: str | signal.Signals, tmp_path: Path) -> None:
    may_serve()
    hosts, conf, kept = tmp_path / "hosts.csv", tmp_path / "services.conf", tmp_path / "kept"
    hosts.write_text(content(1))
    dhcp = {"api_url": f"file://{hosts}", "state_dir": str(kept), "workers": 1, "port": free_port(), "boot_port": 0,
            "interfaces": ["lo"]}  # fmt: skip
    conf.write_text(json.dumps({"dhcp": dhcp}))
    argv = ["env", "--default-signal=INT,HUP", sys.executable, "-P", "-m", "control", "serve", "--try", "-c", str(conf)]
    short = tempfile.mkdtemp(dir="/tmp")  # a socket's path has 107 bytes
    environment = {**os.environ, "TMPDIR": short}
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:  # a line a step: each is waited for by reading it
            lines.append(line)
            if "generation 1: 1 hosts" in line:
                break
        said = re.search(r"bootstorm ctl -c (/\S+) status", "".join(lines))
        assert said is not None, lines
        copy = load(said[1])
        folder = Path(said[1]).parent
        assert folder.parent == Path(short) and folder.name.startswith("bootstorm-try-")
        assert Client(str(copy.control.socket)).call("status", {})["hosts"] == 1
        if isinstance(ending, signal.Signals):
            process.send_signal(ending)
        else:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does it
        lines += process.stderr.readlines()
        assert process.wait(WAIT_S) == 0, lines
    assert not [line for line in lines if "Traceback" in line or "Interrupt" in line], lines
    os.rmdir(short)  # nothing is left in it
    assert not kept.exists(), "what is installed was not touched"
