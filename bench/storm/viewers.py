"""Who looks at the board while machines boot: a board of a service, pages that are kept live, and what that costs.

As a program it is those pages: `python -m bench.storm.viewers PORT COUNT` reads until SIGTERM, and says how much came.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.lab.site import BOOTSTORM, ENVIRONMENT, RunningSite

NOBODY = "nobody"  # root may do more than a board should
START_S = 60.0
KINDS = ("pool", "rack", "relay")
TICKS = os.sysconf("SC_CLK_TCK")


def readers() -> dict[str, Any]:
    """Keys of section `control` by which a board of ours may read."""
    return {"read_uids": [pwd.getpwnam(NOBODY).pw_uid]} if os.geteuid() == 0 else {}


@dataclass(slots=True)
class Looking:
    """viewers: pages that are kept live; updates: that came to all of them; fewest: to one; board_s, control_s: of CPU,
    in `seconds`."""

    viewers: int
    seconds: float = 0.0
    updates: int = 0
    fewest: int = 0
    board_s: float = 0.0
    control_s: float = 0.0

    def record(self) -> dict[str, Any]:
        share = (self.board_s + self.control_s) / self.seconds if self.seconds else 0.0
        return {
            "viewers": self.viewers, "seconds": round(self.seconds, 1), "updates": self.updates, "fewest": self.fewest,
            "board_cpu_s": round(self.board_s, 2), "control_cpu_s": round(self.control_s, 2),
            "of_a_core": round(share, 4),
        }  # fmt: skip

    def line(self) -> str:
        said = self.record()
        return (
            f"{self.viewers} viewers of the board, {self.updates:,} updates (fewest {self.fewest}) in "
            f"{said['seconds']} s: board {said['board_cpu_s']} s and control {said['control_cpu_s']} s of CPU, "
            f"{said['of_a_core']:.1%} of a core"
        )


@contextlib.contextmanager
def looked_at(service: RunningSite, viewers: int) -> Iterator[Looking]:
    """While the block runs; the figures are whole behind it.  Raises OSError, RuntimeError."""
    found = Looking(viewers)
    if not viewers:
        yield found
        return
    with contextlib.ExitStack() as stack:
        port = free_port()
        board = stack.enter_context(running([*BOOTSTORM, "board", "-c", str(board_conf(service, port))]))
        await_line(board, "the board is at")
        pages = stack.enter_context(running([sys.executable, "-m", "bench.storm.viewers", str(port), str(viewers)]))
        await_line(pages, "all look")
        control = next(pid for pid, words in service.processes() if words[-2] == "run")
        began, before = time.monotonic(), (cpu_s(board.pid), cpu_s(control))
        yield found
        found.seconds = time.monotonic() - began
        found.board_s, found.control_s = cpu_s(board.pid) - before[0], cpu_s(control) - before[1]
        pages.send_signal(signal.SIGTERM)
        said = json.loads(await_line(pages, "["))
        found.updates, found.fewest = sum(said), min(said)


def board_conf(service: RunningSite, port: int) -> Path:
    path = service.config.with_name("board.conf")
    sections = json.loads(service.config.read_text())
    user = {"user": NOBODY} if os.geteuid() == 0 else {}
    path.write_text(json.dumps(sections | {"board": {"bind": f"127.0.0.1:{port}", **user}}))
    path.chmod(0o644)
    return path


@contextlib.contextmanager
def running(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | ENVIRONMENT
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def await_line(process: subprocess.Popen[str], piece: str) -> str:
    """The first line that has it; RuntimeError where the process ends before."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        if piece in line:
            return line
        said.append(line)
    raise RuntimeError(f"{process.args!r} ended without {piece!r}: {''.join(said[-20:])}")


def cpu_s(pid: int) -> float:
    """That a process has used.  Raises OSError."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def look(port: int, number: int, counts: list[int], is_live: asyncio.Event) -> None:
    """One page: it is loaded, and then kept live."""
    by = KINDS[number % len(KINDS)]
    for target in (f"/?by={by}", f"/live?by={by}"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        closing = "" if target.startswith("/live") else "Connection: close\r\n"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{closing}\r\n".encode())
        if closing:
            await reader.read()
            continue
        while line := await reader.readline():
            if line.startswith(b"data: "):
                counts[number] += 1
                is_live.set()
    raise RuntimeError(f"viewer {number}: the board has ended it")


async def main(port: int, viewers: int) -> None:
    counts = [0] * viewers
    live = [asyncio.Event() for _ in range(viewers)]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(look(port, number, counts, live[number])) for number in range(viewers)]
        for each in live:
            await each.wait()
        sys.stdout.write("all look\n")
        sys.stdout.flush()
        await ended.wait()
        for task in tasks:
            task.cancel()
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
