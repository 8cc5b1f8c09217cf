"""One answer of a clusto-httpd at a time, with limits: on silence, on time, on size, on what it unpacks to.

requests and urllib3 have one time limit, for each recv() on its own: a server that drips a byte a minute is waited for
without end, and one that works in silence for longer is given up.  Here the socket itself waits, in slices, and tells
who watches the planner that it is waiting.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.poolmanager import PoolManager

from control.clusto.errors import InventoryDown

CONNECT_TIMEOUT_S = 5.0
FIRST_S = 120.0  # until the first byte; the real daemon makes a whole answer before it sends any of it
FIRST_PER_MEMBER_S = 0.01  # the real daemon takes 1.5 ms a member
SILENCE_S = 60.0  # between bytes
BYTES_PER_S_MIN = 32 * 1024  # a slower answer is given up: its time limit grows with what came of its body, unpacked
BULK_BYTES_MAX = 256 << 20  # unpacked; 200,000 members of a pool with their attributes
LIST_BYTES_MAX = 128 << 20  # paths of 4 million objects; three lists are read at a time
SINGLE_BYTES_MAX = 8 << 20
ERROR_BYTES_MAX = 1 << 20  # a traceback's last line is the reason
UNPACKED_PER_PACKED_MAX = 200  # JSON of an inventory is packed 20- to 60-fold; zlib can do 1000
WIRE_BYTES_MARGIN = 1 << 20  # what a head, chunk sizes and packing may add to the body; a head has some hundred bytes
WIRE_PER_BODY_MAX = 8  # chunks of one byte take 6
SMALL_BYTES = 1 << 20  # below, nobody asks how densely it is packed
SPARSE_BYTES = 1 << 20  # a smaller answer cannot be many objects
OBJECTS_BYTES_MAX = 8 * BULK_BYTES_MAX  # of what an answer may become in memory; a true one is 8 times its text
OBJECT_BYTES, VALUE_BYTES = 200, 60
SLICE_S = 0.5
TELL_EVERY_S = 0.5
BLOCK_BYTES = 1 << 16

Parameters = Mapping[str, str] | Sequence[tuple[str, str]]
Heard = Callable[[int], None]
"""Called with the bytes of the body under way, unpacked, at least every TELL_EVERY_S while it is waited for."""


class AnswerSpoiled(InventoryDown):
    """It answered, and the answer is none: cut off, no JSON, another status, too long.  Others may be good."""


def check_density(content: bytes | bytearray) -> None:
    """Raises ValueError for 256 MiB of "[],[],[]", which would be 6 GB of lists."""
    if len(content) <= SPARSE_BYTES:
        return
    objects = content.count(b"{") + content.count(b"[")
    size = OBJECT_BYTES * objects + VALUE_BYTES * content.count(b",") + 2 * len(content)
    if size > OBJECTS_BYTES_MAX:
        raise ValueError(f"{objects} lists and objects in {len(content)} bytes, too many for an inventory's answer")


class Patience:
    """How long, and how much, the request under way may take.  One for each connection.  fault: why it was given up.

    came: bytes on the wire; body: what they unpacked to.  Only the body makes progress: a sender has ways without end
    to say nothing (interim answers, trailers, empty members of gzip)."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.begin(FIRST_S, LIST_BYTES_MAX)

    def begin(self, first_s: float, bytes_max: int) -> None:
        self.first_s = first_s
        self.bytes_max = bytes_max
        self.started = self.last = self.told = time.monotonic()
        self.came = self.body = 0
        self.fault = ""

    def wait(self, sock: Any) -> None:
        """Until there is something to read.  Raises TimeoutError."""
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            self.check()
            return
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        while True:
            ready = poll.poll(SLICE_S * 1000)
            self.check()
            if ready:
                return

    def note_wire(self, count: int) -> None:
        """Raises AnswerSpoiled."""
        self.came += count
        wire_max = WIRE_BYTES_MARGIN + min(WIRE_PER_BODY_MAX * self.body, self.bytes_max)
        if self.came > wire_max:
            raise AnswerSpoiled(
                f"{self.came} bytes came and {self.body} of them are its body, unpacked: wanted at most {wire_max} for "
                "that; look at what stands between here and the inventory"
            )

    def note_body(self, size: int) -> None:
        """size: of all of it so far."""
        if size > self.body:
            self.body = size
            self.last = time.monotonic()

    def check(self) -> None:
        now = time.monotonic()
        limit_s = self.first_s + self.body / BYTES_PER_S_MIN
        if not self.came and now - self.started > self.first_s:
            self.fault = f"no answer within {self.first_s:.0f} s"
        elif self.body and now - self.last > SILENCE_S:
            self.fault = f"silent for {SILENCE_S:.0f} s after {self.body} bytes"
        elif now - self.started > limit_s:
            self.fault = f"not complete after {limit_s:.0f} s and {self.body} bytes"
        if self.fault:
            raise TimeoutError(self.fault)
        if now - self.told >= TELL_EVERY_S:
            self.told = now
            self.heard(self.body)


class _Waiting(io.RawIOBase):
    """What http.client reads an answer from."""

    def __init__(self, sock: Any, raw: Any, patience: Patience) -> None:
        self.sock = sock
        self.raw = raw
        self.patience = patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.patience.wait(self.sock)
        count: int = self.raw.readinto(buffer)
        self.patience.note_wire(count)
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Socket:
    """A connected socket whose file waits with patience."""

    def __init__(self, sock: Any, patience: Patience) -> None:
        self.sock = sock
        self.patience = patience

    def makefile(self, *_mode: Any, **_more: Any) -> io.BufferedReader:
        raw = self.sock.makefile("rb", buffering=0)
        return io.BufferedReader(_Waiting(self.sock, raw, self.patience), BLOCK_BYTES)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


class _Plain(HTTPConnection):
    def __init__(self, *arguments: Any, patience: Patience, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.patience = patience

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _Socket(self.sock, self.patience)


class _Secure(HTTPSConnection):
    def __init__(self, *arguments: Any, patience: Patience, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.patience = patience

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _Socket(self.sock, self.patience)


class _Pools(PoolManager):
    def __init__(self, patience: Patience, **more: Any) -> None:
        super().__init__(**more)
        self.patience = patience

    def _new_pool(self, scheme: str, *arguments: Any, **more: Any) -> HTTPConnectionPool:
        pool = super()._new_pool(scheme, *arguments, **more)
        kind: Any = _Secure if scheme == "https" else _Plain
        pool.ConnectionCls = partial(kind, patience=self.patience)  # type: ignore[misc,assignment]
        return pool


class _Adapter(HTTPAdapter):
    """requests' way to its connections: one, with that patience.  tls: to which requests adds whom it trusts."""

    def __init__(self, patience: Patience, tls: ssl.SSLContext | None = None) -> None:
        self.patience, self.tls = patience, tls
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **more: Any) -> None:
        more["ssl_context"] = self.tls
        self.poolmanager = _Pools(self.patience, num_pools=connections, maxsize=maxsize, block=block, **more)


class Unpacking:
    """Content-Encoding undone piece by piece.  Raises AnswerSpoiled, without the request's name, before it is big."""

    def __init__(self, encoding: str, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.packed = self.size = 0
        self.content = bytearray()  # what was not taken yet
        self.encoding = encoding.strip().lower()
        self.zlib: Any = None
        if self.encoding in ("gzip", "x-gzip", "deflate"):
            self.zlib = zlib.decompressobj(32 + zlib.MAX_WBITS)
        elif self.encoding not in ("", "identity"):
            raise AnswerSpoiled(f"Content-Encoding {encoding[:40]!r}; wanted gzip, deflate or none")

    def add(self, block: bytes) -> None:
        self.packed += len(block)
        if self.zlib is None:
            self.keep(block)
            return
        try:
            while block:
                self.keep(self.zlib.decompress(block, SMALL_BYTES))
                block = self.zlib.unconsumed_tail
                if self.zlib.eof and self.zlib.unused_data:  # gzip may have several members
                    block = self.zlib.unused_data
                    self.zlib = zlib.decompressobj(32 + zlib.MAX_WBITS)
        except zlib.error as error:
            raise AnswerSpoiled(f"no {self.encoding}: {error}") from error

    def keep(self, piece: bytes) -> None:
        self.content += piece
        self.size += len(piece)
        self.check()

    def take(self) -> bytearray:
        """What came since the last time: whoever reads a long answer piece by piece does not keep it."""
        taken, self.content = self.content, bytearray()
        return taken

    def check(self) -> None:
        size = self.size
        if size > self.bytes_max:
            raise AnswerSpoiled(f"more than {self.bytes_max >> 20} MiB; an answer of this kind has at most that")
        if size > SMALL_BYTES and size > UNPACKED_PER_PACKED_MAX * self.packed:
            raise AnswerSpoiled(f"{self.packed} bytes unpack to {size} and more: no inventory is packed that densely")

    def done(self) -> bytearray:
        if self.zlib is not None and not self.zlib.eof and self.packed:
            raise AnswerSpoiled(f"cut off in the middle of {self.encoding} data")
        return self.content


class Answers:
    """GETs over one connection that is kept.  For one thread.

    ca: a file of the authorities whose word about a server counts; None: those of this machine and of certifi."""

    def __init__(self, url: str, token: str | None, heard: Heard, ca: Path | None = None) -> None:
        self.url = url
        self.patience = Patience(heard)
        self.session = requests.Session()
        # For Response.next, which nobody asks for, requests reads the body of a redirect whole, without any limit.
        self.session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]
        self.session.trust_env = False  # neither a proxy of the shell's nor a .netrc in place of our token
        self.session.headers["Accept-Encoding"] = "gzip, deflate"
        self.session.mount("http://", _Adapter(self.patience))
        tls = ssl.create_default_context() if ca is None and url.startswith("https") else None
        self.session.mount("https://", _Adapter(self.patience, tls))
        self.session.verify = str(ca) if ca is not None else True
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, parameters: Parameters, bytes_max: int, first_s: float) -> bytearray:
        """The body of a 200, at most bytes_max of it.  Raises InventoryDown naming the request and what came back."""
        with self.answered(path, parameters, bytes_max, first_s) as answer:
            if answer.status_code != 200:
                self.refuse(answer)
            return self.unpacked(answer, bytes_max)

    @contextmanager
    def answered(
        self,
        path: str,
        parameters: Parameters,
        bytes_max: int,
        first_s: float,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[requests.Response]:
        """An answer of any status, its body still to come: by pieces() or refuse(), while it is open.

        What goes wrong with it meanwhile raises InventoryDown naming the request and what came back."""
        what = f"GET {self.url}{path}"
        self.patience.begin(first_s, bytes_max)
        try:
            with self.session.get(
                self.url + path,
                params=parameters,
                headers=headers,
                timeout=(CONNECT_TIMEOUT_S, first_s),
                allow_redirects=False,
                stream=True,
            ) as answer:
                yield answer
        except AnswerSpoiled as error:
            raise AnswerSpoiled(f"{what}: {error}") from error
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            raise AnswerSpoiled(f"{what}: cut off in the middle ({error})") from error
        except (requests.RequestException, HTTPError, OSError) as error:
            if self.patience.came and not self.patience.fault and not isinstance(error, requests.RequestException):
                raise AnswerSpoiled(f"{what}: cut off in the middle ({error})") from error
            raise InventoryDown(f"{what}: {self.patience.fault or _reason(error)}") from error
        except UnicodeError as error:  # half a letter in a name that the inventory gave
            raise AnswerSpoiled(f"{what} {ascii(parameters)[:200]}: no text") from error

    def refuse(self, answer: requests.Response, wanted: str = "200") -> NoReturn:
        """Raises AnswerSpoiled with its status, the last line of what it says, and what to do."""
        content = self.unpacked(answer, ERROR_BYTES_MAX)
        last = content.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        raise AnswerSpoiled(f"status {answer.status_code}, wanted {wanted}: {last}{self.advice(answer.status_code)}")

    def advice(self, status: int) -> str:
        """What to do about a status, behind what the inventory says of it."""
        if status != HTTPStatus.UNAUTHORIZED:
            return ""
        known = "Authorization" in self.session.headers
        return f"; {'correct' if known else 'set'} dhcp.api_token, {'which it refuses' if known else 'its token'}"

    def unpacked(self, answer: requests.Response, bytes_max: int) -> bytearray:
        """The body, whatever the status; begin() of patience came before the request.  Raises AnswerSpoiled."""
        unpacking = Unpacking(answer.headers.get("Content-Encoding", ""), bytes_max)
        for _ in self.blocks(answer, unpacking):
            pass
        return unpacking.done()

    def pieces(self, answer: requests.Response, bytes_max: int) -> Iterator[bytearray]:
        """The same piece by piece, as it comes."""
        unpacking = Unpacking(answer.headers.get("Content-Encoding", ""), bytes_max)
        for _ in self.blocks(answer, unpacking):
            yield unpacking.take()
        unpacking.done()

    def blocks(self, answer: requests.Response, unpacking: Unpacking) -> Iterator[None]:
        """Each as it came, in `unpacking`."""
        # read1(): what came, without waiting for a whole block.
        while block := answer.raw.read1(BLOCK_BYTES, decode_content=False):
            unpacking.add(block)
            self.patience.note_body(unpacking.size)
            yield


def _reason(error: Exception) -> str:
    """What a person can act on: requests wraps the kernel's or the resolver's word three times."""
    if isinstance(error, requests.ConnectTimeout):
        return (
            f"cannot connect: no connection within {CONNECT_TIMEOUT_S:.0f} s; is that machine up, and does a firewall "
            "let us through?"
        )
    if isinstance(error, (requests.ReadTimeout, ReadTimeoutError, TimeoutError)):
        return "no answer in time"
    if not isinstance(error, requests.ConnectionError):
        return f"{type(error).__name__}: {error}"
    cause = first_cause(error)
    if isinstance(cause, socket.gaierror):
        return f"cannot connect: no address is known for that name ({cause.strerror}); correct it, or the name server"
    if isinstance(cause, ConnectionRefusedError):
        return "cannot connect: refused, nothing listens on that port; is the inventory running, and is the port right?"
    if isinstance(cause, ssl.SSLCertVerificationError):
        step = "if its authority is your own, name that's certificate in dhcp.api_ca"
        return f"cannot connect: its certificate is not believed ({cause.verify_message}); {step}"
    if isinstance(cause, ssl.SSLError):
        return f"cannot connect: no TLS ({cause.reason or cause}); is it https there, and its certificate good?"
    if isinstance(cause, OSError):
        return f"cannot connect: {cause.strerror or cause}"
    return f"cannot connect ({type(error.args[0]).__name__ if error.args else error})"


def first_cause(error: BaseException) -> BaseException:
    """Of a chain of exceptions, each raised for the one before."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error
