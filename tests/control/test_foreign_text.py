"""fastpath/process/escape.py, and where text leaves: no name and no vendor class paints, hides or forges a line."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from control.cli import ctl
from control.cli.ctl import RENDER, CallFailed, Client
from fastpath.process.escape import LineFormatter, shown, shown_all
from tests.control.cli import test_ctl
from tests.control.serving import may_serve, serving
from tests.ext.packets import discover, tlv

NASTY = "n\x1b[2J\x1b]0;x\x07\n2026-01-01 bootstorm.refresh: forged\r\t\x9b31m\u202egnp\u2066\u200b\u2028\x7f\ud800"
_TURNED = "\\u202egnp\\u2066\\u200b\\u2028\\x7f\\ud800"
SAID = f"n\\x1b[2J\\x1b]0;x\\x07\\n2026-01-01 bootstorm.refresh: forged\\r\\t\\x9b31m{_TURNED}"
STYLE = re.compile(r"\x1b\[[0-9;]*m")  # what click.style writes, and takes off where nobody sees colours


def harmful(text: str) -> set[str]:
    """Characters that a terminal obeys, or that hide or turn what stands beside them."""
    return {each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}


@pytest.mark.parametrize(
    "text, want",
    [
        (NASTY, SAID),
        ("node-7.example", "node-7.example"),
        ("Büro 3, 東京, \\Boot\\x64", "Büro 3, 東京, \\Boot\\x64"),
        ("\xa0\U000e0001\ufeff", "\\xa0\\U000e0001\\ufeff"),
        ("", ""),
    ],
)
def test_shown(text: str, want: str) -> None:
    assert shown(text) == want


@given(st.text())
def test_what_is_shown_harms_nobody_and_is_shown_once(text: str) -> None:
    once = shown(text)
    assert not harmful(once) and once.isprintable() and shown(once) == once
    assert len(shown(text, 10)) < 10 * 10 + 30


def test_a_whole_value() -> None:
    found = shown_all({NASTY: [NASTY, 1, None, (NASTY, b"\x1b")], "a": {"b": NASTY}})
    assert found == {SAID: [SAID, 1, None, (SAID, b"\x1b")], "a": {"b": SAID}}


def logged(say: Any) -> list[str]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(asctime)s %(name)s: %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    say(logger)
    return stream.getvalue().splitlines()


def test_a_message_of_the_log_is_one_line() -> None:
    (line,) = logged(lambda logger: logger.warning("host %s is odd", NASTY))
    assert line.endswith(f"test: host {SAID} is odd")
    assert not harmful(line)


def test_the_text_of_an_exception_cannot_pass_for_a_message() -> None:
    def say(logger: logging.Logger) -> None:
        try:
            raise ValueError(NASTY.replace("\ud800", ""))
        except ValueError:
            logger.exception("it failed: %s", "why\n")

    first, *others = logged(say)
    assert first.endswith("test: it failed: why\\n")
    assert len(others) > 3 and all(line.startswith("  | ") for line in others)
    assert not any(harmful(line) for line in others)


# --- everything that ctl prints --------------------------------------------------------------------------------------


def soiled(value: Any, kept: tuple[str, ...] = ()) -> Any:
    """A result with the nasty text behind each of its texts, but those that are words of ours."""
    if isinstance(value, str):
        return value + NASTY
    if isinstance(value, dict):
        return {name: each if name in kept else soiled(each, kept) for name, each in value.items()}
    if isinstance(value, list):
        return [soiled(each, kept) for each in value]
    return value


ANSWERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "status": (
        test_ctl.STATUS
        | {
            "faults": {NASTY: [NASTY]}, "faults_total": 1, "doubts": [NASTY], "inventory_reason": NASTY,
            "identities": {"seen": 2, "cloned": 1, "loops": 0, "clones": [test_ctl.CLONE]},
            "other_servers": {NASTY: {"requests": 3, "host": "a", "place": "eth0"}}, "send_errors": {NASTY: 1},
            "refresh": {"stage": "members", "done": 3, "total": 9}, "counters": {NASTY: 5},
        },
        ("inventory", "state"),
    ),
    "lookup": (test_ctl.LOOKUP | {"seen": [test_ctl.SEEN]}, ("role",)),
    "diff": (test_ctl.DIFF, ()),
    "refresh": (test_ctl.FIGURES, ()),
    "rollback": (test_ctl.FIGURES, ()),
    "workers": ([test_ctl.WORKER], ()),
    "recent": ([test_ctl.RECENT | {"vendor_class": "x", "host": "y", "detail": "z"}], ("message", "verdict")),
}  # fmt: skip


class Answering(Client):
    """A client whose service says what a test wants."""

    def __init__(self, answer: Any, as_json: bool) -> None:
        super().__init__("/nowhere", as_json)
        self.answer = answer

    def call(self, command: str, arguments: dict[str, Any], on_progress: Any = None) -> Any:
        if isinstance(self.answer, CallFailed):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("command", ANSWERS)
def test_what_ctl_prints_of_an_answer(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = soiled(*ANSWERS[command])
    Answering(answer, as_json=False).show(command, {})
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if harmful(STYLE.sub("", line))]
    assert command in ("refresh", "rollback", "workers") or any(SAID in line for line in lines)
    Answering(answer, as_json=True).show(command, {})
    text = capsys.readouterr().out
    assert json.loads(text) == answer and not harmful(text.replace("\n", ""))


def test_what_ctl_prints_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Answering(CallFailed(f"lookup: {NASTY}"), as_json=False).show("lookup", {})
    assert capsys.readouterr().err == f"bootstorm: lookup: {SAID}\n"


def test_every_answer_of_ctl_goes_through_one_place() -> None:
    """What prints an answer is print_answer(), or an error line; the rest only makes texts."""
    source = Path(ctl.__file__).read_text()
    assert set(re.findall(r"click\.echo\((.*)\)\n", source)) == {
        'f"bootstorm: {shown(fault)}", err=True', 'f"bootstorm: {shown(str(failed))}", err=True',
        "shown(said), err=True",
        "json.dumps(result, indent=2)", '"\\n".join(RENDER[command](shown_all(result)))',
    }  # fmt: skip
    assert set(RENDER) >= set(ANSWERS)


# --- a running service -----------------------------------------------------------------------------------------------


def test_a_service_with_nasty_names(tmp_path: Path) -> None:
    """Names of the inventory, a client's vendor class, a person's arguments; log, ctl and explain."""
    may_serve()
    hosts = tmp_path / "hosts.yaml"
    name = NASTY.replace("\ud800", "")
    hosts.write_text(
        json.dumps(
            {
                "networks": [{"base": "10.1.0.0", "mask": "255.255.255.0", "gateway": "10.1.0.1"}],
                "pools": [{"name": "p", "dhcp": {"enabled": 1, "tftp_filename": "boot\x1b[31m\u202e"}}],
                "hosts": [
                    {"name": "h1", "mac": "02:00:00:00:00:01", "addresses": ["10.1.0.11"], "pool": "p"},
                    {"name": name, "mac": "02:00:00:00:00:02", "addresses": ["10.1.0.12"], "pool": "p"},
                    {"name": f"x{name}", "mac": "02:00:00:00:00:03", "addresses": ["10.9.0.12"], "pool": "p"},
                ],
            }
        )
    )
    with serving(tmp_path, f"file://{hosts}", interfaces=[]) as running:
        running.wait_for(r"generation 1: ")
        config = json.loads((tmp_path / "services.conf").read_text())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for mac in (0x020000000001, 0x020000000003, 0x0200000000FF):
                payload = discover(mac, options=tlv(60, b"v\x1b[2J\n\xe2\x80\xae\x9b"))
                client.sendto(payload, ("127.0.0.1", config["dhcp"]["port"]))
        running.wait_for(r"02:00:00:00:00:ff")
        commands = [
            ["status"], ["lookup", "02:00:00:00:00:02"], ["lookup", name], ["recent"], ["recent", "--packets"],
            ["explain", "02:00:00:00:00:02"], ["explain", name], ["diff"], ["workers"], ["discovered"],
            ["discovered", "--mac", name], ["refresh", "--host", name], ["refresh", "--mac", name], ["adopt", name],
            ["ignore", name], ["rollback"], ["observed"], ["events"], ["events", "--json"],
        ]  # fmt: skip
        ctl_argv = [sys.executable, "-P", "-m", "control", "ctl", "--socket", str(tmp_path / "control.sock")]
        for words in commands:
            done = subprocess.run([*ctl_argv, *words], capture_output=True, text=True, timeout=120, check=False)
            lines = (done.stdout + done.stderr).splitlines()
            assert lines and not [line for line in lines if harmful(line)], words
        argv = [
            sys.executable,
            "-P",
            "-m",
            "control",
            "ctl",
            "--socket",
            str(tmp_path / "control.sock"),
            "--json",
            "status",
        ]
        json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout)
    assert not [line for line in running.lines if harmful(line)]
    assert all(re.match(r"\d{4}-\d\d-\d\d |  \| |it has ended", line) for line in running.lines)
    assert not [line for line in running.lines if line.startswith("2026-01-01 bootstorm.refresh: forged")]


def test_explain_of_a_file(tmp_path: Path) -> None:
    from control.cli.command_line import main

    hosts = tmp_path / "hosts.yaml"
    hosts.write_text(
        json.dumps(
            {
                "networks": [{"base": "10.1.0.0", "mask": "255.255.255.0", "gateway": "10.1.0.1"}],
                "pools": [{"name": f"p{NASTY[:-1]}", "dhcp": {"enabled": 1, "tftp_filename": "boot\x1b[31m"}}],
                "hosts": [
                    {"name": f"h{NASTY[:-1]}", "mac": "02:00:00:00:00:01", "addresses": ["10.1.0.11"],
                     "pool": f"p{NASTY[:-1]}"},
                ],
            }
        )
    )  # fmt: skip
    for subject in ("02:00:00:00:00:01", "no\x1b[31msubject"):
        done = CliRunner().invoke(main, ["explain", "--hosts", str(hosts), subject])
        assert done.output and not [line for line in done.output.splitlines() if harmful(line)], done.output
