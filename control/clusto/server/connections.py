"""waitress with limits on what a client may do slowly: send a request, take an answer, keep a place when all are taken.

waitress closes a connection on which nothing happens; one byte a minute is something.  It answers what is pipelined
whether anybody takes the answers or not.
"""

import logging
import time
from typing import Any, Final

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

log = logging.getLogger("bootstorm.inventory")

REQUEST_S: Final = 20.0  # for a request to be complete, and 1 s more for each REQUEST_BYTES_PER_S that came
REQUEST_BYTES_PER_S: Final = 32 * 1024
TAKE_S: Final = 60.0  # in which a client has to take TAKE_BYTES_PER_S of its answer
TAKE_BYTES_PER_S: Final = 4 * 1024
PIPELINED_MAX: Final = 16  # requests that wait on one connection; 8 KiB, which are read at once, hold 450
CROWDED_S: Final = 2.0  # when all places are taken: so long one may be kept without a complete request
LOOK_EVERY_S: Final = 5.0
TELL_EVERY_S: Final = 60.0


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    begun_s = 0.0  # when the request that is incomplete began to come
    came = 0
    left: tuple[float, int] | None = None  # when somebody looked, bytes of the answer that were not taken then
    held = False  # its next request waits until the answer before is taken

    def received(self, data: bytes) -> Any:
        before = self.request
        answer = super().received(data)
        if self.request is not before:
            self.begun_s, self.came = time.time(), 0
        self.came += len(data)
        with self.requests_lock:
            self.cut()
        return answer

    def cut(self) -> None:
        """Who pipelines more is answered so many and told that the connection ends there (RFC 9112, 9.3.2)."""
        if len(self.requests) > PIPELINED_MAX:
            for request in self.requests[PIPELINED_MAX:]:
                request.close()
            del self.requests[PIPELINED_MAX:]
            self.requests[-1].headers["CONNECTION"] = "close"

    def holds(self) -> bool:
        """Whether the next request has to wait: one answer at most is kept for each connection."""
        with self.outbuf_lock:
            self.held = bool(self.connected and self.total_outbufs_len)
            return self.held

    def handle_write(self) -> None:
        super().handle_write()
        with self.outbuf_lock:
            released = self.held and not self.total_outbufs_len
            self.held = self.held and not released
        if released and self.connected:
            self.server.add_task(self)

    def is_slow(self, now_s: float) -> bool:
        if self.total_outbufs_len:
            return self.takes_slowly(now_s)
        self.left = None
        return (
            not self.requests
            and self.request is not None
            and now_s - self.begun_s > REQUEST_S + self.came / REQUEST_BYTES_PER_S
        )

    def takes_slowly(self, now_s: float) -> bool:
        left = int(self.total_outbufs_len)
        if self.left is None or self.left[1] < left:
            self.left = now_s, left
        since_s, before = self.left
        if now_s - since_s < TAKE_S:
            return False
        self.left = now_s, left
        return before - left < TAKE_BYTES_PER_S * (now_s - since_s)

    def is_of_no_use(self, now_s: float) -> bool:
        """Idle, or not done with its request."""
        since_s = self.begun_s if self.request is not None else self.last_activity
        return not self.requests and not self.total_outbufs_len and now_s - since_s > CROWDED_S


class Server(TcpWSGIServer):  # type: ignore[misc]
    """closed: connections that were closed for being slow, and to make room."""

    channel_class = Channel

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self.closed = {"slow": 0, "crowded": 0}
        self.told, self.told_s = 0, 0.0
        super().__init__(*arguments, **more)

    def add_task(self, task: Any) -> None:
        if not task.holds():
            super().add_task(task)

    def readable(self) -> Any:
        now_s = time.time()
        if len(self._map) >= self.adj.connection_limit:
            self.close_those("crowded", [each for each in self.active_channels.values() if each.is_of_no_use(now_s)])
        return super().readable()

    def maintenance(self, now: float) -> None:
        super().maintenance(now)
        self.close_those("slow", [each for each in self.active_channels.values() if each.is_slow(now)])
        total = sum(self.closed.values())
        if total > self.told and now - self.told_s > TELL_EVERY_S:
            log.warning(
                "inventory: closed %d connections: since the start %d that were slow, %d to make room",
                total - self.told, self.closed["slow"], self.closed["crowded"],
            )  # fmt: skip
            self.told, self.told_s = total, now

    def close_those(self, why: str, channels: list[Any]) -> None:
        for channel in channels:
            if not channel.will_close:
                channel.will_close = True
                self.closed[why] += 1


def create(app: Any, threads: int, **settings: Any) -> Server:
    """As waitress.server.create_server; where a name has several addresses, all of them are served together."""
    adjustments = Adjustments(threads=threads, cleanup_interval=LOOK_EVERY_S, asyncore_use_poll=True, **settings)
    dispatcher = ThreadedTaskDispatcher()
    dispatcher.set_thread_count(threads)
    sockets: dict[int, Any] = {}
    try:
        servers = [
            Server(app, sockets, dispatcher=dispatcher, adj=adjustments, sockinfo=sockinfo)
            for sockinfo in adjustments.listen
        ]
    except OSError:
        dispatcher.shutdown()
        raise
    return servers[-1]
