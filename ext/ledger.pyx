"""The boot ledger as a memfd: made, mapped, and kept over restarts.  Beside a table's rows it is read by ext/roll.pyx."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import errno
import os
import struct
import time
import zlib

from ext.leases cimport *
from ext.ledger cimport (LEDGER_MAGIC, LEDGER_PLACES, LEDGER_VERSION, PHASE_SHIFT, PHASE_SYSTEM, STEP_ANSWERED,
                         STEP_MASK, Book, Entry, LedgerHead, enter, ledger_bytes, open_book)
from ext.mapping cimport map_shared
from ext.net cimport munmap
from ext.request cimport Request
from ext.rfc2131 cimport Bootp
from ext.table cimport Pair
from ext.verdict cimport GO_ON, Verdict as CVerdict
from ext.wire cimport load32, swap32

from ext.page import new_page


cdef enum:
    SAVED_BYTES = 4 + 64           # of an entry on disk: its place in front of it

PHASES = ("", "rom", "loader", "system")
STEPS = ("asked", "offered", "answered")
LEDGER_BYTES = ledger_bytes()
SAVED_MAGIC = b"bootstorm ledger 1\n"
SAVED_HEAD = struct.Struct("<19sqQ")   # magic, since (seconds since 1970), records; a checksum ends the whole
assert sizeof(Entry) == 1 << ENTRY_SHIFT == 64 and sizeof(LedgerHead) == 4096 + sizeof(Entry)


def boottime_s() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000_000


def create_ledger() -> int:
    """A new memfd with an empty ledger; the caller owns it.  It takes memory where something is written.  Raises OSError."""
    fd = new_page("bootstorm-ledger", LEDGER_BYTES)
    cdef LedgerHead *head = <LedgerHead *>map_shared(fd, sizeof(LedgerHead))
    head.magic, head.version = LEDGER_MAGIC, LEDGER_VERSION
    head.epoch_s = int(time.time()) - boottime_s()
    head.since_s = boottime_s() + head.epoch_s
    munmap(head, sizeof(LedgerHead))
    return fd


def is_ledger(fd: int) -> bool:
    """Whether a memfd is one of this build's layout."""
    try:
        head = os.pread(fd, 8, 0)
        return os.fstat(fd).st_size == LEDGER_BYTES and struct.unpack("<II", head) == (LEDGER_MAGIC, LEDGER_VERSION)
    except (OSError, struct.error):
        return False


cdef class Ledger:
    """Takes no ownership of fd.  Raises ValueError for another layout."""
    cdef LedgerHead *head
    cdef readonly int fd
    cdef readonly size_t address   # where it is mapped for as long as this lives: ext/roll.pyx reads there

    def __cinit__(self, int fd):
        if not is_ledger(fd):
            raise ValueError(f"fd {fd} is no boot ledger of version {LEDGER_VERSION}")
        self.fd = os.dup(fd)
        self.head = <LedgerHead *>map_shared(fd, ledger_bytes())
        self.address = <size_t>self.head

    def __dealloc__(self):
        if self.head != NULL:
            munmap(self.head, ledger_bytes())
            os.close(self.fd)

    def now_s(self) -> int:
        """Seconds of the ledger."""
        return boottime_s() + self.head.epoch_s

    def behind_s(self) -> int:
        """What to add to seconds of the ledger for seconds since 1970 by the clock as it stands: it may have been set."""
        return int(time.time()) - self.now_s()

    @property
    def since_s(self) -> int:
        """Since 1970: of what was before, nothing is known."""
        return self.head.since_s + self.behind_s()

    @property
    def is_loaded(self) -> bool:
        """What the disk kept is in it."""
        return self.head.loaded != 0

    def note(self, Pair pair not None, mac: int, role: int, verdict: int, client: int, xid: int, now_s: int,
             message_type: int = 1, giaddr: int = 0) -> None:
        """As a worker enters a request of a row's machine: for tests and the demo's replay."""
        cdef const Lease *lease
        cdef Request request
        cdef Bootp bootp
        cdef Book book
        cdef uint64_t key = (<uint64_t>1 << 63) | (<uint64_t>role << 48) | <uint64_t>mac
        memset(&request, 0, sizeof(request))
        memset(&bootp, 0, sizeof(bootp))
        bootp.xid_be, bootp.giaddr_be = swap32(xid), swap32(giaddr)
        request.bootp = &bootp
        request.client_class, request.message_type = client, message_type
        lease = find_in(&pair.site.delta, key)
        if lease == NULL:
            lease = find_in(&pair.site.base, key)
        if lease == NULL:
            raise KeyError(f"{mac:012x}")
        open_book(&book, self.head)
        book.now_s = now_s
        enter(&book, lease, &request, <CVerdict><int>verdict)

    # --- kept on disk ------------------------------------------------------------------------------------------------

    def extents(self) -> list:
        """[(first place, places)] that something was written to."""
        cdef size_t at = sizeof(LedgerHead) - sizeof(Entry)
        found = []
        while True:
            try:
                begin = os.lseek(self.fd, at, os.SEEK_DATA)
                at = os.lseek(self.fd, begin, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing behind
                    return found
                raise
            first = max(0, (begin - 4096) // <int>sizeof(Entry))
            found.append((first, (at - 4096) // <int>sizeof(Entry) - first))

    def saved(self) -> bytes:
        """For load(), of any clock: times are seconds since 1970 by this one."""
        cdef const Entry *entries = self.head.entries
        cdef Entry copy
        cdef uint64_t first, end, i, taken = 0
        cdef uint32_t number
        cdef uint8_t *at
        cdef int64_t behind = self.behind_s()
        found = [(each, each + many) for each, many in self.extents()]
        room = bytearray(sum([end - first for first, end in found]) * SAVED_BYTES)
        at = <uint8_t *><char *>room
        for first, end in found:
            for i in range(first, end):
                if entries[i].key == 0:
                    continue
                number, copy = <uint32_t>i, entries[i]
                shift(&copy, behind)
                memcpy(at, &number, 4)
                memcpy(at + 4, &copy, sizeof(Entry))
                at += SAVED_BYTES
                taken += 1
        content = SAVED_HEAD.pack(SAVED_MAGIC, self.since_s, taken) + room[:taken * SAVED_BYTES]
        return content + struct.pack("<I", zlib.crc32(content))

    def load(self, bytes content not None) -> int:
        """Takes in what saved() gave, where no worker has written yet; how many.  Raises ValueError, and then took nothing."""
        cdef Entry copy
        cdef uint32_t number
        cdef const uint8_t *at
        cdef uint64_t i, taken = 0
        cdef int64_t behind = self.behind_s()
        cdef uint32_t now_s = self.now_s()
        self.head.loaded = 1
        if len(content) < SAVED_HEAD.size + 4 or not content.startswith(SAVED_MAGIC):
            raise ValueError("it is no ledger of this version")
        end = len(content) - 4
        if struct.unpack_from("<I", content, end)[0] != zlib.crc32(memoryview(content)[:end]):
            raise ValueError("its checksum is wrong")
        _magic, since_s, count = SAVED_HEAD.unpack_from(content)
        if len(content) != SAVED_HEAD.size + count * SAVED_BYTES + 4:
            raise ValueError(f"{len(content)} bytes, and it says {count} entries")
        at = <const uint8_t *><const char *>content + <size_t>SAVED_HEAD.size
        for i in range(<uint64_t>count):
            number = load32(at)
            memcpy(&copy, at + 4, sizeof(Entry))
            at += SAVED_BYTES
            if not 0 < number < LEDGER_PLACES or not is_possible(&copy) or self.head.entries[number].key != 0:
                continue
            shift(&copy, -behind)
            keep_past(&copy, now_s)
            self.head.entries[number] = copy
            taken += 1
        self.head.since_s = min(self.head.since_s, max(0, since_s - behind))
        self.head.resumed_s = now_s
        return taken


cdef uint32_t shifted(uint32_t moment_s, int64_t by_s) noexcept nogil:
    cdef int64_t found = moment_s + by_s
    return <uint32_t>found if 0 < found and found < <int64_t>0xffffffff else 1


cdef void shift(Entry *entry, int64_t by_s) noexcept nogil:
    entry.first_s, entry.last_s = shifted(entry.first_s, by_s), shifted(entry.last_s, by_s)
    entry.stage_s, entry.boot_s = shifted(entry.stage_s, by_s), shifted(entry.boot_s, by_s)
    entry.again_s = shifted(entry.again_s, by_s) if entry.again_s != 0 else 0
    entry.trouble_s = shifted(entry.trouble_s, by_s) if entry.trouble_s != 0 else 0


cdef void keep_past(Entry *entry, uint32_t now_s) noexcept nogil:
    """The clock was set back since it was saved: what seems to come is now, or a machine that hangs is not found."""
    entry.first_s, entry.last_s = min(entry.first_s, now_s), min(entry.last_s, now_s)
    entry.stage_s, entry.boot_s = min(entry.stage_s, now_s), min(entry.boot_s, now_s)
    entry.again_s, entry.trouble_s = min(entry.again_s, now_s), min(entry.trouble_s, now_s)


cdef bint is_possible(const Entry *entry) noexcept nogil:
    return (entry.key != 0 and entry.stage >> PHASE_SHIFT <= PHASE_SYSTEM and entry.stage & STEP_MASK <= STEP_ANSWERED
            and entry.reached >> PHASE_SHIFT <= PHASE_SYSTEM and entry.reached & STEP_MASK <= STEP_ANSWERED
            and entry.verdict < GO_ON)
