"""How every process of the service logs: to the journal, or lines on standard error for whoever started it; never
waiting.

A reader that stands still (a full pipe, a stopped journal, a terminal with Ctrl-S) would otherwise stop whoever logs.
O_NONBLOCK is no way out: it belongs to the open file, which the shell and all other processes share.  So a thread
writes, the buffer before it is bounded, and what does not fit is counted and told when the reader goes on.
"""

from __future__ import annotations

import io
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from typing import IO, Final, NoReturn

from fastpath.process.escape import LineFormatter
from fastpath.process.journald import JournalSocket, leads_to_journal
from fastpath.process.log_forms import FORMAT, FORMS, Form, StreamForm

BUFFER_BYTES: Final = 1 << 18  # of lines that wait in a process
WRITE_BYTES: Final = select.PIPE_BUF  # a pipe takes so much whole, so that lines of several processes do not mix
FLUSH_S: Final = 0.2  # without any progress; then a process ends with what it could not say
LINE_CHARACTERS_MAX: Final = 1 << 14  # on sys.stderr; the rest counts as the next line
RETRY_S: Final = 1.0  # between two tries to start the thread, where the machine allows none
FORM_VARIABLE: Final = "BOOTSTORM_LOG_FORMAT"  # log.format, for all that this process starts


class Writer:
    """Lines on their way to a file descriptor, which the caller owns.  write() and flush() are for any thread.

    form: what they look like."""

    def __init__(self, fd: int, buffer_bytes: int = BUFFER_BYTES, form: Form | None = None) -> None:
        self.fd = fd
        self.form = form or Form()
        self.buffer_bytes = buffer_bytes
        self.lost = 0  # lines, since the process started
        self.told = 0  # of these
        self.waiting: deque[bytes] = deque()
        self.size = 0
        self.news = threading.Condition()
        self.moved_s = time.monotonic()  # when something was taken, or began to wait
        self.writing = False
        self.may_start = False
        self.tried_s = -RETRY_S
        self.thread: threading.Thread | None = None

    def begin(self) -> None:
        """From now on there may be a thread.  Before, lines wait: a thread that was started before privileges and
        system calls are given up would keep them."""
        with self.news:
            self.may_start = True
            if self.waiting:
                self.start_thread()

    def write(self, line: bytes) -> None:
        """One line or more, whole; returns at once."""
        with self.news:
            if self.size + len(line) > self.buffer_bytes:
                self.lost += max(1, line.count(b"\n"))
                return
            if not self.waiting and not self.writing:
                self.moved_s = time.monotonic()
            self.waiting.append(line)
            self.size += len(line)
            if self.thread is None and self.may_start:
                self.start_thread()
            self.news.notify_all()

    def start_thread(self) -> None:
        now = time.monotonic()
        if self.thread is not None or now < self.tried_s + RETRY_S:
            return
        self.tried_s = now
        thread = threading.Thread(target=self.run, name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the limit on processes: the next line tries again
            return
        self.thread = thread

    def run(self) -> None:
        while True:
            with self.news:
                while not self.waiting:
                    self.news.wait()
                chunk = self.take()
                self.writing = True
            taken = put(self.fd, chunk)
            with self.news:
                self.writing = False
                self.after_put(chunk, taken)
                self.news.notify_all()

    def take(self) -> bytes:
        """As many whole lines as one write takes; at least one."""
        lines: list[bytes] = []
        size = 0
        while self.waiting and (not lines or size + len(self.waiting[0]) <= WRITE_BYTES):
            lines.append(self.waiting.popleft())
            size += len(lines[-1])
        self.size -= size
        return b"".join(lines)

    def after_put(self, chunk: bytes, taken: bool) -> None:
        self.moved_s = time.monotonic()
        if not taken:
            self.lost += chunk.count(b"\n")
        elif self.lost > self.told and self.size <= self.buffer_bytes // 2:
            sentence = self.form.own(f"{self.lost - self.told} lines lost here: nobody took them") + "\n"
            self.told = self.lost
            self.waiting.append(sentence.encode())
            self.size += len(sentence)

    def flush(self, limit_s: float = FLUSH_S) -> None:
        """Until everything is written, or nothing moves for limit_s."""
        with self.news:
            self.may_start = True
            if self.waiting:
                self.start_thread()
            if self.thread is None:
                self.write_what_fits()
                return
            while self.waiting or self.writing:
                left_s = self.moved_s + limit_s - time.monotonic()
                if left_s <= 0:
                    return
                self.news.wait(left_s)

    def write_what_fits(self) -> None:
        """Without a thread, at the end of a process: for as long as the file says that it takes something."""
        taken = True
        while self.waiting and taken:
            chunk = self.take()
            taken = put(self.fd, chunk, wait=False)
            self.after_put(chunk, taken)


def put(fd: int, content: bytes, *, wait: bool = True) -> bool:
    """Write all of it, however long that takes; or only while the file says that it takes something.  False: it did
    not take all, because it is gone or full."""
    view = memoryview(content)
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    while view:
        if not wait and not poll.poll(0):
            return False
        try:
            view = view[os.write(fd, view[:WRITE_BYTES]) :]
        except BlockingIOError:  # somebody who shares it made it so
            poll.poll(None if wait else 0)
        except OSError:
            return False
    return True


class Handler(logging.Handler):
    """logging's way to the journal where there is one, and to a Writer with what that does not take."""

    def __init__(self, writer: Writer, journal: JournalSocket | None = None) -> None:
        super().__init__()
        self.writer = writer
        self.journal = journal

    def format(self, record: logging.LogRecord) -> str:
        return self.writer.form.format(record)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.journal is None or not self.journal.send(record):
                self.writer.write(encoded(self.format(record) + "\n"))
        except Exception:  # a line with the wrong arguments: logging prints the traceback, by sys.stderr
            self.handleError(record)

    def flush(self) -> None:
        self.writer.flush()


class Stream(io.TextIOBase):
    """sys.stderr by a Writer: tracebacks and what libraries say never wait either.  Gives on whole lines."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.begun = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.writer.fd

    def isatty(self) -> bool:
        return os.isatty(self.writer.fd)

    def write(self, text: str) -> int:
        with self.writer.news:
            *whole, self.begun = (self.begun + text).split("\n")
            for line in whole:
                self.writer.write(encoded(self.writer.form.bare(line) + "\n"))
            if len(self.begun) > LINE_CHARACTERS_MAX:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Nothing that waits: who prints a traceback flushes."""
        with self.writer.news:
            if self.begun:
                begun, self.begun = self.begun, ""
                form = self.writer.form
                self.writer.write(encoded(form.bare(begun) + "\n" if form.whole_lines else begun))


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


_writer: Writer | None = None
_handler: Handler | None = None


def configure_logging(*, at_once: bool = True) -> None:
    """Messages go to the journal where standard error leads there; these elsewhere, tracebacks and everything else on
    sys.stderr go by the thread from now on.

    at_once False: the thread starts with begin_writing(), when this process has given up what it does not need."""
    global _writer, _handler
    if logging.root.handlers or sys.stderr is None:
        return
    fd = sys.stderr.fileno()
    journal = JournalSocket() if leads_to_journal(fd) else None
    form = FORMS.get(os.environ.get(FORM_VARIABLE, ""), Form)() if journal is None else StreamForm()
    _writer = writer = Writer(fd, form=form)
    _handler = Handler(writer, journal)
    logging.basicConfig(level=logging.INFO, handlers=[_handler])
    stream: IO[str] = Stream(writer)  # type: ignore[assignment]
    sys.stderr = stream  # type: ignore[assignment]
    if at_once:
        writer.begin()


def choose_form(name: str) -> None:
    """log.format: of this process from now on, and of all that it starts.  The journal has a form of its own."""
    os.environ[FORM_VARIABLE] = name
    if _writer is not None and _handler is not None and _handler.journal is None:
        _writer.form = FORMS[name]()


def leave_journal() -> None:
    """From now on everything goes to standard error, wherever that leads by now."""
    if _handler is not None:
        _handler.journal = None


def log_at_once() -> None:
    """For a command that somebody waits for: lines go straight to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def begin_writing() -> None:
    if _writer is not None:
        _writer.begin()


def flush_logs() -> None:
    """Before this process ends, or becomes another one: what waits is written, if somebody reads."""
    if _writer is not None:
        _writer.flush()


def lines_lost() -> int:
    """Of this process, since it started."""
    return _writer.lost if _writer is not None else 0


def journal_missed() -> int:
    """Messages of this process that the journal's socket did not take, and that went to standard error."""
    return _handler.journal.missed if _handler is not None and _handler.journal is not None else 0


def leave(code: int = 0) -> NoReturn:
    """End the process without taking its libraries and threads down; what was logged is written, if somebody reads."""
    flush_logs()
    os._exit(code)
