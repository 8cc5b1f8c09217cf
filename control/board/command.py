"""The board's process: `bootstorm board` becomes it.  It has no right but to read, and serves HTTP until SIGTERM.

Started by root it becomes `board.user` before it opens anything of a client's.
"""

from __future__ import annotations

import ctypes
import grp
import importlib
import logging
import os
import pwd
import resource
import socket
import stat
from pathlib import Path
from typing import Final

import uvicorn

from control.board.connections import OPEN_MAX, Doors, Seldom, protocol
from control.board.gate import Token, host_names, is_loopback
from control.board.site import Site
from control.board.watcher import Watcher
from control.config.config import Config
from control.service.doors.commands import Right, Rights

log = logging.getLogger("bootstorm.board")

BIND: Final = ("127.0.0.1", 9970)
TOKEN_LEAST: Final = 16  # characters
TOKEN_BYTES_MAX: Final = 4_096
QUEUE: Final = 128  # connections that the kernel keeps; so many at once may be taken from there
OWN_DESCRIPTORS: Final = 64
SHUTDOWN_S: Final = 2
PR_SET_NO_NEW_PRIVS: Final = 38


class CannotServe(Exception):
    """One clear line for stderr: the key, what was found, what was wanted."""


def run(config: Config) -> None:
    """Until SIGTERM or SIGINT.  Raises CannotServe."""
    board = config.board
    host, port = bind = board.bind or BIND
    token = Token(read_token(board.token_file) if board.token_file is not None else None)
    if token.secret is None and not is_loopback(host):
        raise CannotServe(
            f"board.bind is {host}:{port}, which others reach, and nobody would need a token; wanted board.token_file, "
            f"or 127.0.0.1:{port} behind a proxy that asks who it is"
        )
    listener = listen(host, port)
    site = Site(Watcher(str(config.control.socket)), token, board.title or socket.gethostname())
    open_max = room()
    settings = uvicorn.Config(
        site.app(host_names(bind, board.names)), log_config=None, access_log=False, lifespan="on", loop="asyncio",
        http=protocol(Doors(open_max)), ws="none", server_header=False, proxy_headers=False, backlog=QUEUE,
        timeout_graceful_shutdown=SHUTDOWN_S, h11_max_incomplete_event_size=16_384,
    )  # fmt: skip
    settings.load()
    importlib.import_module("anyio._backends._asyncio")  # what else is loaded when it is first used
    become(board.user)
    look_at_rights(config)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(Seldom())
    shown = f"[{host}]" if ":" in host else host
    log.info("the board is at http://%s:%d/, of the service at %s", shown, port, config.control.socket)
    uvicorn.Server(settings).run(sockets=[listener])


def room() -> int:
    """How many connections may be open: as many as there are descriptors for, and as asyncio takes from the kernel in
    one go, so that the board can always ask the service."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_MAX + QUEUE + OWN_DESCRIPTORS
    if least != resource.RLIM_INFINITY and least < wanted:
        least = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
        if least < wanted:
            log.warning("%d descriptors, wanted %d (LimitNOFILE=, ulimit -n); fewer may look at once", least, wanted)
        return max(least - QUEUE - OWN_DESCRIPTORS, OWN_DESCRIPTORS)
    return OPEN_MAX


def read_token(path: Path) -> str:
    """Raises CannotServe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(fd).st_mode
            content = os.read(fd, TOKEN_BYTES_MAX + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise CannotServe(
            f"board.token_file {path}: {error.strerror}; write a token there, or take the key away"
        ) from error
    if stat.S_IMODE(mode) & 0o007:
        raise CannotServe(
            f"board.token_file {path}: everybody may read it (mode {stat.S_IMODE(mode):03o}); chmod o= it"
        )
    token = content.decode("ascii", "replace").strip()
    if not TOKEN_LEAST <= len(token) <= TOKEN_BYTES_MAX or not token.isprintable() or not token.isascii():
        raise CannotServe(
            f"board.token_file {path}: found {len(token)} characters, wanted one line of at least {TOKEN_LEAST} "
            "visible ASCII characters, such as `openssl rand -hex 16` writes"
        )
    return token


def listen(host: str, port: int) -> socket.socket:
    """Raises CannotServe."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(socket.SOMAXCONN)  # from here on who comes is only kept waiting
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CannotServe(
            f"board.bind {host}:{port}: {why}; name an address of this machine and a free port"
        ) from error
    return sock


def become(user: str | None) -> None:
    """Raises CannotServe."""
    if os.geteuid() != 0:
        if user is not None and pwd.getpwuid(os.geteuid()).pw_name != user:
            raise CannotServe(f"board.user is {user}, and only root can become that; start it as root, or as {user}")
    elif user is None:
        raise CannotServe(
            "started by root, who may do more than look; wanted board.user, a user that is listed in control.read_uids"
        )
    else:
        try:
            found = pwd.getpwnam(user)
        except KeyError as unknown:
            raise CannotServe(f"board.user {user}: there is no such user; create it, or name another") from unknown
        if found.pw_uid == 0:
            raise CannotServe(f"board.user {user}: this is root, who may do more than look; name another")
        groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
        os.setgroups(groups)
        os.setresgid(found.pw_gid, found.pw_gid, found.pw_gid)
        os.setresuid(found.pw_uid, found.pw_uid, found.pw_uid)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise CannotServe(f"PR_SET_NO_NEW_PRIVS: {os.strerror(ctypes.get_errno())}")


def look_at_rights(config: Config) -> None:
    """A warning where the board may do more than it needs, or nothing at all; the service has the last word."""
    control, uid = config.control, os.geteuid()
    try:
        owner = control.socket.lstat().st_uid
    except OSError:  # there is no service yet, or it is nothing that we may see
        owner = 0
    rights = Rights(
        frozenset({0, owner, *control.allow_uids}), frozenset(control.read_uids), frozenset(control.read_gids)
    )
    right = rights.of(uid, os.getgroups())
    if right is Right.CHANGE:
        log.warning(
            "uid %d may change what is served, while a board only reads; give it a user of its own, board.user, "
            "which control.read_uids lists", uid,
        )  # fmt: skip
    elif right is Right.NONE:
        log.warning("uid %d may not read by the control socket; list it in control.read_uids, and reload", uid)
