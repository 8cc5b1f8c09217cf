"""Tables on a disk: this layout's is read as it is, the one before is converted by ext/layout5.pyx, damage in it is
found.

The files under tests/data/tables were each written by the build that had that layout, with what example() says.
Whoever changes the layout writes one more before he does (write() below), and a reader for it."""

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ext.addresses import Index, View
from ext.builder import Builder, Surroundings, identity_of_object
from ext.classify import ClientClass
from ext.layout5 import convert, identity_of_name, layout_of
from ext.mapping import GenerationRejected
from ext.pump import Pump
from ext.table import TABLE_LAYOUT, Generation, Pair, TableInvalid, checksum, compare, row_key

from tests.ext.packets import ip, tlv
from tests.ext.sites import ALICE, OPTIONS, PROXIED, hosts, surroundings

FOLDER = Path(__file__).resolve().parents[2] / "data/tables"
WITH_BMC, LEAVES, COMES = 0x020000000020, 0x020000000021, 0x020000000022


def around() -> Surroundings:
    return surroundings(
        relays=((ip("10.9.0.1"), 32),),
        server_id=ip("10.1.0.1"),
        server_ids=(ip("10.1.0.1"), ip("10.2.0.1")),
        bootp=True,
        rules=(("vendor_class", "bmc", b"BMC"),),
        max_nak_age_s=3600,
    )


def example() -> tuple[int, int]:
    """fds of a base and of a delta upon it."""
    builder = hosts()
    ipxe = {"file": b"/boot.ipxe", "siaddr": ip("10.1.0.5"), "options": OPTIONS}
    template = builder.add_template(
        options=OPTIONS, file=b"/grub.efi", siaddr=ip("10.1.0.5"), variants={int(ClientClass.IPXE): ipxe}
    )
    own = tlv(12, b"with-bmc")
    builder.add_host(WITH_BMC, name=b"with-bmc", own=own, leases=((ip("10.1.0.100"), 24, template),))
    builder.add_host(WITH_BMC, role=1, name=b"with-bmc", leases=((ip("10.2.0.100"), 24, template),))
    builder.add_host(LEAVES, name=b"leaves", own=tlv(12, b"leaves"), leases=((ip("10.1.0.101"), 24, template),))
    base_fd = builder.seal(7, around(), created_s=1700000000)
    builder = Builder(Generation(base_fd))
    template = builder.add_template(options=OPTIONS, file=b"/new.0")
    builder.add_host(ALICE, name=b"alice", own=tlv(12, b"alice"), leases=((ip("10.1.0.51"), 24, template),))
    builder.add_host(COMES, name=b"comes", own=tlv(12, b"comes"), leases=((ip("10.1.0.102"), 24, template),))
    builder.add_tombstone(LEAVES)
    return base_fd, builder.seal(9, around(), created_s=1700000100)


def write(folder: Path = FOLDER) -> None:
    """The files of the present layout."""
    for kind, fd in zip(("base", "delta"), example(), strict=True):
        (folder / f"layout{TABLE_LAYOUT}.{kind}").write_bytes(os.pread(fd, os.fstat(fd).st_size, 0))
        os.close(fd)


def memfd(content: bytes) -> int:
    fd = os.memfd_create("old", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    return fd


@pytest.fixture
def old() -> Iterator[list[int]]:
    """base and delta of layout 5."""
    fds = [memfd((FOLDER / f"layout5.{kind}").read_bytes()) for kind in ("base", "delta")]
    yield fds
    for fd in fds:
        os.close(fd)


def pair_of(fds: tuple[int, int]) -> Pair:
    base, delta = (Generation(fd) for fd in fds)
    for each, fd in zip((base, delta), fds, strict=True):
        each.verify()
        os.close(fd)
    return Pair(base, delta)


def content(pair: Pair) -> dict[int, Any]:
    return {
        row_key(*key): {name: value for name, value in pair.lookup(*key).items() if name != "identity"}
        for key in pair.keys()  # noqa: SIM118
    }


def test_there_is_a_file_of_every_layout_from_the_fifth_on() -> None:
    names = {f"layout{layout}.{kind}" for layout in range(5, TABLE_LAYOUT + 1) for kind in ("base", "delta")}
    assert {path.name for path in FOLDER.iterdir()} == names


def test_a_file_of_this_layout_is_this_layout() -> None:
    """As it was written once: who changes something in place, without a number of its own, hears of it here."""
    made = example()
    for kind, fd in zip(("base", "delta"), made, strict=True):
        stored = (FOLDER / f"layout{TABLE_LAYOUT}.{kind}").read_bytes()
        assert layout_of(fd) == TABLE_LAYOUT and stored == os.pread(fd, os.fstat(fd).st_size, 0)
    pair_of(made)


def test_a_table_of_the_layout_before_says_the_same(old: list[int]) -> None:
    assert [layout_of(fd) for fd in old] == [5, 5]
    made, want = pair_of(convert(*old)), pair_of(example())
    assert content(made) == content(want) and len(content(made)) == 15
    assert (made.base.number, made.top.number, made.top.created_s) == (7, 9, 1700000100)
    assert made.top.host_count == want.top.host_count and made.top.networks == want.top.networks
    assert made.base.is_converted and made.top.is_converted and not want.base.is_converted
    row = made.lookup(WITH_BMC, 1)
    assert row["identity"] == identity_of_name(b"with-bmc") == made.lookup(WITH_BMC)["identity"]
    assert row["identity"] >> 63 == 1 and want.lookup(ALICE)["identity"] >> 63 == 0
    assert made.lookup(PROXIED)["state"] == "proxied" and made.lookup(LEAVES) is None


def test_the_surroundings_come_along(old: list[int]) -> None:
    """What the site knows of itself, octet by octet: the sections that both layouts have."""
    converted, made = convert(*old), example()
    for mine, wanted in zip(converted, made, strict=True):
        assert sections(mine, 4, 5, 6, 7, 8) == sections(wanted, 4, 5, 6, 7, 8)
        header = os.pread(mine, 128, 0)
        assert header[68:76] == os.pread(wanted, 128, 0)[68:76], "server_id and max_nak_age_s"
        assert struct.unpack_from("<I", header, 76)[0] == 2 | 4, "bootp; converted"
    pair_of(converted)
    pair_of(made)


def sections(fd: int, *kinds: int) -> dict[int, bytes]:
    raw = os.pread(fd, os.fstat(fd).st_size, 0)
    found = {}
    for i in range(struct.unpack_from("<I", raw, 80)[0]):
        kind, size, at, count = struct.unpack_from("<IIQQ", raw, 128 + 32 * i)
        if kind in kinds:
            found[kind] = raw[at : at + size * count]
    return found


def test_a_base_alone(old: list[int]) -> None:
    base_fd, delta_fd = convert(old[0])
    assert delta_fd == -1 and Generation(base_fd).lookup(LEAVES)["name"] == b"leaves"
    os.close(base_fd)


def test_an_object_known_by_name_is_the_one_that_has_that_name(old: list[int]) -> None:
    """Until the first refresh has replaced such rows: a host whose row was read again is no other host for that."""
    base_fd, delta_fd = convert(*old)
    base = Generation(base_fd)
    builder = Builder(base)
    template = builder.add_template(options=OPTIONS, file=b"/pxelinux.0", siaddr=ip("10.1.0.5"))
    lease = ((ip("10.1.0.50"), 24, template),)
    builder.add_host(ALICE, name=b"alice", own=tlv(12, b"alice"), leases=lease, thing=b"/server/alice")
    builder.add_host(COMES, role=1, name=b"alice", leases=lease, thing=b"/server/alice")
    fd = builder.seal(10, around(), created_s=1)
    pair = Pair(base, Generation(fd))
    assert not View(pair, Index(base)).twice()
    assert [key for key, _role in compare(Pair(base), pair).changed] == [], "the same, as far as one can know"
    builder = Builder(base)
    template = builder.add_template(options=OPTIONS)
    builder.add_host(COMES, name=b"comes", leases=((ip("10.1.0.50"), 24, template),), thing=b"/server/comes")
    other_fd = builder.seal(10, around(), created_s=1)
    found = View(Pair(base, Generation(other_fd)), Index(base)).twice()
    assert {address: [name for _key, name, _identity in owners] for address, owners in found.items()} == {
        ip("10.1.0.50"): [b"alice", b"comes"]
    }
    for each in (base_fd, delta_fd, fd, other_fd):
        os.close(each)


def test_an_identity_is_of_what_tells_objects_apart() -> None:
    assert identity_of_object(b"/server/a") != identity_of_object(b"/appliance/a") != identity_of_name(b"a")
    assert identity_of_object(b"/server/a") >> 63 == 0


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE])
def test_a_table_that_somebody_could_change_is_not_adopted(seals: int, tmp_path: Path) -> None:
    """A page that is cut away would kill every worker; one that is written to would be a wrong answer."""
    content = (FOLDER / f"layout{TABLE_LAYOUT}.base").read_bytes()
    fd = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    file = tmp_path / "table"
    file.write_bytes(content)
    plain = os.open(file, os.O_RDONLY)
    pump = Pump()
    for each in (fd, plain):
        with pytest.raises(TableInvalid, match="not sealed"):
            Generation(each)
        with pytest.raises(GenerationRejected, match="not sealed"):
            pump.load(each)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    pump.load(fd)
    assert pump.generation == Generation(fd).number == 7
    for each in (fd, plain):
        os.close(each)


# --- damage ----------------------------------------------------------------------------------------------------------

HEADER_BYTES = 192


def resummed(raw: bytearray) -> bytes:
    struct.pack_into("<Q", raw, 32, 0)
    struct.pack_into("<Q", raw, 32, checksum(bytes(raw[HEADER_BYTES:]), bytes(raw[:HEADER_BYTES])))
    return bytes(raw)


def refused(content: bytes, delta: bytes | None = None) -> str:
    fds = [memfd(each) for each in (content, delta) if each is not None]
    try:
        with pytest.raises(TableInvalid) as caught:
            made = convert(*fds)
            for fd in made:
                if fd >= 0:
                    Generation(fd).verify()
            raise AssertionError(f"accepted: {made}")
    finally:
        for fd in fds:
            os.close(fd)
    return str(caught.value)


def test_every_flipped_octet_is_found() -> None:
    raw = bytearray((FOLDER / "layout5.base").read_bytes())
    for at in range(0, len(raw), 5):
        raw[at] ^= 0x40
        refused(bytes(raw))
        raw[at] ^= 0x40


@pytest.mark.parametrize("length", [0, 7, 191, 192, 200, -1, -64])
def test_cut_short(length: int) -> None:
    refused((FOLDER / "layout5.base").read_bytes()[:length])


@pytest.mark.parametrize("at", [64, 68, 72, 76, 80, 84, 100])
@pytest.mark.parametrize("value", [2**31 - 1, 2**32 - 1])
def test_counts_that_a_wrong_writer_gives(at: int, value: int) -> None:
    """The checksum fits: nothing is read past the end, whatever it says."""
    raw = bytearray((FOLDER / "layout5.base").read_bytes())
    struct.pack_into("<I", raw, at, value)
    assert refused(resummed(raw)) == "a section reaches over its end"


@pytest.mark.parametrize("at", [112, 120, 128, 136, 144, 152, 160, 168, 184])
@pytest.mark.parametrize("value", [2**64 - 8, 2**40, 1 << 20])
def test_offsets_that_a_wrong_writer_gives(at: int, value: int) -> None:
    raw = bytearray((FOLDER / "layout5.base").read_bytes())
    struct.pack_into("<Q", raw, at, value)
    refused(resummed(raw))


@pytest.mark.parametrize(
    "at, code, value",
    [(7, "<B", 9), (12, "<I", 9999), (16, "<I", 0xFFFFFF00), (20, "<I", 0xFFFFFF00), (28, "<B", 0), (28, "<B", 255)],
)
def test_impossible_leases(at: int, code: str, value: int) -> None:
    raw = bytearray((FOLDER / "layout5.base").read_bytes())
    leases_at = struct.unpack_from("<Q", raw, 112)[0]
    struct.pack_into(code, raw, leases_at + at, value)
    refused(resummed(raw))


def test_a_delta_of_another_base() -> None:
    base, delta = ((FOLDER / f"layout5.{kind}").read_bytes() for kind in ("base", "delta"))
    raw = bytearray(base)
    struct.pack_into("<q", raw, 40, 5)
    assert "another base" in refused(resummed(raw), delta)
    assert "the base is a delta" in refused(delta, base)
    assert "no table of layout 5" in refused((FOLDER / f"layout{TABLE_LAYOUT}.base").read_bytes())
