"""Folders and files that root opens where somebody else may write: by descriptors, and never by the same path twice.

The service is started as root, and `dhcp.user` owns its state folder.  Who has that user can put anything there
under any name: a link, or another name of a file of root's.  What root opens, cuts off, removes or gives away is
therefore looked at through the descriptor that it is then done by.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

LINKS_MAX = 32
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Untrusted(Exception):
    """Something is not what root may touch: its path, what was found, what to do."""


def is_real_root() -> bool:
    """Root of the machine, not of a user namespace of somebody's."""
    if os.geteuid() != 0:
        return False
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() == ["0", "0", "4294967295"]


def trusted_uids() -> set[int]:
    """Whose links are followed, since they could do all that we can.  In a user namespace the machine's root has no
    number of its own, only that of all strangers."""
    return {0, os.geteuid(), *(() if is_real_root() or os.geteuid() else (65534,))}


@contextlib.contextmanager
def opened_folder(path: str, make: bool = False) -> Iterator[int]:
    """A descriptor (O_PATH) of the folder, closed afterwards.  Links on the way are followed where nobody but us and
    root can have made them.  make: folders that are missing are made, 0751.

    Raises OSError, and Untrusted for a link of somebody else's."""
    trusted, links = trusted_uids(), 0
    todo = list(reversed(Path(os.path.abspath(path)).parts[1:]))
    at, where = os.open("/", _FOLDER), Path("/")
    try:
        while todo:
            name = todo.pop()
            where = where / name
            try:
                below = os.open(name, _FOLDER, dir_fd=at)
            except FileNotFoundError:
                if not make:
                    raise
                with contextlib.suppress(FileExistsError):  # somebody was quicker, and is looked at
                    os.mkdir(name, 0o751, dir_fd=at)  # others may pass to the control socket
                below = os.open(name, _FOLDER, dir_fd=at)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                target = link_target(name, at, where, trusted)
                links += 1
                if links > LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
                todo += reversed([part for part in Path(target).parts if part != "/"])
                if target.startswith("/"):
                    below, where = os.open("/", _FOLDER), Path("/")
                else:
                    below, where = os.dup(at), where.parent
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def link_target(name: str, folder: int, where: Path, trusted: set[int]) -> str:
    """What a link points to.  Raises NotADirectoryError for what is none, Untrusted for one of somebody else's."""
    link, holder = os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(folder)
    if not stat.S_ISLNK(link.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    theirs = holder.st_uid not in trusted or holder.st_mode & 0o022 or link.st_uid not in trusted
    if theirs:
        raise Untrusted(
            f"{where} is a symbolic link in a folder that others than root can write to; put the folder itself "
            "there, or let root make the link in a folder of root's alone"
        )
    return os.readlink(name, dir_fd=folder)


def check_folder(folder: int, path: str, owner: tuple[int, int] | None) -> None:
    """Nobody but us, root and the service's user may write there.  Raises Untrusted."""
    found = os.fstat(folder)
    uids = {0, os.geteuid(), *(owner[:1] if owner else ())}
    gids = {0, os.getegid(), *(owner[1:] if owner else ())}
    if found.st_uid not in uids:
        raise Untrusted(f"{path} belongs to uid {found.st_uid}; wanted {said(uids)}; chown it, or name another folder")
    if found.st_mode & 0o002 or (found.st_mode & 0o020 and found.st_gid not in gids):
        raise Untrusted(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o} and gid {found.st_gid}: others can write there; wanted "
            "0751 or less; chmod it, or name another folder"
        )


def check_file(fd: int, path: str, owner: tuple[int, int] | None) -> None:
    """A plain file with one name, ours, root's or the service's user's.  Raises Untrusted."""
    found = os.fstat(fd)
    uids = {0, os.geteuid(), *(owner[:1] if owner else ())}
    if not stat.S_ISREG(found.st_mode):
        raise Untrusted(f"{path} is no plain file; remove it")
    if found.st_nlink != 1:
        raise Untrusted(f"{path} is a file with {found.st_nlink} names (hard links); remove this one")
    if found.st_uid not in uids:
        raise Untrusted(f"{path} belongs to uid {found.st_uid}; wanted {said(uids)}; remove it")


def give(fd: int, owner: tuple[int, int]) -> None:
    """To the service's user, unless it is somebody else's already; on a read-only disk whose it is decides nothing."""
    if os.fstat(fd).st_uid not in (0, os.geteuid()):
        return
    try:
        os.chown(f"/proc/self/fd/{fd}", *owner)  # also of a descriptor that was opened to be looked at only
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def said(uids: set[int]) -> str:
    return " or ".join(str(uid) for uid in sorted(uids))
