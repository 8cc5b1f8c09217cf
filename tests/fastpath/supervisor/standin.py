"""A child stand-in for the supervisor's tests: speaks its protocol, starts within 20 ms, does nothing else.

`standin.py ROLE... FD`; ROLE: spare, control, try, mute; foreign, a spare of a build with other layouts; deaf, a spare
that ends when it gets a slot; greet ROLE, who first says words that nobody knows; fail, which ends at once; or say FILE
NFDS, which says what is in a file, with so many descriptors.  Run without the virtual environment, hence msgpack by
hand.
"""

import array
import contextlib
import mmap
import os
import select
import socket
import struct
import sys
import time

SHOW_S = 0.05


def text(word: str) -> bytes:
    return bytes([0xA0 | len(word)]) + word.encode()


def message(kind: str, fields: dict[str, int], names: tuple[str, ...] = ()) -> bytes:
    told = b"".join(text(name) + b"\xcf" + struct.pack(">Q", value) for name, value in fields.items())
    named = b"".join(b"\x92" + text(name) + b"\x01" for name in names)
    return b"\x93" + text(kind) + bytes([0x80 | len(fields)]) + told + bytes([0x90 | len(names)]) + named


def send(sock: socket.socket, content: bytes, fds: tuple[int, ...] = ()) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([content], rights)


def kind_of(content: bytes) -> str:
    return content[2 : 2 + (content[1] & 0x1F)].decode()


def publish(sock: socket.socket, version: int) -> None:
    generation = time.monotonic_ns()
    fd = os.memfd_create("standin-table")
    os.write(fd, struct.pack("<II", 0x74736F62, version))
    send(sock, message("Publish", {"generation": generation, "base": generation}, ("base",)), (fd,))
    send(sock, message("Accepted", {}, ("config",)), (fd,))
    os.close(fd)


def live(sock: socket.socket, role: str) -> None:
    word: tuple[mmap.mmap, int] | None = None
    while True:
        if word is not None:
            struct.pack_into("<Q", word[0], word[1], time.monotonic_ns())
        if not select.select([sock], [], [], SHOW_S)[0]:
            continue
        content, fds, _flags, _address = socket.recv_fds(sock, 1 << 16, 200)
        if not content or kind_of(content) == "Stop":
            return
        kind = kind_of(content)
        if kind == "Assign" and role == "deaf":
            sys.exit(1)
        elif kind == "Assign":
            word = mmap.mmap(fds[3], 4096), 16  # the page, and where its heartbeat is in every layout
        elif kind == "Reload":
            fd = os.memfd_create("standin-config")
            os.write(fd, b'{"reloaded": true}')
            send(sock, message("Accepted", {}, ("config",)), (fd,))
            os.close(fd)
        elif kind == "Begin":
            word = mmap.mmap(fds[5], 4096), 0  # turns, and control's
            publish(sock, int(os.environ["STANDIN_TABLE_VERSION"]))
        for fd in fds:
            os.close(fd)
        if kind == "Load" and role == "spare" and word is None:
            generation = content[content.index(b"generation") + len(b"generation") :]
            width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}[generation[0]]
            send(sock, message("Loaded", {"generation": int.from_bytes(generation[1 : 1 + width], "big")}))
        elif kind == "Try":
            send(sock, message("Tried", {}))
            return


def main(role: str, *arguments: str) -> None:
    sock = socket.socket(fileno=int(arguments[-1]))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if role == "say":
            null = os.open("/dev/null", os.O_RDONLY)
            with open(arguments[0], "rb") as file:
                send(sock, file.read(), (null,) * int(arguments[1]))
        if role in ("mute", "say"):
            select.select([], [], [], 60.0)
        if role == "fail":
            sys.exit(1)
        if role == "greet":
            role = arguments[0]
            send(sock, message("Greeting", {}))
            send(sock, message("Greeting", {}))
        if role in ("spare", "deaf"):
            send(sock, message("Ready", {}))
        if role == "foreign":
            build = text("build") + text("0.2, build b")
            layouts = text("layouts") + b"\x81" + text("table") + b"\x63"
            send(sock, b"\x93" + text("Ready") + b"\x82" + build + layouts + b"\x90")
        live(sock, role)


if __name__ == "__main__":
    main(*sys.argv[1:])
