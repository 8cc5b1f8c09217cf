"""eBPF without a compiler and without libbpf: an assembler for readable instruction tables, and the calls of bpf(2).

A program is a list of what the functions below return, with labels for its jumps; assemble() makes its bytes, load()
gives them to the kernel.  Knows nothing of DHCP and nothing of sockets' meaning.  Encoding: RFC 9669.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_libc = ctypes.CDLL(None, use_errno=True)

_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _LINK_CREATE = 0, 2, 5, 28
# BTF: bytes behind the 12 of each type, once and for each member, by kind (Documentation/bpf/btf.rst).
_BTF_FUNCTION = 12
_BTF_ONCE = {1: 4, 3: 12, 14: 4, 17: 4}
_BTF_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_ATTR_BYTES = 128
_LOG_BYTES = 1 << 20
LICENSE = b"GPL"  # what the kernel asks of programs that call certain helpers; says nothing about this service

MAP_ARRAY, MAP_XSKMAP = 2, 17  # map types
MAP_MMAPABLE = 1 << 10  # a map flag
PROGRAM_SOCKET_FILTER, PROGRAM_XDP = 1, 6  # program types
XDP_HAS_FRAGS, XDP_DEVICE_BOUND = 1 << 5, 1 << 6  # program flags
ATTACH_XDP = 37  # where link() attaches
XDP_NATIVE = 1 << 2  # and how: in the driver
_SO_ATTACH_BPF = 50
CALL_REDIRECT_MAP, CALL_ADJUST_META, CALL_BOOTTIME_NS = 51, 54, 125  # helpers

_SIZES = {"u8": 0x10, "u16": 0x08, "u32": 0x00, "u64": 0x18}
_ALU = {"+=": 0x00, "-=": 0x10, "*=": 0x20, "/=": 0x30, "|=": 0x40, "&=": 0x50, "<<=": 0x60, ">>=": 0x70, "%=": 0x90,
        "^=": 0xA0, "=": 0xB0}  # fmt: skip
_JUMPS = {"==": 0x10, ">": 0x20, ">=": 0x30, "&": 0x40, "!=": 0x50, "<": 0xA0, "<=": 0xB0}  # all unsigned


class BpfFailed(OSError):
    """The kernel refused a call of bpf(2); the text says which, why, and what the verifier said."""

    def __str__(self) -> str:
        return str(self.strerror)


class ProgramWrong(ValueError):
    """A table that cannot be assembled: a fault of ours."""


class Register(enum.IntEnum):
    """R0: results; R1 to R5: arguments, gone after a call; R6 to R9: kept over calls; R10: end of the stack."""

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3
    R4 = 4
    R5 = 5
    R6 = 6
    R7 = 7
    R8 = 8
    R9 = 9
    R10 = 10


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Register


@dataclass(frozen=True, slots=True)
class Instruction:
    """One slot of eight bytes; target: the label that a jump goes to, in place of an offset."""

    code: int
    target_register: int = 0
    source_register: int = 0
    offset: int = 0
    value: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    name: str


Line = Instruction | Label | tuple[Instruction, Instruction]


# --- instructions ------------------------------------------------------------------------------------------------


def alu(register: Register, operator: str, operand: Register | int) -> Instruction:
    """register OPERATOR operand, on 64 bits; an int is signed 32 bits and extended."""
    return _operate(0x07, _known(_ALU, operator), register, operand)


def alu32(register: Register, operator: str, operand: Register | int) -> Instruction:
    """The same on the low 32 bits; the high ones become 0."""
    return _operate(0x04, _known(_ALU, operator), register, operand)


def big_endian(register: Register, bits: int) -> Instruction:
    """register := its low 16, 32 or 64 bits between network and host order."""
    return Instruction(0xDC, register, value=bits)


def load(size: str, register: Register, base: Register, offset: int) -> Instruction:
    """register := *(size *)(base + offset)"""
    return Instruction(0x61 | _known(_SIZES, size), register, base, offset)


def store(size: str, base: Register, offset: int, operand: Register | int) -> Instruction:
    """*(size *)(base + offset) = operand"""
    if isinstance(operand, Register):
        return Instruction(0x63 | _known(_SIZES, size), base, operand, offset)
    return Instruction(0x62 | _known(_SIZES, size), base, 0, offset, operand)


def add_atomic(base: Register, offset: int, operand: Register) -> Instruction:
    """*(u64 *)(base + offset) += operand, whatever other CPUs do meanwhile"""
    return Instruction(0xDB, base, operand, offset)


def load_packet(size: str, offset: int) -> Instruction:
    """R0 := packet[offset], in host order; R1 to R5 are gone; R6 must hold the context.

    Beyond the end the program returns 0.  Socket filters only; they begin where classic ones begin."""
    return Instruction(0x20 | _known(_SIZES, size), value=offset)


def load_wide(register: Register, value: int) -> tuple[Instruction, Instruction]:
    """register := value, 64 bits."""
    return _wide(register, 0, value)


def load_map(register: Register, map_fd: int) -> tuple[Instruction, Instruction]:
    """register := the map behind map_fd, as helpers want it."""
    return _wide(register, 1, map_fd)


def load_map_value(register: Register, map_fd: int, offset: int = 0) -> tuple[Instruction, Instruction]:
    """register := address in the only value of an array, without a look-up."""
    return _wide(register, 2, map_fd | offset << 32)


def jump(target: str) -> Instruction:
    return Instruction(0x05, target=target)


def jump_if(register: Register, comparison: str, operand: Register | int, target: str) -> Instruction:
    """On 64 bits, unsigned; an int is signed 32 bits and extended."""
    made = _operate(0x05, _known(_JUMPS, comparison), register, operand)
    return Instruction(made.code, made.target_register, made.source_register, 0, made.value, target)


def label(name: str) -> Label:
    return Label(name)


def call(helper: int) -> Instruction:
    return Instruction(0x85, value=helper)


def call_kernel(function: int) -> Instruction:
    """A function of the kernel itself, by its id (kernel_function)."""
    return Instruction(0x85, 0, 2, value=function)


def leave() -> Instruction:
    """Return R0."""
    return Instruction(0x95)


def _operate(kind: int, operation: int, register: Register, operand: Register | int) -> Instruction:
    if isinstance(operand, Register):
        return Instruction(kind | operation | 0x08, register, operand)
    return Instruction(kind | operation, register, value=operand)


def _wide(register: Register, kind: int, value: int) -> tuple[Instruction, Instruction]:
    return Instruction(0x18, register, kind, value=value & 0xFFFFFFFF), Instruction(0, value=value >> 32 & 0xFFFFFFFF)


def _known(table: dict[str, int], word: str) -> int:
    if word not in table:
        raise ProgramWrong(f"unknown {word!r}; there are {', '.join(table)}")
    return table[word]


# --- assembling --------------------------------------------------------------------------------------------------


def assemble(program: Iterable[Line]) -> bytes:
    """The program's bytes, jumps resolved.  Raises ProgramWrong for a label that is missing or stands twice."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in program:
        if isinstance(line, Label):
            if line.name in labels:
                raise ProgramWrong(f"label {line.name!r} stands twice")
            labels[line.name] = len(instructions)
        else:
            instructions.extend([line] if isinstance(line, Instruction) else line)
    return b"".join(_encode(at, instruction, labels) for at, instruction in enumerate(instructions))


def _encode(at: int, line: Instruction, labels: dict[str, int]) -> bytes:
    offset = line.offset
    if line.target:
        if line.target not in labels:
            raise ProgramWrong(f"instruction {at} jumps to {line.target!r}, which is nowhere")
        offset = labels[line.target] - at - 1
    if not -(1 << 31) <= line.value < 1 << 32 or not -(1 << 15) <= offset < 1 << 15:
        raise ProgramWrong(f"instruction {at}: value {line.value} or offset {offset} does not fit")
    registers = line.target_register | line.source_register << 4
    return struct.pack("=BBhI", line.code, registers, offset, line.value & 0xFFFFFFFF)


# --- bpf(2) ------------------------------------------------------------------------------------------------------


def call_bpf(command: int, attributes: bytes, what: str) -> tuple[int, bytes]:
    """(result, attributes as the kernel left them).  Raises BpfFailed."""
    number = _SYSCALL.get(os.uname().machine)
    if number is None:
        raise BpfFailed(0, f"{what}: the number of bpf(2) on {os.uname().machine} is not known to us")
    buffer = ctypes.create_string_buffer(attributes.ljust(_ATTR_BYTES, b"\0"), _ATTR_BYTES)
    result = _libc.syscall(number, command, buffer, _ATTR_BYTES)
    if result < 0:
        error = ctypes.get_errno()
        raise BpfFailed(error, f"{what}: {os.strerror(error)}")
    return int(result), buffer.raw


def address_of(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def create_map(kind: int, key_bytes: int, value_bytes: int, entries: int, *, name: str, flags: int = 0) -> int:
    """The new map's fd, close-on-exec as all of bpf(2).  Raises BpfFailed."""
    attributes = struct.pack("=IIIIIII16s", kind, key_bytes, value_bytes, entries, flags, 0, 0, name.encode()[:15])
    return call_bpf(_MAP_CREATE, attributes, f"cannot create the BPF map {name}")[0]


def update(map_fd: int, key: bytes, value: bytes) -> None:
    """Put or replace one element.  key and value must have the map's sizes: the kernel reads as many bytes."""
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    attributes = struct.pack("=IIQQQ", map_fd, 0, address_of(keys), address_of(values), 0)
    call_bpf(_MAP_UPDATE, attributes, f"cannot put {key.hex()} into the BPF map behind fd {map_fd}")


def load_program(kind: int, program: Iterable[Line], *, name: str, flags: int = 0, ifindex: int = 0) -> int:
    """The program's fd.  Raises BpfFailed with what the verifier said, asked for only when it says no.

    ifindex: with XDP_DEVICE_BOUND, the only interface that the program may be attached to."""
    code = assemble(program)
    try:
        return _load(kind, code, name, flags, ifindex, None)
    except BpfFailed as refused:
        if refused.errno == errno.EPERM:  # the verifier was not asked
            raise
    said = ctypes.create_string_buffer(_LOG_BYTES)
    try:
        return _load(kind, code, name, flags, ifindex, said)
    except BpfFailed as refused:
        words = said.value.decode(errors="replace").strip()
        raise BpfFailed(refused.errno, f"{refused.strerror}\n{words}") from None


def _load(kind: int, code: bytes, name: str, flags: int, ifindex: int, said: ctypes.Array[ctypes.c_char] | None) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(LICENSE)
    log = (1, len(said), address_of(said)) if said is not None else (0, 0, 0)
    attributes = struct.pack(
        "=IIQQIIQII16sI",
        kind,
        len(code) // 8,
        address_of(instructions),
        address_of(license_text),
        *log,
        0,
        flags,
        name.encode()[:15],
        ifindex,
    )
    return call_bpf(_PROG_LOAD, attributes, f"cannot load the BPF program {name}")[0]


def link(program_fd: int, ifindex: int, flags: int = 0, *, where: int = ATTACH_XDP) -> int:
    """Attach to an interface; the kernel detaches when the last copy of the returned fd is closed."""
    attributes = struct.pack("=IIII", program_fd, ifindex, where, flags)
    return call_bpf(_LINK_CREATE, attributes, f"cannot attach the BPF program to interface {ifindex}")[0]


def kernel_function(name: str, path: str = "/sys/kernel/btf/vmlinux") -> int:
    """The id of a function that programs may call, from the kernel's own description of its types (BTF).

    Raises BpfFailed where there is no such function, or no description."""
    try:
        with open(path, "rb") as file:
            btf = file.read()
    except OSError as error:
        raise BpfFailed(error.errno, f"cannot read {path}: {error.strerror}") from error
    header, types_at, types_bytes, strings_at, strings_bytes = struct.unpack_from("=4xIIIII", btf)
    strings = btf[header + strings_at : header + strings_at + strings_bytes]
    wanted = strings.find(b"\0" + name.encode() + b"\0") + 1
    at, end, number = header + types_at, header + types_at + types_bytes, 1
    while wanted and at < end:
        name_at, info = struct.unpack_from("=II", btf, at)
        kind, members = info >> 24 & 0x1F, info & 0xFFFF
        if kind == _BTF_FUNCTION and name_at == wanted:
            return number
        at += 12 + _BTF_ONCE.get(kind, 0) + _BTF_EACH.get(kind, 0) * members
        number += 1
    raise BpfFailed(errno.ENOENT, f"this kernel has no function {name} for BPF programs")


def attach_socket(sock: socket.socket, program_fd: int) -> None:
    """As the socket's filter.  The program's fd may be closed."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, program_fd)
