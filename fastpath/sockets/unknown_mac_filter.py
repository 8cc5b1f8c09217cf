"""An eBPF socket filter in the classic one's place: the same steering, and beyond a budget no datagrams of strangers.

It asks the known MACs (ext/mac_bloom.pyx), which control keeps in the memory of a BPF map.  Loaded once by the
supervisor, while it still may; from then on nobody needs a privilege for it.
"""

from __future__ import annotations

import logging

from ext.mac_bloom import (
    KNOWN_BITS_AT,
    KNOWN_BITS_MASK,
    KNOWN_BUDGET_AT,
    KNOWN_BYTES,
    KNOWN_DROPPED_AT,
    KNOWN_MIX,
    KNOWN_PASSED_AT,
    KNOWN_PROBES,
    KNOWN_READY_AT,
    KNOWN_TICK_AT,
    KNOWN_USED_AT,
)

from fastpath.sockets.bpf import (
    CALL_BOOTTIME_NS,
    MAP_ARRAY,
    MAP_MMAPABLE,
    PROGRAM_SOCKET_FILTER,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    BpfFailed,
    Line,
    add_atomic,
    alu,
    alu32,
    call,
    create_map,
    jump,
    jump_if,
    label,
    leave,
    load,
    load_map_value,
    load_packet,
    load_program,
    load_wide,
    store,
    update,
)

log = logging.getLogger("bootstorm.strangers")

# What passes all the same, for look-ups and warnings: 64 in each 67 ms, about 950 a second.
TICK_SHIFT, BUDGET = 26, 64
_LENGTH, _PACKET_TYPE = 0, 4  # of struct __sk_buff
_PACKET_HOST = 0
_UDP, _OPTIONS = 8, 240
_MIX = 0x9E3779B1  # of the steering: fastpath/sockets/sockets.py
_REQUEST = 0x350103


def create_known(budget: int = BUDGET) -> int:
    """The map's fd, empty and not ready: everybody passes until control has filled it.  Raises BpfFailed."""
    fd = create_map(MAP_ARRAY, 4, KNOWN_BYTES, 1, name="bootstorm_known", flags=MAP_MMAPABLE)
    value = bytearray(KNOWN_BYTES)
    value[KNOWN_BUDGET_AT : KNOWN_BUDGET_AT + 8] = budget.to_bytes(8, "little")
    update(fd, bytes(4), bytes(value))
    return fd


def try_known() -> tuple[int, str]:
    """(fd, "") or (-1, why not): strangers are only a nuisance, so the service starts without."""
    try:
        return create_known(), ""
    except BpfFailed as failed:
        log.error("dhcp.drop_strangers has no effect: %s", failed)
        return -1, str(failed)


def load_filter(known_fd: int, index: int, workers: int) -> int:
    """The program for the socket at `index` of its group.  Raises BpfFailed."""
    return load_program(PROGRAM_SOCKET_FILTER, [*steer(index, workers), *judge(known_fd)], name="bootstorm_steer")


def steer(index: int, workers: int) -> list[Line]:
    """socket_filter() of fastpath/sockets/sockets.py, word for word; what is ours falls through.  R6: context, R7:
    length."""
    return [
        alu(R6, "=", R1),
        load("u32", R7, R6, _LENGTH),
        load("u32", R1, R6, _PACKET_TYPE),
        jump_if(R1, "==", _PACKET_HOST, "ours"),
        alu(R8, "=", 0),
        jump_if(R7, "<", _UDP + 34, "steered"),
        load_packet("u32", _UDP + 28),
        jump_if(R0, "!=", 0, "by chaddr"),
        load_packet("u16", _UDP + 32),
        jump_if(R0, "!=", 0, "by chaddr"),
        load_packet("u32", _UDP + 4),
        jump("mix"),
        label("by chaddr"),
        load_packet("u32", _UDP + 30),
        label("mix"),
        alu32(R0, "*=", _MIX),
        alu32(R0, ">>=", 16),
        alu32(R0, "%=", workers),
        alu(R8, "=", R0),
        jump_if(R7, "<", _UDP + _OPTIONS + 4, "steered"),
        load_packet("u32", _UDP + _OPTIONS),
        alu32(R0, ">>=", 8),
        jump_if(R0, "!=", _REQUEST, "steered"),
        alu(R8, "+=", workers),
        label("steered"),
        jump_if(R8, "!=", index, "drop"),
        label("ours"),
    ]


def judge(known_fd: int) -> list[Line]:
    """Accept, but for strangers beyond the budget; what has no Ethernet address, or is too short for one, is nobody's
    stranger.  R9: the map's words."""
    probes: list[Line] = []
    for _ in range(KNOWN_PROBES):
        probes += [
            alu(R1, "=", R2),
            alu(R1, "&=", KNOWN_BITS_MASK),
            alu(R3, "=", R1),
            alu(R1, ">>=", 6),
            alu(R1, "<<=", 3),
            load_map_value(R4, known_fd, KNOWN_BITS_AT),
            alu(R4, "+=", R1),
            load("u64", R0, R4, 0),
            alu(R3, "&=", 63),
            alu(R0, ">>=", R3),
            alu(R0, "&=", 1),
            jump_if(R0, "==", 0, "stranger"),
            alu(R2, "+=", R8),
        ]
    return [
        load_map_value(R9, known_fd),
        load("u64", R1, R9, KNOWN_READY_AT),
        jump_if(R1, "==", 0, "accept"),
        jump_if(R7, "<", _UDP + 34, "accept"),
        load_packet("u8", _UDP + 2),  # hlen
        jump_if(R0, "!=", 6, "accept"),
        load_packet("u32", _UDP + 28),
        alu(R8, "=", R0),
        alu(R8, "<<=", 16),
        load_packet("u16", _UDP + 32),
        alu(R8, "|=", R0),
        *_mixed(),
        alu(R2, "=", R8),  # the first place
        alu(R2, ">>=", 40),
        alu(R8, ">>=", 16),  # the step
        alu(R8, "|=", 1),
        *probes,
        label("accept"),
        alu32(R0, "=", -1),
        leave(),
        label("stranger"),
        call(CALL_BOOTTIME_NS),
        alu(R0, ">>=", TICK_SHIFT),
        load("u64", R1, R9, KNOWN_TICK_AT),
        jump_if(R0, "==", R1, "same tick"),
        store("u64", R9, KNOWN_TICK_AT, R0),
        store("u64", R9, KNOWN_USED_AT, 0),
        label("same tick"),
        load("u64", R1, R9, KNOWN_USED_AT),
        load("u64", R2, R9, KNOWN_BUDGET_AT),
        alu(R3, "=", 1),
        jump_if(R1, ">=", R2, "beyond"),
        add_atomic(R9, KNOWN_USED_AT, R3),
        add_atomic(R9, KNOWN_PASSED_AT, R3),
        jump("accept"),
        label("beyond"),
        add_atomic(R9, KNOWN_DROPPED_AT, R3),
        label("drop"),
        alu32(R0, "=", 0),
        leave(),
    ]


def _mixed() -> list[Line]:
    """R8 := hash of R8, as ext/mac_bloom.pyx makes it."""
    first, second = KNOWN_MIX
    return [
        load_wide(R1, first),
        alu(R8, "*=", R1),
        alu(R1, "=", R8),
        alu(R1, ">>=", 32),
        alu(R8, "^=", R1),
        load_wide(R1, second),
        alu(R8, "*=", R1),
        alu(R1, "=", R8),
        alu(R1, ">>=", 29),
        alu(R8, "^=", R1),
    ]
