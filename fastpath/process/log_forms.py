"""What a message of the log looks like, by where it goes: lines of text, lines of JSON, entries of systemd's journal.

All say the same sentence.  Its level, and what it is about (FIELDS), have a place in JSON and in the journal alone.
"""

from __future__ import annotations

import logging
import time
import traceback
from typing import Final

from fastpath.process.escape import LineFormatter, shown

FORMAT: Final = "%(asctime)s %(name)s: %(message)s"
SENTENCE: Final = "%(name)s: %(message)s"  # where somebody else keeps the time
OWN: Final = "bootstorm.logs"  # who says what became of lines
IDENTIFIER: Final = "bootstorm"
FIELDS: Final = ("mac", "host", "verdict", "relay")
ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7  # syslog's priorities, which are the journal's


def about(
    *, mac: str | None = None, host: str | None = None, verdict: str | None = None, relay: str | None = None
) -> dict[str, dict[str, str]]:
    """For `extra` of a message: what it is about, as far as that is known."""
    said = {"mac": mac, "host": host, "verdict": verdict, "relay": relay}
    return {"about": {name: value for name, value in said.items() if value}}


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """What about() has said."""
    said: dict[str, str] = getattr(record, "about", {})
    return said


def priority(level: int) -> int:
    """Of a level of logging's."""
    if level >= logging.ERROR:
        return ERROR
    if level >= logging.WARNING:
        return WARNING
    return INFO if level >= logging.INFO else DEBUG


class Form(LineFormatter):
    """Text, as people read it."""

    whole_lines = False  # what somebody writes without an end of line waits until there is one

    def __init__(self, fmt: str = FORMAT) -> None:
        super().__init__(fmt)

    def bare(self, line: str) -> str:
        """What is written to sys.stderr past logging: tracebacks at the end of a process, a library's words."""
        return line

    def own(self, sentence: str) -> str:
        """A line about lines."""
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime())} {OWN}: {sentence}"


class JsonForm(Form):
    """One object a line, in ASCII: whatever is in a text, it is one line, and no terminal obeys it."""

    whole_lines = True

    def __init__(self) -> None:
        import json  # here: most sites do without, and later a confined worker can load nothing

        super().__init__(SENTENCE)
        self.encode = json.JSONEncoder().encode

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shown(record.getMessage()),
        }
        said |= fields_of(record)
        if record.exc_info and record.exc_info[0] is not None:
            said["traceback"] = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        return self.encode(said)

    def bare(self, line: str) -> str:
        return self.format(made("stderr", logging.ERROR, line))

    def own(self, sentence: str) -> str:
        return self.format(made(OWN, logging.WARNING, sentence))


class StreamForm(Form):
    """For standard error where it leads to the journal, which keeps the time, and reads a priority before each line
    (sd-daemon(3))."""

    whole_lines = True

    def __init__(self) -> None:
        super().__init__(SENTENCE)

    def format(self, record: logging.LogRecord) -> str:
        head = f"<{priority(record.levelno)}>"
        return "\n".join(head + line for line in super().format(record).split("\n"))

    def bare(self, line: str) -> str:
        return f"<{ERROR}>{line}"

    def own(self, sentence: str) -> str:
        return f"<{WARNING}>{OWN}: {sentence}"


FORMS: Final[dict[str, type[Form]]] = {"text": Form, "json": JsonForm}  # of log.format


def made(name: str, level: int, sentence: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, sentence, None, None)


def utc(seconds: float) -> str:
    milliseconds = int(seconds * 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03}Z"


_sentence = LineFormatter(SENTENCE)


def journal_entry(record: logging.LogRecord) -> bytes:
    """One datagram of the journal's native protocol."""
    fields = {
        "MESSAGE": _sentence.format(record),
        "PRIORITY": str(priority(record.levelno)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "LOGGER": record.name,
    }
    fields |= {name.upper(): shown(value) for name, value in fields_of(record).items()}
    return b"".join(_field(name.encode(), value.encode("utf-8", "backslashreplace")) for name, value in fields.items())


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:  # a traceback
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"
