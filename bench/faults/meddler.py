"""An inventory that fails when told to: a proxy between the service and the inventory, in the server's namespace.

`python -m bench.faults.meddler SOCKET` listens on PROXY and forwards to the embedded inventory; orders come by a Unix
socket, a JSON object a line: {"mode": one of MODES}; {"held": true}: how many answers are held back; {"get":
"/server/x/..."}: change the inventory itself.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from typing import Any

from bench.lab.site import INVENTORY

PROXY = "127.0.0.1:9995"
MODES = {
    "good": "forwards",
    "down": "nobody listens",
    "reset": "each connection is closed at once",
    "errors": "500 to everything",
    "hang": "takes requests and says nothing",
    "hold": "large answers are held back until another mode comes, small ones pass",
    "cut": "half of each body, then the end of the connection",
    "half": "half of each list, well-formed",
    "empty": "an empty list for each list",
    "garbage": "bodies that call themselves gzip and are not",
    "bomb": "64 MiB of spaces in a small gzip before each body",
}
LARGE_BYTES = 50_000
HEAD_BYTES = 128 * 1024
BOMB_BYTES = 64 << 20


def split_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head without its blank line, and body."""
    head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
    return head, await reader.readexactly(content_length(head) or 0)


def content_length(head: bytes) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return None


def without(head: bytes, *names: bytes) -> list[bytes]:
    """Lines of a head but for these fields (lower case)."""
    first, *fields = head.split(b"\r\n")
    return [first, *(line for line in fields if line.partition(b":")[0].strip().lower() not in names)]


async def forward(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """The inventory's answer: head, body.  In HTTP/1.0, so that its end is the connection's."""
    reader, writer = await asyncio.open_connection(*split_address(INVENTORY))
    lines = without(head, b"connection", b"accept-encoding")
    lines[0] = lines[0].replace(b"HTTP/1.1", b"HTTP/1.0")
    writer.write(b"\r\n".join([*lines, b"Connection: close", b"", body]))
    answer = await reader.read(-1)
    writer.close()
    answer_head, _, answer_body = answer.partition(b"\r\n\r\n")
    return answer_head, answer_body


def shortened(body: bytes, mode: str) -> bytes:
    """The body with half of its list, or none of it; what is no list stays."""
    try:
        found = json.loads(body)
    except ValueError:
        return body
    if not isinstance(found, list):
        return body
    return json.dumps([] if mode == "empty" else found[: len(found) // 2]).encode()


def spoiled(head: bytes, body: bytes, mode: str) -> bytes:
    """What is sent instead of the answer."""
    if mode == "errors":
        return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\nConnection: close\r\n\r\nbroken"
    encoding = []
    announced = None
    if mode in ("half", "empty"):
        body = shortened(body, mode)
    elif mode == "garbage":
        body, encoding = b"\x1f\x8b" + body[:1000], [b"Content-Encoding: gzip"]
    elif mode == "bomb":
        body, encoding = gzip.compress(b" " * BOMB_BYTES + body, 6), [b"Content-Encoding: gzip"]
    elif mode == "cut":
        announced, body = len(body), body[: len(body) // 2]
    length = f"Content-Length: {len(body) if announced is None else announced}".encode()
    return b"\r\n".join(
        [*without(head, b"content-length", b"connection"), *encoding, length, b"Connection: close", b"", body]
    )


class Meddler:
    """The proxy, and who tells it what to do."""

    def __init__(self) -> None:
        self.mode = "good"
        self.server: asyncio.Server | None = None
        self.mended = asyncio.Event()  # hanging connections wait for it
        self.held = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while self.mode != "reset":
                head, body = await read_request(reader)
                mode = self.mode
                if mode == "hang":
                    await self.mended.wait()
                    return
                answer_head, answer_body = await forward(head, body)
                if mode == "hold" and len(answer_body) > LARGE_BYTES:
                    self.held += 1
                    await self.mended.wait()
                    self.held -= 1
                answer = spoiled(answer_head, answer_body, mode)
                writer.write(answer)
                await writer.drain()
                return
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # the service gave up, or the inventory is away: either is what a client of ours may see
        finally:
            writer.close()

    async def listen(self) -> None:
        self.server = await asyncio.start_server(
            self.serve, *split_address(PROXY), limit=HEAD_BYTES, reuse_address=True
        )

    async def set_mode(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"mode {mode!r}, wanted one of {', '.join(MODES)}")
        self.mode = mode
        if mode in ("hang", "hold"):
            self.mended.clear()
        else:
            self.mended.set()
        if mode == "down" and self.server is not None:
            self.server.close()
            self.server = None
        elif mode != "down" and self.server is None:
            await self.listen()

    async def obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One order a line; "ok" or what is wrong with it."""
        while line := await reader.readline():
            try:
                writer.write(json.dumps(await self.carry_out(json.loads(line))).encode() + b"\n")
            except (OSError, ValueError) as error:
                writer.write(json.dumps({"error": str(error)}).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def carry_out(self, order: dict[str, Any]) -> dict[str, Any]:
        if "mode" in order:
            await self.set_mode(order["mode"])
            return {}
        if "held" in order:
            return {"held": self.held}
        head = f"GET {order['get']} HTTP/1.1\r\nHost: {INVENTORY}".encode()
        answer, body = await forward(head, b"")
        status = int(answer.split(b" ", 2)[1])
        if status != 200:
            raise ValueError(f"{order['get']}: {status} {body[:200].decode(errors='replace')}")
        return {"status": status}


async def main(path: str) -> None:
    meddler = Meddler()
    await meddler.listen()
    orders = await asyncio.start_unix_server(meddler.obey, path)
    sys.stderr.write("meddler: ready\n")
    sys.stderr.flush()
    async with orders:
        await orders.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
