"""What only tests ask of bpf(2): run a program once, and look into a map."""

from __future__ import annotations

import ctypes
import errno
import struct

from fastpath.sockets.bpf import BpfFailed, address_of, call_bpf

_MAP_LOOKUP, _MAP_DELETE, _PROG_TEST_RUN = 1, 3, 10
MAP_HASH = 1


def delete(map_fd: int, key: bytes) -> bool:
    """False when the map did not have the key."""
    keys = ctypes.create_string_buffer(key, len(key))
    try:
        call_bpf(
            _MAP_DELETE, struct.pack("=IIQ", map_fd, 0, address_of(keys)), f"cannot delete {key.hex()} of fd {map_fd}"
        )
    except BpfFailed as failed:
        if failed.errno == errno.ENOENT:
            return False
        raise
    return True


def look_up(map_fd: int, key: bytes, value_bytes: int) -> bytes | None:
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value_bytes)
    try:
        attributes = struct.pack("=IIQQQ", map_fd, 0, address_of(keys), address_of(values), 0)
        call_bpf(_MAP_LOOKUP, attributes, f"cannot look up {key.hex()} in the BPF map behind fd {map_fd}")
    except BpfFailed as failed:
        if failed.errno == errno.ENOENT:
            return None
        raise
    return values.raw


def run_once(program_fd: int, packet: bytes) -> int:
    """What the program returns for the packet, without any interface (BPF_PROG_TEST_RUN; an Ethernet frame)."""
    data, out = ctypes.create_string_buffer(packet, len(packet)), ctypes.create_string_buffer(len(packet) + 512)
    attributes = struct.pack("=IIIIQQII", program_fd, 0, len(packet), len(out), address_of(data), address_of(out), 1, 0)
    _result, filled = call_bpf(_PROG_TEST_RUN, attributes, f"cannot run the BPF program behind fd {program_fd}")
    return int(struct.unpack_from("=I", filled, 4)[0])
