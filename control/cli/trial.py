"""`bootstorm serve --try`: the service in this terminal, with whatever it keeps in a folder that goes with it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from control.cli.shared import FAILED, read_config
from control.config.comments import without_comments

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # SIGHUP: the terminal is gone
KILLED = 128  # and the signal's number, as a shell says it


def serve_on_trial(path: str | None) -> int:
    """The service's exit code, once it has ended."""
    text = read_config(path).text
    started: list[subprocess.Popen[bytes]] = []

    def end(*_: object) -> None:
        if not started:
            raise KeyboardInterrupt
        started[0].send_signal(signal.SIGTERM)  # Ctrl-C has reached it already, which is no harm

    for number in ENDS:
        signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
    try:
        folder = Path(tempfile.mkdtemp(prefix="bootstorm-try-"))
    except OSError as error:
        raise click.ClickException(f"no folder for what a trial keeps: {error}") from error
    try:
        conf = folder / "services.conf"
        conf.touch(0o600)
        conf.write_text(on_trial(text, folder / "state"), encoding="utf-8")
        folder.chmod(0o711)  # dhcp.user has to reach the state in it
        click.echo(f"bootstorm: a trial: what it keeps is in {folder} and goes with it; Ctrl-C ends it", err=True)
        click.echo(f"bootstorm: ask it from elsewhere: bootstorm ctl -c {conf} status", err=True)
        with subprocess.Popen([sys.executable, "-P", "-m", "control", "serve", "-c", str(conf)]) as process:
            started.append(process)
            code = process.wait()
    except OSError as error:
        click.echo(f"bootstorm: a trial in {folder}: {error}", err=True)
        return FAILED
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else KILLED - code


def on_trial(text: bytes, state_dir: Path) -> str:
    """A configuration that was accepted, with its state elsewhere, and the control socket there."""
    sections = json.loads(without_comments(text.decode("utf-8-sig")))
    sections.setdefault("dhcp", {})["state_dir"] = str(state_dir)
    sections.get("control", {}).pop("socket", None)
    return json.dumps(sections, indent=1) + "\n"
