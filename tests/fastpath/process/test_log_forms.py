"""fastpath/process/log_forms.py, journald.py: text as ever, JSON a line, entries of the journal with fields; a journal
that is full or not there costs nobody time."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fastpath.process.journald import PATH_VARIABLE
from fastpath.process.log_forms import FORMS, Form, JsonForm, StreamForm, about, journal_entry, made, priority

ROOT = Path(__file__).resolve().parents[3]
SOON_S = 30.0
NASTY = 'a\x1b[31m"\n2026-01-01 bootstorm.refresh: forged\u202e\u2028'
SHOWN = 'a\\x1b[31m"\\n2026-01-01 bootstorm.refresh: forged\\u202e\\u2028'


def fields(datagram: bytes) -> dict[str, str]:
    """As journald reads an entry."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert name.decode() not in found
        found[name.decode()] = value.decode()
        datagram = rest
    return found


def record(level: int = logging.WARNING, message: str = "host is odd", **known: str) -> logging.LogRecord:
    said = made("bootstorm.dhcp", level, message)
    said.__dict__.update(about(**known))
    return said


def failing() -> logging.LogRecord:
    try:
        raise ValueError(NASTY)
    except ValueError:
        return logging.LogRecord("bootstorm.x", logging.ERROR, "", 0, "it failed", None, sys.exc_info())


# --- forms -----------------------------------------------------------------------------------------------------------


def test_text_is_as_it_ever_was() -> None:
    """Level and fields have no place in it."""
    line = Form().format(record(mac="02:00:00:00:00:01", host="node7", verdict="NAKED"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} bootstorm\.dhcp: host is odd", line)
    assert Form().bare("as it is") == "as it is"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d bootstorm\.logs: 3 lines lost", Form().own("3 lines lost"))


def test_a_line_of_json_has_level_and_fields() -> None:
    said = record(mac="02:00:00:00:00:01", host=NASTY, relay="10.9.0.1")
    said.created = 1_764_403_923.0625
    line = JsonForm().format(said)
    assert line.isascii() and "\n" not in line
    assert json.loads(line) == {
        "time": "2025-11-29T08:12:03.062Z", "level": "warning", "logger": "bootstorm.dhcp", "message": "host is odd",
        "mac": "02:00:00:00:00:01", "host": NASTY, "relay": "10.9.0.1",
    }  # fmt: skip
    assert json.loads(JsonForm().format(record(message=NASTY)))["message"] == SHOWN, "the sentence is the text's"


def test_a_traceback_in_json_is_one_line_with_it() -> None:
    said = json.loads(JsonForm().format(failing()))
    assert said["level"] == "error" and said["message"] == "it failed"
    assert said["traceback"].startswith("Traceback (most recent call last):\n") and "ValueError" in said["traceback"]


@pytest.mark.parametrize("form", FORMS.values())
def test_what_is_not_logged_and_lines_about_lines_have_the_form_too(form: type[Form]) -> None:
    lines = [form().bare("oops"), form().own("3 lines lost")]
    if form is JsonForm:
        assert [(json.loads(line)["level"], json.loads(line)["message"]) for line in lines] == [
            ("error", "oops"), ("warning", "3 lines lost"),
        ]  # fmt: skip
    else:
        assert lines[0] == "oops" and lines[1].endswith("bootstorm.logs: 3 lines lost")


@pytest.mark.parametrize(
    "level, want",
    [(logging.CRITICAL, 3), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_levels_are_syslog_s_priorities(level: int, want: int) -> None:
    assert priority(level) == want
    assert fields(journal_entry(record(level)))["PRIORITY"] == str(want)
    assert StreamForm().format(record(level)) == f"<{want}>bootstorm.dhcp: host is odd"


def test_an_entry_of_the_journal() -> None:
    said = record(message=NASTY, mac="02:00:00:00:00:01", host=NASTY, verdict="NAKED", relay="10.9.0.1")
    assert fields(journal_entry(said)) == {
        "MESSAGE": f"bootstorm.dhcp: {SHOWN}", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "bootstorm",
        "LOGGER": "bootstorm.dhcp", "MAC": "02:00:00:00:00:01", "HOST": SHOWN, "VERDICT": "NAKED", "RELAY": "10.9.0.1",
    }  # fmt: skip
    assert set(fields(journal_entry(record()))) == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "LOGGER"}


def test_an_entry_with_a_traceback() -> None:
    first, *others = fields(journal_entry(failing()))["MESSAGE"].split("\n")
    assert first == "bootstorm.x: it failed" and len(others) > 2 and all(line.startswith("  | ") for line in others)
    lines = StreamForm().format(failing()).split("\n")
    assert lines[0] == "<3>bootstorm.x: it failed" and all(line.startswith("<3>  | ") for line in lines[1:])


# --- processes -------------------------------------------------------------------------------------------------------

CODE = "import logging, os, sys\nfrom fastpath.process import logs\nfrom fastpath.process.log_forms import about\n"
CODE += "stat = os.fstat(2)\nif 'AS' in os.environ: os.environ['JOURNAL_STREAM'] = os.environ['AS'] % stat[1:3][::-1]\n"
CODE += "logs.configure_logging()\nlog = logging.getLogger('bootstorm.test')\n"
MATCHING, OTHER = "%d:%d", "%d:1%d"


def run(code: str, **environment: Any) -> str:
    """What a process writes to standard error; it ends well, and soon."""
    environ = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    environ |= {name: str(value) for name, value in environment.items()}
    argv = [sys.executable, "-c", f"{CODE}{code}\nlogs._writer.flush(30)"]  # however slowly this process reads
    done = subprocess.run(argv, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextmanager
def journal(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "journal"))
        sock.settimeout(SOON_S)
        yield sock


def entries(sock: socket.socket) -> list[dict[str, str]]:
    """Those that wait."""
    sock.setblocking(False)
    found = []
    try:
        while True:
            found.append(fields(sock.recv(1 << 18)))
    except BlockingIOError:
        return found


def test_where_standard_error_leads_to_the_journal_it_gets_entries_and_nothing_else(tmp_path: Path) -> None:
    with journal(tmp_path) as sock:
        said = run(
            "log.warning('%s is odd', 'node7', extra=about(mac='02:00:00:00:00:01', host='node7'))\nlog.info('on')",
            AS=MATCHING,
            **{PATH_VARIABLE: tmp_path / "journal"},
        )
        first, second = entries(sock)
    assert said == "", "no line twice"
    assert first["MESSAGE"] == "bootstorm.test: node7 is odd", "journald keeps the time"
    assert (first["PRIORITY"], first["MAC"], first["HOST"], second["PRIORITY"]) == (
        "4",
        "02:00:00:00:00:01",
        "node7",
        "6",
    )


@pytest.mark.parametrize("leads", [{"AS": OTHER}, {"JOURNAL_STREAM": ""}, {"JOURNAL_STREAM": "x"}, {}])
def test_elsewhere_there_are_lines(tmp_path: Path, leads: dict[str, str]) -> None:
    """JOURNAL_STREAM is also there for a process whose standard error was led away."""
    with journal(tmp_path) as sock:
        said = run("log.warning('odd', extra=about(mac='m'))", **leads, **{PATH_VARIABLE: tmp_path / "journal"})
        assert not entries(sock)
    assert re.fullmatch(r"[-0-9]{10} [:,0-9]{12} bootstorm\.test: odd\n", said)


LOTS = "for number in range(2000): log.warning('line %d', number)\n"
LOTS += "sys.stderr.write('past logging\\n')\nprint(logs.journal_missed(), logs.lines_lost(), file=sys.stderr)"


def test_a_journal_that_is_not_there_costs_no_message(tmp_path: Path) -> None:
    started = time.monotonic()
    said = run(LOTS, AS=MATCHING, **{PATH_VARIABLE: tmp_path / "nothing"}).splitlines()
    assert time.monotonic() - started < SOON_S
    assert said[:2000] == [f"<4>bootstorm.test: line {number}" for number in range(2000)]
    assert said[2000:] == ["<3>past logging", "<3>2000 0"]


def test_a_full_journal_is_not_waited_for_and_what_it_missed_is_counted_and_told(tmp_path: Path) -> None:
    """What it does not take goes to standard error; nothing is said twice, nothing is lost."""
    with journal(tmp_path) as sock:
        held = f"import socket\n{LOTS}\nsys.stderr.write('full\\n')\nsys.stdin.readline()\nlog.info('and on')"
        environ = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
        environ |= {"AS": MATCHING, PATH_VARIABLE: str(tmp_path / "journal")}
        argv = [sys.executable, "-c", CODE + held]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, env=environ, cwd=ROOT, stdin=pipe, stderr=pipe, text=True) as process:
            assert process.stdin is not None and process.stderr is not None
            lines = []
            while (line := process.stderr.readline()) and line != "<3>full\n":
                lines.append(line.rstrip("\n"))
            taken = entries(sock)
            missed, lost = map(int, lines[-1].removeprefix("<3>").split())
            process.stdin.write("on\n")
            process.stdin.flush()
            assert process.wait(SOON_S) == 0
        last = entries(sock)
    fallen = [line for line in lines if line.startswith("<4>")]
    assert 0 < missed < 2000 and lost == 0 and len(fallen) == missed
    said = [entry["MESSAGE"] for entry in taken] + [line.removeprefix("<4>") for line in fallen]
    assert sorted(said) == sorted(f"bootstorm.test: line {number}" for number in range(2000))
    words = f"{missed} messages went to standard error: the journal's socket took none of them"
    assert [entry["MESSAGE"] for entry in last] == ["bootstorm.test: and on", f"bootstorm.logs: {words}"]


def test_a_message_that_is_too_long_for_a_datagram_goes_to_standard_error(tmp_path: Path) -> None:
    code = "import socket\nlogs._handler.journal.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)\n"
    code += "log.warning('x' * 100_000)\nprint(logs.journal_missed(), file=sys.stderr)"
    with journal(tmp_path) as sock:
        said = run(code, AS=MATCHING, **{PATH_VARIABLE: tmp_path / "journal"}).splitlines()
        assert not entries(sock)
    assert said[0].startswith("<4>bootstorm.test: xxx") and len(said[0]) > 100_000 and said[1:] == ["<3>1"]


def test_a_process_that_leaves_the_journal(tmp_path: Path) -> None:
    """A trial of new code that is to be quiet: its standard error leads nowhere."""
    code = "log.info('here')\nos.dup2(os.open('/dev/null', os.O_WRONLY), 2)\nlogs.leave_journal()\nlog.info('nowhere')"
    with journal(tmp_path) as sock:
        assert run(code, AS=MATCHING, **{PATH_VARIABLE: tmp_path / "journal"}) == ""
        assert [entry["MESSAGE"] for entry in entries(sock)] == ["bootstorm.test: here"]


def test_every_line_of_a_process_is_json_where_that_is_wanted() -> None:
    """Also those of a process that this one starts, a library's words, and a traceback at the end."""
    code = "logs.choose_form('json')\nlog.warning('odd', extra=about(relay='10.9.0.1'))\nsys.stderr.write('half ')\n"
    code += "sys.stderr.flush()\nsys.stderr.write('past logging\\n')\n"
    code += "import subprocess\nchild = 'import logging; from fastpath.process import logs; logs.configure_logging()'\n"
    code += "subprocess.run([sys.executable, '-c', child + '; logging.error(3)'], check=True)\n"
    code += "try: 1 / 0\nexcept ZeroDivisionError: sys.excepthook(*sys.exc_info())"
    lines = [json.loads(line) for line in run(code).splitlines()]
    said = [(line["logger"], line["level"], line["message"]) for line in lines]
    assert ("bootstorm.test", "warning", "odd") in said and lines[0]["relay"] == "10.9.0.1"
    assert ("stderr", "error", "past logging") in said and ("root", "error", "3") in said
    assert said[-1] == ("stderr", "error", "ZeroDivisionError: division by zero")
    assert all(datetime.fromisoformat(line["time"]).tzinfo == UTC for line in lines)


def test_the_journal_gets_entries_whatever_log_format_says(tmp_path: Path) -> None:
    with journal(tmp_path) as sock:
        code = "logs.choose_form('json')\nlog.info('on')"
        assert run(code, AS=MATCHING, **{PATH_VARIABLE: tmp_path / "journal"}) == ""
        assert [entry["MESSAGE"] for entry in entries(sock)] == ["bootstorm.test: on"]
