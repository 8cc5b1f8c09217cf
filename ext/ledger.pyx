"""The boot ledger as control reads it: one entry, or all rows of a table looked through beside it; kept over restarts.

A scan is asked for in pieces (Roll.look, Roll.count), so that whoever reads a million rows does something else in between.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree

import errno
import os
import struct
import time
import zlib

from ext.leases cimport *
from ext.ledger cimport (KEY_BYTES, LEDGER_MAGIC, LEDGER_PLACES, LEDGER_VERSION, PHASE_ROM, PHASE_SHIFT, PHASE_SYSTEM,
                         STEP_ANSWERED, STEP_ASKED, STEP_MASK, Book, Entry, LedgerHead, enter, ledger_bytes, ledger_key,
                         open_book)
from ext.mapping cimport map_shared
from ext.net cimport munmap
from ext.request cimport Request
from ext.rfc2131 cimport Bootp
from ext.table cimport Generation, Pair
from ext.verdict cimport GO_ON, NAKED, NOTED_RELEASE, Verdict as CVerdict
from ext.wire cimport load32, swap32

from ext.classify import ClientClass
from ext.page import new_page
from ext.table import STATES

from ext import verdict as verdict_module


cdef enum:
    PATIENCE_S = 60                # who asks or was offered something, and is not further after this, is stuck
    LATE_S = 60                    # beyond what the boots before took from one phase to the next,
    FIRST_TIME_S = 240             # and what a machine may take of which no boot before is known
    STATE_COUNT = 8
    SAVED_BYTES = 4 + 64           # of an entry on disk: its place in front of it
    STAGE_COUNT = 16

cdef enum Progress:                # of a row's machine
    NEVER                          # not heard since the ledger began
    BOOTING
    STUCK
    DONE                           # has its address, and goes no further by what is known
    UNKNOWN                        # has an address in an early phase, and nobody knows whether that is all
    REFUSED                        # asks, and by the inventory's word has no answer to expect
    PROGRESS_COUNT

PROGRESS = ("never", "booting", "stuck", "done", "unknown", "refused")
PHASES = ("", "rom", "loader", "system")
STEPS = ("asked", "offered", "answered")
LEDGER_BYTES = ledger_bytes()
VERDICTS = [verdict.name for verdict in verdict_module.Verdict if verdict != GO_ON]   # whoever writes there may write anything
CLASSES = {int(each): each.name for each in ClientClass}
SAVED_MAGIC = b"bootstorm ledger 1\n"
SAVED_HEAD = struct.Struct("<19sqQ")   # magic, since (seconds since 1970), records; a checksum ends the whole
GROUP_BYTES = PROGRESS_COUNT * 8
TALLY_BYTES = (STATE_COUNT * PROGRESS_COUNT + STAGE_COUNT) * 8
assert sizeof(Entry) == 1 << ENTRY_SHIFT == 64 and sizeof(LedgerHead) == 4096 + sizeof(Entry) and len(STATES) == STATE_COUNT


def stage_name(stage: int) -> str:
    """"rom-offered"; "" for none."""
    phase, step = stage >> PHASE_SHIFT, stage & STEP_MASK
    return f"{PHASES[phase]}-{STEPS[step]}" if 0 < phase < len(PHASES) and step < len(STEPS) else ""


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

    def __cinit__(self, int fd):
        if not is_ledger(fd):
            raise ValueError(f"fd {fd} is no boot ledger of version {LEDGER_VERSION}")
        self.fd = os.dup(fd)
        self.head = <LedgerHead *>map_shared(fd, ledger_bytes())

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

    cdef dict entry(self, const Lease *lease):
        cdef const Entry *entry = self.head.entries + number_of(lease)
        cdef int64_t behind = self.behind_s()
        if entry.key != ledger_key(lease):
            return {"stage": "", "first_s": None, "last_s": None, "stage_s": None, "boot_s": None, "requests": 0,
                    "silent": 0, "boots": 0, "verdict": None, "class": None, "relay": None, "reached": "", "took_s": []}
        return {
            "stage": stage_name(entry.stage), "first_s": entry.first_s + behind, "last_s": entry.last_s + behind,
            "stage_s": entry.stage_s + behind, "boot_s": entry.boot_s + behind, "requests": entry.requests,
            "silent": entry.silent, "boots": entry.boots,
            "verdict": VERDICTS[entry.verdict] if entry.verdict < len(VERDICTS) else f"{entry.verdict}",
            "class": CLASSES.get(entry.client_class, f"{entry.client_class}"), "relay": swap32(entry.giaddr_be) or None,
            "reached": stage_name(entry.reached),
            "took_s": [max(entry.took_s[0][0], entry.took_s[0][1]), max(entry.took_s[1][0], entry.took_s[1][1])],
        }

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
            self.head.entries[number] = copy
            taken += 1
        self.head.since_s = min(self.head.since_s, max(0, since_s - behind))
        return taken


cdef uint32_t shifted(uint32_t moment_s, int64_t by_s) noexcept nogil:
    cdef int64_t found = moment_s + by_s
    return <uint32_t>found if 0 < found and found < <int64_t>0xffffffff else 1


cdef void shift(Entry *entry, int64_t by_s) noexcept nogil:
    entry.first_s, entry.last_s = shifted(entry.first_s, by_s), shifted(entry.last_s, by_s)
    entry.stage_s, entry.boot_s = shifted(entry.stage_s, by_s), shifted(entry.boot_s, by_s)


cdef bint is_possible(const Entry *entry) noexcept nogil:
    return (entry.key != 0 and entry.stage >> PHASE_SHIFT <= PHASE_SYSTEM and entry.stage & STEP_MASK <= STEP_ANSWERED
            and entry.reached >> PHASE_SHIFT <= PHASE_SYSTEM and entry.reached & STEP_MASK <= STEP_ANSWERED
            and entry.verdict < GO_ON)


cdef Progress progress_of(const Lease *lease, const Entry *entry, uint32_t now_s, uint8_t end) noexcept nogil:
    """end: the Phase in which the machine's boots end, 0 where nobody says."""
    cdef uint8_t phase = entry.stage >> PHASE_SHIFT
    cdef bint is_late = now_s > entry.stage_s and now_s - entry.stage_s > PATIENCE_S
    cdef bint is_told = entry.stage & STEP_MASK == STEP_ANSWERED
    cdef const uint16_t *took
    cdef uint32_t took_s
    if entry.key != ledger_key(lease):
        return NEVER
    if not is_answered(lease.state):
        return REFUSED if lease.state == DISABLED else STUCK
    if lease.state == PROXIED:     # its ACK is another server's, and so is all that its system asks
        is_told = entry.stage & STEP_MASK != STEP_ASKED or phase == PHASE_SYSTEM
    elif entry.verdict >= NAKED and entry.verdict != NOTED_RELEASE:
        return STUCK if is_late else BOOTING
    if not is_told:
        return STUCK if is_late else BOOTING
    if phase == PHASE_SYSTEM or (end != 0 and phase >= end):
        return DONE
    if end == 0 and entry.reached >> PHASE_SHIFT <= phase:
        return DONE if entry.boots > 1 and entry.reached & STEP_MASK != STEP_ASKED else UNKNOWN
    took = entry.took_s[phase - PHASE_ROM]
    took_s = max(took[0], took[1])
    if took_s == 0 and entry.reached >> PHASE_SHIFT <= phase:
        took_s = FIRST_TIME_S
    return STUCK if now_s > entry.stage_s and now_s - entry.stage_s > took_s + <uint32_t>LATE_S else BOOTING


cdef bint has_address(const Lease *lease, uint32_t first, uint32_t last) noexcept nogil:
    cdef uint32_t i
    for i in range(lease.lease_count):
        if lease.state == SERVED and first <= swap32(lease[i].address_be) <= last:
            return True
    return False


cdef class Roll:
    """All rows of a pair, each once, beside the ledger.  A place is that of a row's first lease: in the base, and from the
    base's end on in the delta.

    groups: of each row number 4 octets, which group of containers the row's object is in and where its boots end
    (ext/rows.pyx: grouped); 0, and what lies behind the end: not known.  ends: of each group a Phase, 0: not said."""
    cdef readonly Pair pair
    cdef readonly Ledger ledger
    cdef const Table *base
    cdef const Table *delta
    cdef uint8_t *replaced         # a bit for each lease of the base: the delta has another word about that row
    cdef readonly bytes groups, ends
    cdef const uint32_t *group_of_number
    cdef uint32_t group_count
    cdef const uint8_t *end_of_group
    cdef uint32_t end_count

    def __cinit__(self, Pair pair not None, Ledger ledger not None, bytes groups=b"", bytes ends=b""):
        cdef const Lease *found
        cdef uint32_t i = 0, at
        self.pair, self.ledger, self.groups, self.ends = pair, ledger, groups, ends
        self.group_of_number, self.group_count = <const uint32_t *><const char *>groups, len(groups) // 4
        self.end_of_group, self.end_count = <const uint8_t *><const char *>ends, len(ends)
        self.base, self.delta = &pair.site.base, &pair.site.delta
        self.replaced = <uint8_t *>PyMem_RawCalloc(self.base.lease_count // 8 + 1, 1)
        if self.replaced == NULL:
            raise MemoryError(f"{self.base.lease_count} rows")
        while i < self.delta.lease_count:
            found = find_in(self.base, key_of(self.delta.leases[i].mac, self.delta.leases[i].role))
            if found != NULL:
                at = <uint32_t>(found - self.base.leases)
                self.replaced[at >> 3] |= 1 << (at & 7)
            i += self.delta.leases[i].lease_count

    def __dealloc__(self):
        PyMem_RawFree(self.replaced)

    def __len__(self) -> int:
        """Places."""
        return self.base.lease_count + self.delta.lease_count

    cdef uint32_t group_at(self, uint32_t number) noexcept nogil:
        return self.group_of_number[number] if number < self.group_count else 0

    cdef Progress progress(self, const Lease *lease, const Entry *entry, int64_t now_s) noexcept nogil:
        cdef uint32_t group = self.group_at(number_of(lease))
        return progress_of(lease, entry, <uint32_t>now_s, self.end_of_group[group] if group < self.end_count else 0)

    cdef const Lease *row_at(self, uint32_t place) noexcept nogil:
        """NULL: none that counts stands there."""
        cdef const Lease *lease
        if place < self.base.lease_count:
            lease = self.base.leases + place
            if self.replaced[place >> 3] >> (place & 7) & 1:
                return NULL
        else:
            lease = self.delta.leases + (place - self.base.lease_count)
            if lease.state == TOMBSTONE:
                return NULL
        return lease

    cdef uint32_t after(self, uint32_t place) noexcept nogil:
        if place >= self.base.lease_count:
            return place + self.delta.leases[place - self.base.lease_count].lease_count
        return place + self.base.leases[place].lease_count

    def count(self, uint32_t place, uint32_t rows, tally, int64_t now_s) -> int:
        """Adds rows from a place on to a bytearray of TALLY_BYTES (tallied()); the next place, len() at the end."""
        cdef uint32_t end = len(self)
        cdef uint64_t *counts = <uint64_t *><char *><bytearray>tally
        cdef const Lease *lease
        cdef const Entry *entry
        cdef Progress progress
        if len(tally) != TALLY_BYTES:
            raise ValueError(f"a tally of {len(tally)} bytes")
        with nogil:
            while place < end and rows != 0:
                lease = self.row_at(place)
                place = self.after(place)
                rows -= 1
                if lease == NULL:
                    continue
                entry = self.ledger.head.entries + number_of(lease)
                progress = self.progress(lease, entry, now_s)
                counts[state_of(lease) * PROGRESS_COUNT + progress] += 1
                if progress != NEVER:
                    counts[STATE_COUNT * PROGRESS_COUNT + entry.stage % STAGE_COUNT] += 1
        return place

    def count_groups(self, uint32_t place, uint32_t rows, counts, int64_t now_s) -> int:
        """As count(), for each group; counts: a bytearray of GROUP_BYTES for each group that there is (counted())."""
        cdef uint32_t end = len(self), group, room = len(counts) // (PROGRESS_COUNT * 8)
        cdef uint64_t *into = <uint64_t *><char *><bytearray>counts
        cdef const Lease *lease
        with nogil:
            while place < end and rows != 0:
                lease = self.row_at(place)
                place = self.after(place)
                rows -= 1
                if lease == NULL:
                    continue
                group = self.group_at(number_of(lease))
                if group < room:
                    into[group * PROGRESS_COUNT + self.progress(lease, self.ledger.head.entries + number_of(lease), now_s)] += 1
        return place

    @staticmethod
    def counted(counts) -> list:
        """[{progress: rows}] of each group, of what count_groups() added up."""
        found = struct.unpack(f"<{len(counts) // 8}Q", counts)
        return [dict(zip(PROGRESS, found[at:at + PROGRESS_COUNT])) for at in range(0, len(found), PROGRESS_COUNT)]

    @staticmethod
    def tallied(tally) -> tuple:
        """({state: {progress: rows}}, {stage: rows}) of what count() added up."""
        counts = struct.unpack(f"<{TALLY_BYTES // 8}Q", tally)
        states = {}
        for state, name in enumerate(STATES):
            ours = counts[state * PROGRESS_COUNT:(state + 1) * PROGRESS_COUNT]
            if name != "tombstone":
                states[name] = dict(zip(PROGRESS, ours))
        stages = {}
        for stage, many in enumerate(counts[STATE_COUNT * PROGRESS_COUNT:]):
            if stage >> PHASE_SHIFT and stage & STEP_MASK <= STEP_ANSWERED:
                stages[stage_name(stage)] = many
        return states, stages

    def look(self, uint32_t place, uint32_t rows, int64_t now_s, uint32_t states, uint32_t progresses,
             relay=None, uint32_t first=0, uint32_t last=0xffffffff, bytes wanted_groups=None) -> tuple:
        """(next place, [places]) of rows whose state and progress are in two sets of bits; and, where it is asked for, which
        were last heard by a relay, have an address from first to last, and are in a group of which the octet is not 0."""
        cdef uint32_t end = len(self)
        cdef const Lease *lease
        cdef const Entry *entry
        cdef uint32_t wanted_be = swap32(relay) if relay is not None else 0
        cdef bint by_relay = relay is not None, by_address = first != 0 or last != 0xffffffff
        cdef const uint8_t *bits = NULL
        cdef uint32_t group, group_room = 0
        if wanted_groups is not None:
            bits, group_room = <const uint8_t *><const char *>wanted_groups, len(wanted_groups)
        found = []
        while place < end and rows != 0:
            lease = self.row_at(place)
            at = place
            place = self.after(place)
            rows -= 1
            if lease == NULL or not states >> state_of(lease) & 1:
                continue
            entry = self.ledger.head.entries + number_of(lease)
            if not progresses >> self.progress(lease, entry, now_s) & 1:
                continue
            if wanted_groups is not None:
                group = self.group_at(number_of(lease))
                if group >= group_room or not bits[group]:
                    continue
            if by_relay and (entry.key != ledger_key(lease) or entry.giaddr_be != wanted_be):
                continue
            if by_address and not has_address(lease, first, last):
                continue
            found.append(at)
        return place, found

    def place_of(self, mac: int, role: int) -> int:
        """Of a row; -1: there is none."""
        cdef uint64_t key = (<uint64_t>1 << 63) | (<uint64_t>role << 48) | <uint64_t>mac
        cdef const Lease *found = find_in(self.delta, key)
        if found != NULL:
            return -1 if found.state == TOMBSTONE else <int64_t>(self.base.lease_count + (found - self.delta.leases))
        found = find_in(self.base, key)
        return <int64_t>(found - self.base.leases) if found != NULL else -1

    def name(self, uint32_t place) -> bytes:
        cdef const Table *table = self.base if place < self.base.lease_count else self.delta
        cdef const Lease *lease = table.leases + (place if place < self.base.lease_count else place - self.base.lease_count)
        return (<const char *>table.heap + lease.name_at)[:lease.name_bytes]

    def row(self, uint32_t place, int64_t now_s) -> dict:
        """What is known of one row; times are seconds since 1970, None where it was never heard.  Addresses are ints."""
        cdef const Lease *lease = self.row_at(place)
        cdef uint32_t i
        if lease == NULL:
            raise IndexError(f"no row at {place}")
        return {
            "number": number_of(lease), "mac": key_of(lease.mac, 0) & 0xffffffffffff, "role": lease.role,
            "name": self.name(place), "state": STATES[state_of(lease)],
            "addresses": [swap32(lease[i].address_be) for i in range(lease.lease_count)] if lease.state == SERVED else [],
            "port": lease.template_index if state_of(lease) == OTHER_PORT else None,
            "progress": PROGRESS[self.progress(lease, self.ledger.head.entries + number_of(lease), now_s)],
            "group": self.group_at(number_of(lease)),
            **self.ledger.entry(lease),
        }
