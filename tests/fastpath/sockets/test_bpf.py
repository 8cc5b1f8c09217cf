"""The eBPF assembler's bytes, and the calls of bpf(2) where the kernel lets us make them."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from fastpath.sockets import bpf
from fastpath.sockets.bpf import R0, R1, R2, R3, R6, R10
from tests.fastpath.sockets import inside

XDP_DROP, XDP_PASS = 1, 2
FRAME = bytes(64)


def words(*lines: bpf.Line) -> list[str]:
    code = bpf.assemble(lines)
    return [code[at : at + 8].hex() for at in range(0, len(code), 8)]


@pytest.mark.parametrize(
    "line, want",
    [  # the numbers of RFC 9669, as llvm-mc writes them
        pytest.param(bpf.alu(R0, "=", 2), ["b700000002000000"], id="r0 = 2"),
        pytest.param(bpf.alu(R0, "=", -1), ["b7000000ffffffff"], id="r0 = -1"),
        pytest.param(bpf.alu(R2, "=", R10), ["bfa2000000000000"], id="r2 = r10"),
        pytest.param(bpf.alu(R2, "+=", -8), ["07020000f8ffffff"], id="r2 += -8"),
        pytest.param(bpf.alu32(R3, "*=", 0x9E3779B1), ["24030000b179379e"], id="w3 *= imm"),
        pytest.param(bpf.alu32(R3, ">>=", 16), ["7403000010000000"], id="w3 >>= 16"),
        pytest.param(bpf.alu32(R3, "%=", R2), ["9c23000000000000"], id="w3 %= w2"),
        pytest.param(bpf.big_endian(R3, 16), ["dc03000010000000"], id="r3 = be16 r3"),
        pytest.param(bpf.load("u8", R3, R1, 14), ["71130e0000000000"], id="r3 = *(u8 *)(r1 + 14)"),
        pytest.param(bpf.load("u16", R3, R1, 12), ["69130c0000000000"], id="r3 = *(u16 *)(r1 + 12)"),
        pytest.param(bpf.load("u32", R3, R1, 4), ["6113040000000000"], id="r3 = *(u32 *)(r1 + 4)"),
        pytest.param(bpf.load("u64", R3, R10, -8), ["79a3f8ff00000000"], id="r3 = *(u64 *)(r10 - 8)"),
        pytest.param(bpf.store("u32", R10, -4, R3), ["633afcff00000000"], id="*(u32 *)(r10 - 4) = r3"),
        pytest.param(bpf.store("u16", R10, -4, 7), ["6a0afcff07000000"], id="*(u16 *)(r10 - 4) = 7"),
        pytest.param(bpf.add_atomic(R0, 8, R1), ["db10080000000000"], id="lock *(u64 *)(r0 + 8) += r1"),
        pytest.param(bpf.load_packet("u16", 36), ["2800000024000000"], id="r0 = skb[36]"),
        pytest.param(bpf.load_wide(R1, 0x1122334455667788), ["1801000088776655", "0000000044332211"], id="r1 = ll"),
        pytest.param(bpf.load_map(R1, 7), ["1811000007000000", "0000000000000000"], id="r1 = map"),
        pytest.param(bpf.load_map_value(R1, 7, 8), ["1821000007000000", "0000000008000000"], id="r1 = value"),
        pytest.param(bpf.call(51), ["8500000033000000"], id="call 51"),
        pytest.param(bpf.leave(), ["9500000000000000"], id="exit"),
    ],
)
def test_encoding(line: bpf.Line, want: list[str]) -> None:
    assert words(line) == want


def test_jumps_go_to_their_labels_over_wide_instructions_too() -> None:
    assert words(
        bpf.label("again"),
        bpf.jump_if(R1, "==", 5, "end"),
        bpf.load_map(R2, 3),
        bpf.jump_if(R1, ">", R2, "again"),
        bpf.jump("end"),
        bpf.label("end"),
        bpf.leave(),
    ) == [
        "1501040005000000",
        "1812000003000000",
        "0000000000000000",
        "2d21fcff00000000",
        "0500000000000000",
        "9500000000000000",
    ]


@pytest.mark.parametrize(
    "program, said",
    [
        ([bpf.jump("nowhere")], "nowhere"),
        ([bpf.label("twice"), bpf.label("twice")], "stands twice"),
        ([bpf.alu(R0, "=", 1 << 32)], "does not fit"),
        ([bpf.load("u8", R0, R1, 1 << 15)], "does not fit"),
    ],
)
def test_a_wrong_table_is_named(program: list[bpf.Line], said: str) -> None:
    with pytest.raises(bpf.ProgramWrong, match=said):
        bpf.assemble(program)


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(bpf.ProgramWrong, match="unknown '=='"):
        bpf.alu(R0, "==", 1)


@pytest.fixture
def allowed() -> None:
    """Skips where the kernel gives us no BPF: no root, or inside a user namespace."""
    try:
        fd = bpf.create_map(bpf.MAP_ARRAY, 4, 8, 1, name="probe")
    except bpf.BpfFailed as failed:
        if failed.errno in (errno.EPERM, errno.ENOSYS):
            pytest.skip(f"bpf(2): {failed}")
        raise
    os.close(fd)


def element(number: int) -> bytes:
    return struct.pack("=I", number)


@pytest.mark.usefixtures("allowed")
class TestInTheKernel:
    def test_hash_map_elements_come_and_go(self) -> None:
        fd = bpf.create_map(inside.MAP_HASH, 4, 8, 100, name="hosts")
        try:
            bpf.update(fd, element(1), b"11111111")
            bpf.update(fd, element(2), b"22222222")
            bpf.update(fd, element(3), b"33333333")
            assert [inside.look_up(fd, element(n), 8) for n in (1, 2, 3, 4)] == [b"1" * 8, b"2" * 8, b"3" * 8, None]
            assert inside.delete(fd, element(2)) and not inside.delete(fd, element(2))
            assert inside.look_up(fd, element(2), 8) is None
        finally:
            os.close(fd)

    def test_a_full_map_says_so(self) -> None:
        fd = bpf.create_map(inside.MAP_HASH, 4, 4, 1, name="small")
        try:
            bpf.update(fd, element(1), element(0))
            with pytest.raises(bpf.BpfFailed, match="cannot put 02000000 into the BPF map") as failed:
                bpf.update(fd, element(2), element(0))
            assert failed.value.errno == errno.E2BIG
        finally:
            os.close(fd)

    def test_an_xdp_program_runs_and_counts_in_an_array(self) -> None:
        counts = bpf.create_map(bpf.MAP_ARRAY, 4, 16, 1, name="counts")
        program = bpf.load_program(
            bpf.PROGRAM_XDP,
            [
                bpf.load("u32", R2, R1, 0),
                bpf.load("u32", R3, R1, 4),
                bpf.alu(R1, "=", R2),
                bpf.alu(R1, "+=", 14),
                bpf.alu(R0, "=", XDP_PASS),
                bpf.jump_if(R1, ">", R3, "out"),
                bpf.load("u8", R3, R2, 0),
                bpf.jump_if(R3, "==", 0, "out"),
                bpf.load_map_value(R1, counts, 8),
                bpf.alu(R2, "=", 1),
                bpf.add_atomic(R1, 0, R2),
                bpf.alu(R0, "=", XDP_DROP),
                bpf.label("out"),
                bpf.leave(),
            ],
            name="trivial",
        )
        try:
            assert inside.run_once(program, FRAME) == XDP_PASS
            assert inside.run_once(program, b"\1" + FRAME) == XDP_DROP
            assert inside.look_up(counts, element(0), 16) == struct.pack("=QQ", 0, 1)
        finally:
            os.close(program)
            os.close(counts)

    def test_the_verifiers_words_are_in_the_error(self) -> None:
        with pytest.raises(
            bpf.BpfFailed, match=r"cannot load the BPF program bad: Permission denied\n[^$]*R0 !read_ok"
        ):
            bpf.load_program(bpf.PROGRAM_XDP, [bpf.leave()], name="bad")

    def test_a_socket_filter_judges_datagrams(self) -> None:
        """The filter of a UDP socket sees the UDP header first, as classic ones do."""
        program = bpf.load_program(
            bpf.PROGRAM_SOCKET_FILTER,
            [
                bpf.alu(R6, "=", R1),
                bpf.load_packet("u8", 8),
                bpf.jump_if(R0, "==", ord("y"), "keep"),
                bpf.alu(R0, "=", 0),
                bpf.leave(),
                bpf.label("keep"),
                bpf.alu32(R0, "=", -1),
                bpf.leave(),
            ],
            name="yes_only",
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            bpf.attach_socket(sock, program)
            os.close(program)
            sock.bind(("127.0.0.1", 0))
            for text in (b"no", b"yes"):
                sock.sendto(text, sock.getsockname())
            assert sock.recv(16) == b"yes"
            with pytest.raises(BlockingIOError):
                sock.recv(16, socket.MSG_DONTWAIT)
