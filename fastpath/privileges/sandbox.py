"""Give up what is no longer needed: user, groups, capabilities.  After this nothing of ours can open a new port."""

from __future__ import annotations

import ctypes
import logging
import os
import pwd

log = logging.getLogger("bootstorm.sandbox")

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 40
_libc = ctypes.CDLL(None, use_errno=True)


class UserUnknown(Exception):
    """dhcp.user names nobody."""


def owner_of(user: str | None) -> tuple[int, int] | None:
    """(uid, gid) to change to; None: stay who we are.  Raises UserUnknown."""
    if user is None:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise UserUnknown(
            f"dhcp.user = {user!r}: no such user; create it (useradd --system {user}) or leave the key out"
        ) from error
    if os.geteuid() not in (0, entry.pw_uid):
        raise UserUnknown(f"dhcp.user = {user!r}: only root can change to it; this process is uid {os.geteuid()}")
    return entry.pw_uid, entry.pw_gid


def drop_privileges(owner: tuple[int, int] | None) -> None:
    """No way back, for this process and all its children.  Raises OSError when the kernel refuses."""
    for capability in range(_LAST_CAPABILITY + 1):
        # Without an empty bounding set an exec as uid 0 would get everything back.  EPERM: we never had CAP_SETPCAP.
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if owner is not None and os.geteuid() == 0:
        uid, gid = owner
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, nothing), "capset")
    log.info("running as uid %d gid %d without capabilities", os.getuid(), os.getgid())


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
