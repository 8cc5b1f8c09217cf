"""Exit codes that tell the truth: what `ctl status`, `refresh` and `observed` end with, and where options may stand."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgpack
import pytest

from control.cli.ctl_commands import CtlCommand, ctl
from tests.control.cli.test_ctl import FIGURES, STATUS, WORKER, answering, bootstorm, reply
from tests.control.cli.test_health import NOT_READY, READY

REASON = NOT_READY["reason"]
OBSERVED: dict[str, Any] = {
    "mac": None, "now_s": 0.0, "more": False, "hosts": [],
    "totals": {
        "counts": dict.fromkeys(
            ("requests", "repeats", "replies", "same", "different", "only they", "only we", "both silent", "not seen",
             "other server id", "other order", "told by requests", "stray replies", "no table", "not watched",
             "not noted", "proxied"), 0,
        ),
        "kinds": {"option 6 dns_servers": 1, "address": 2}, "servers": {}, "dropped": 0, "hosts": {"same": 0},
    },
}  # fmt: skip


@contextmanager
def saying(folder: Path, *answers: tuple[str, Any]) -> Iterator[str]:
    """A control socket that expects these commands, one a connection, and gives these results."""
    path = folder / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(60)
        asked: list[str] = []

        def serve() -> None:
            for _command, result in answers:
                peer, _ = listener.accept()
                with peer:
                    asked.append(msgpack.unpackb(peer.recv(1 << 16))["cmd"])
                    peer.sendall(reply(ok=True, result=result))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield str(path)
        thread.join(60)
    assert asked == [command for command, _result in answers]


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("health, code", [(READY, 0), (NOT_READY, 1), (None, 0)], ids=["ready", "not", "old-service"])
def test_status_says_whether_anybody_is_answered(
    tmp_path: Path, health: dict[str, Any] | None, code: int, as_json: bool
) -> None:
    status = STATUS if health is None else STATUS | {"health": health}
    with answering(tmp_path, reply(ok=True, result=status)) as (path, _seen):
        ran = bootstorm("ctl", "--socket", path, "status", *(["--json"] if as_json else []))
    assert (ran.exit_code, ran.stderr) == (code, f"bootstorm: not ready: {REASON}\n" if code else "")
    assert json.loads(ran.stdout) == status if as_json else ("NOT READY" in ran.stdout) == bool(code)


def test_quiet_prints_nothing_whatever_it_is(tmp_path: Path) -> None:
    for health, code in ((READY, 0), (NOT_READY, 1)):
        with saying(tmp_path, ("status", STATUS | {"health": health})) as path:
            ran = bootstorm("ctl", "status", "--quiet", "--socket", path)
        assert (ran.exit_code, ran.stdout, ran.stderr) == (code, "", "")
        Path(path).unlink()
    ran = bootstorm("ctl", "status", "--quiet", "--socket", path)
    assert (ran.exit_code, ran.stdout, ran.stderr) == (1, "", ""), "nobody there"


def test_status_waits_until_somebody_is_answered(tmp_path: Path) -> None:
    ready = STATUS | {"health": READY}
    with saying(tmp_path, ("health", NOT_READY), ("health", NOT_READY), ("health", READY), ("status", ready)) as path:
        ran = bootstorm("ctl", "status", "--wait", "60", "--socket", path)
    assert (ran.exit_code, ran.stderr) == (0, "") and "inventory   ok" in ran.stdout


def test_status_waits_for_a_service_that_is_started_meanwhile(tmp_path: Path) -> None:
    service = saying(tmp_path, ("health", READY), ("status", STATUS | {"health": READY}))
    coming = threading.Timer(0.3, service.__enter__)
    coming.start()
    ran = bootstorm("ctl", "status", "--wait", "60", "--socket", str(tmp_path / "control.sock"))
    coming.join()
    service.__exit__(None, None, None)
    assert ran.exit_code == 0


def test_who_has_waited_in_vain_is_told_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    ran = bootstorm("ctl", "status", "--wait", "1", "--socket", str(path))
    assert ran.exit_code == 1 and ran.stderr.startswith(f"bootstorm: control socket {path}: No such file")


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_refresh_of_whom_nobody_knows(tmp_path: Path, as_json: bool) -> None:
    figures = FIGURES | {"added": 0, "changed": 0, "removed": 0, "missing": ["nope"]}
    with answering(tmp_path, reply(ok=True, result=figures)) as (path, _seen):
        ran = bootstorm("ctl", "--socket", path, "refresh", "--host", "nope", *(["--json"] if as_json else []))
    assert ran.exit_code == 1
    assert ran.stderr.startswith("bootstorm: NOT FOUND: nope is neither in the inventory nor in the table; ")
    assert json.loads(ran.stdout) == figures if as_json else ran.stdout.startswith("generation 12: ")


def test_a_kind_of_difference_that_does_not_exist(tmp_path: Path) -> None:
    with answering(tmp_path, reply(ok=True, result=OBSERVED)) as (path, _seen):
        ran = bootstorm("ctl", "--socket", path, "observed", "--kind", "nonsense")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr.startswith("bootstorm: observed: --kind: found 'nonsense', wanted one of address, message, ")
    assert ran.stderr.endswith(", lease time, option 6 dns_servers\n")


@pytest.mark.parametrize("kind", ["silence", "option 6 dns_servers"])
def test_a_kind_of_difference_that_nobody_shows(tmp_path: Path, kind: str) -> None:
    with answering(tmp_path, reply(ok=True, result=OBSERVED)) as (path, _seen):
        ran = bootstorm("ctl", "--socket", path, "observed", "--kind", kind)
    assert ran.exit_code == 0 and ran.stdout.startswith("seen ")


# --- where options may stand -----------------------------------------------------------------------------------------


def orders(path: str, conf: Path) -> list[Sequence[str]]:
    return [
        ("--json", "--socket", path, "workers"), ("--json", "workers", "--socket", path),
        ("workers", "--json", "--socket", path), ("--socket", path, "workers", "--json"),
        ("-c", str(conf), "workers", "--json"), ("workers", "--json", "-c", str(conf)),
        ("--socket", "/nowhere", "workers", "--json", "-c", str(conf)),
        ("-c", "/nowhere", "--json", "workers", "--socket", path),
        ("-c", "/nowhere", "--socket", "/nowhere", "workers", "--json", "--socket", path),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(9))
def test_options_stand_before_the_command_or_behind_it(tmp_path: Path, number: int) -> None:
    conf = tmp_path / "services.conf"
    conf.write_text(json.dumps({"dhcp": {"state_dir": str(tmp_path)}}))
    with saying(tmp_path, ("workers", [WORKER])) as path:
        ran = bootstorm("ctl", *orders(path, conf)[number])
    assert (ran.exit_code, ran.stderr, json.loads(ran.stdout)) == (0, "", [WORKER])


def test_every_command_of_ctl_takes_them() -> None:
    assert len(ctl.commands) > 15
    for name, command in ctl.commands.items():
        options = [option for parameter in command.params for option in parameter.opts]
        assert isinstance(command, CtlCommand) and {"--json", "--socket", "-c", "--config"} <= set(options), name
        assert len(options) == len(set(options)), name


def commands_below(command: click.Command, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands_below(each, *words, name)


def test_help_needs_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from control.cli.command_line import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = 0
    for words, command in commands_below(main):
        if command.name == "bench":
            continue  # another program's
        ran = bootstorm(*words, "--help")
        assert (ran.exit_code, ran.stderr) == (0, "") and "Usage:" in ran.stdout, words
        seen += "Examples:" in ran.stdout
    assert seen > 15


def test_what_has_to_be_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    if Path("/etc/clusto/services.conf").exists():
        pytest.skip("this machine has a services.conf of its own")
    ran = bootstorm("ctl", "status")
    assert ran.exit_code == 2 and "`bootstorm init` writes one" in ran.stderr
