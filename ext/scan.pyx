"""All rows of a table counted beside the boot ledger: how many of each group, relay and stage are how far; what most machines
of a pool do, by which those are judged of which nothing else is known; and what is new since the scan before.

A scan goes in pieces (Scan.step), so that whoever asks for it does something else in between.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
cimport cython

import heapq
import os

from ext.leases cimport ROLE_HOST, Lease, is_answered, state_of
from ext.ledger cimport LEDGER_PLACES, PHASE_NONE, PHASE_SHIFT, PHASE_SYSTEM, Entry
from ext.roll cimport (NEVER, NO_STAGE, PROGRESS_COUNT, STAGE_COUNT, STATE_COUNT, STUCK, Habit, Progress, Roll, Rows, after,
                       group_at, places_of, progress_at, row_at, stage_at, stage_place)
from ext.wire cimport load32, swap32

from ext.roll import PROGRESS, STAGES
from ext.table import STATES


cdef enum:
    HABIT_HEARD = 4                # of fewer machines nobody says what most of them do
    TOOK_BITS = 17                 # a bucket for each length of a 16-bit number
    RELAYS_MAX = 1024              # that are told apart in one scan,
    RELAY_SLOTS = 2048             # with as much room again to find them
    RELAY_SHIFT = 64 - 11
    FOUND_MAX = 100                # machines that one scan names

FINDINGS = ("stuck", "goes_on", "reached")


cdef extern from *:
    """
    #define BS_BITS(number) (32 - (uint32_t)__builtin_clz((uint32_t)(number)))
    """
    uint32_t bits_of "BS_BITS"(uint16_t) noexcept nogil     # not of 0


cdef struct Counts:                # 64 bytes: the rows of a group, a container, a relay
    uint32_t progress[PROGRESS_COUNT]
    uint32_t stages[STAGE_COUNT]   # of the machines heard
    uint32_t reserved


cdef struct RelayCounts:
    uint32_t giaddr_be
    uint32_t is_used
    Counts counts


cdef struct Company:               # machines that tell each other how far boots go: of a pool, else of a group
    uint32_t heard
    uint32_t reached[4]            # the furthest Phase of each, in this boot or the one before
    uint32_t took[2][TOOK_BITS]    # seconds from the answer in ROM, and in LOADER, to the next phase, by their bits


cdef uint16_t usual_s(const uint32_t *took) noexcept nogil:
    """Within which nine of ten went on, rounded up to a power of two; 0: nobody has."""
    cdef uint64_t total = 0, so_far = 0
    cdef uint32_t i
    for i in range(TOOK_BITS):
        total += took[i]
    for i in range(TOOK_BITS):
        so_far += took[i]
        if so_far * 10 >= total * 9:
            return <uint16_t>((1 << i) - 1)
    return 0


cdef Habit habit_of(const Company *company) noexcept nogil:
    cdef Habit found
    cdef uint32_t so_far = 0
    cdef int phase
    memset(&found, 0, sizeof(found))
    if company.heard < HABIT_HEARD:
        return found
    for phase in range(PHASE_SYSTEM, PHASE_NONE, -1):
        so_far += company.reached[phase]
        if 2 * so_far > company.heard:
            found.end = <uint16_t>phase
            break
    found.took_s[0], found.took_s[1] = usual_s(company.took[0]), usual_s(company.took[1])
    return found


cdef void add_up(Counts *into, const Counts *counts) noexcept nogil:
    cdef uint32_t i
    for i in range(PROGRESS_COUNT):
        into.progress[i] += counts.progress[i]
    for i in range(STAGE_COUNT):
        into.stages[i] += counts.stages[i]


cdef uint32_t rows_of(const Counts *counts) noexcept nogil:
    cdef uint32_t i, rows = 0
    for i in range(PROGRESS_COUNT):
        rows += counts.progress[i]
    return rows


cdef dict told_counts(const Counts *counts):
    """{progress: rows, "stages": {stage: rows}}"""
    cdef uint32_t i
    found, stages = {}, {}
    for i in range(PROGRESS_COUNT):
        found[PROGRESS[i]] = counts.progress[i]
    for i in range(STAGE_COUNT):
        stages[STAGES[i]] = counts.stages[i]
    found["stages"] = stages
    return found


@cython.final
cdef class Watch:
    """What has been told from one scan to the next: which rows are stuck, and until when stages were reached."""
    cdef uint64_t *stuck           # a bit for each row number
    cdef readonly int64_t until_s  # seconds of the ledger; -1: there was no scan yet

    def __cinit__(self):
        self.until_s = -1
        self.stuck = <uint64_t *>PyMem_RawCalloc(LEDGER_PLACES // 64, sizeof(uint64_t))
        if self.stuck == NULL:
            raise MemoryError(f"{LEDGER_PLACES // 8} bytes for the rows that are stuck")

    def __dealloc__(self):
        PyMem_RawFree(self.stuck)


@cython.final
cdef class Scan:
    """One look at all rows of a roll: step() for as long as it says that there is more, then what was counted.

    group_count: as many groups are told apart, the others are group 0.  companies: of each of them 4 octets, the number of
    the company that its machines belong to, below company_count; 0: none.  learns: what each company does, for habits().
    watch: what is new since its last scan is found, too."""
    cdef readonly Roll roll
    cdef const Rows *rows           # of the roll
    cdef readonly int64_t now_s
    cdef readonly uint32_t group_count
    cdef uint32_t place, company_count, relay_count
    cdef bytes companies_kept
    cdef const uint32_t *company_of_group
    cdef Counts *groups
    cdef Company *companies
    cdef RelayCounts *relays       # open addressing; which slot, nobody outside can tell
    cdef RelayCounts *relay        # of the row before
    cdef RelayCounts other_relays
    cdef uint64_t mixer
    cdef uint8_t place_of_stage[256]
    cdef readonly bint learns
    cdef uint64_t states[STATE_COUNT][PROGRESS_COUNT]
    cdef Watch watch
    cdef uint64_t *stuck           # of the watch
    cdef int64_t since_s
    cdef uint32_t found[3][FOUND_MAX]   # of each of FINDINGS, the places
    cdef uint32_t found_count[3]
    cdef uint32_t reached[STAGE_COUNT]

    def __cinit__(self, Roll roll not None, now_s: int, group_count: int = 1, bytes companies=b"", company_count: int = 1,
                  Watch watch=None, bint learns=True):
        cdef int stage
        for stage in range(256):
            self.place_of_stage[stage] = stage_place(<uint8_t>stage)
        self.learns = learns
        self.roll, self.rows, self.now_s, self.watch = roll, &roll.rows, now_s, watch
        self.group_count, self.company_count = max(1, group_count), max(1, company_count)
        self.companies_kept = companies.ljust(4 * self.group_count, b"\0")
        self.company_of_group = <const uint32_t *><const char *>self.companies_kept
        self.mixer = int.from_bytes(os.urandom(8), "little") | 1
        self.groups = <Counts *>PyMem_RawCalloc(self.group_count, sizeof(Counts))
        self.companies = <Company *>PyMem_RawCalloc(self.company_count, sizeof(Company))
        self.relays = <RelayCounts *>PyMem_RawCalloc(RELAY_SLOTS, sizeof(RelayCounts))
        if self.groups == NULL or self.companies == NULL or self.relays == NULL:
            raise MemoryError(f"{self.group_count} groups, {self.company_count} companies")
        if watch is not None:
            self.stuck = watch.stuck
            self.since_s = watch.until_s if watch.until_s >= 0 else self.now_s

    def __dealloc__(self):
        PyMem_RawFree(self.groups)
        PyMem_RawFree(self.companies)
        PyMem_RawFree(self.relays)

    def step(self, uint32_t rows) -> bool:
        """So many rows more; whether any are left."""
        cdef uint32_t end = places_of(self.rows), at
        cdef const Lease *lease
        with nogil:
            while self.place < end and rows != 0:
                rows -= 1
                at = self.place
                lease = row_at(self.rows, at)
                self.place = after(self.rows, at)
                if lease != NULL:
                    self.take(lease, at)
        if self.place < end:
            return True
        if self.watch is not None:
            self.watch.until_s = self.now_s
        return False

    cdef void take(self, const Lease *lease, uint32_t at) noexcept nogil:
        cdef uint32_t number = load32(&lease.lease_count) >> 8, group = group_at(self.rows, number)  # as enter() has it
        cdef const Entry *entry = self.rows.entries + number
        cdef Progress progress = progress_at(self.rows, lease, entry, self.now_s, group)
        cdef uint8_t stage
        cdef Counts *counts
        cdef RelayCounts *relay
        if group >= self.group_count:
            group = 0
        counts = self.groups + group
        self.states[state_of(lease)][<int>progress] += 1
        counts.progress[<int>progress] += 1
        if self.stuck != NULL:
            self.follow(at, number, progress, entry)
        if progress == NEVER:
            return
        stage = self.stage_of(entry)
        if stage != NO_STAGE:
            counts.stages[stage] += 1
        relay = self.relay_of(entry.giaddr_be)
        relay.counts.progress[<int>progress] += 1
        if stage != NO_STAGE:
            relay.counts.stages[stage] += 1
        if self.learns and lease.role == ROLE_HOST and is_answered(lease.state):
            self.join(self.company_of_group[group], entry)

    cdef inline uint8_t stage_of(self, const Entry *entry) noexcept nogil:
        return self.place_of_stage[stage_at(entry, <uint32_t>self.now_s, <uint32_t>self.rows.head.resumed_s)]

    cdef RelayCounts *relay_of(self, uint32_t giaddr_be) noexcept nogil:
        cdef RelayCounts *found = self.relay
        cdef uint32_t at
        if found != NULL and found.giaddr_be == giaddr_be:
            return found
        at = <uint32_t>((<uint64_t>giaddr_be + 1) * self.mixer >> RELAY_SHIFT)
        while self.relays[at].is_used and self.relays[at].giaddr_be != giaddr_be:
            at = (at + 1) & (RELAY_SLOTS - 1)
        found = self.relays + at
        if not found.is_used:
            if self.relay_count == RELAYS_MAX:
                return &self.other_relays
            self.relay_count += 1
            found.is_used, found.giaddr_be = 1, giaddr_be
        self.relay = found
        return found

    cdef void join(self, uint32_t number, const Entry *entry) noexcept nogil:
        cdef Company *company = self.companies + (number if number < self.company_count else 0)
        cdef uint8_t furthest = max(entry.stage, entry.reached) >> PHASE_SHIFT
        cdef uint16_t took_s
        cdef int i
        company.heard += 1
        company.reached[furthest & 3] += 1
        for i in range(2):
            took_s = entry.took_s[i][0]
            if took_s != 0:
                company.took[i][bits_of(took_s)] += 1

    cdef void follow(self, uint32_t at, uint32_t number, Progress progress, const Entry *entry) noexcept nogil:
        cdef uint64_t bit = <uint64_t>1 << (number & 63)
        cdef uint64_t *word = self.stuck + (number >> 6)
        cdef uint8_t stage
        if progress == STUCK:
            if not word[0] & bit:
                word[0] |= bit
                self.find(0, at)
        elif word[0] & bit:
            word[0] &= ~bit
            if progress != NEVER:  # or the number is another row's by now
                self.find(1, at)
        if progress != NEVER and self.since_s <= <int64_t>entry.stage_s and <int64_t>entry.stage_s < self.now_s:
            stage = self.stage_of(entry)
            if stage != NO_STAGE:
                self.reached[stage] += 1
                self.find(2, at)

    cdef void find(self, int what, uint32_t at) noexcept nogil:
        if self.found_count[what] < FOUND_MAX:
            self.found[what][self.found_count[what]] = at
        self.found_count[what] += 1

    # --- what was counted --------------------------------------------------------------------------------------------

    def totals(self) -> tuple:
        """({state: {progress: rows}}, {stage: rows of machines heard})"""
        cdef Counts whole
        cdef uint32_t i, j
        memset(&whole, 0, sizeof(whole))
        for i in range(self.group_count):
            add_up(&whole, self.groups + i)
        states = {}
        for i in range(STATE_COUNT):
            if STATES[i] == "tombstone":
                continue
            ours = states[STATES[i]] = {}
            for j in range(PROGRESS_COUNT):
                ours[PROGRESS[j]] = self.states[i][j]
        return states, told_counts(&whole)["stages"]

    def summed(self, bytes first not None, bytes members not None, uint32_t container_count) -> bytearray:
        """Counts of each container, for scores() and told().  members: numbers of containers, 4 octets each, those of the
        first group, of the second, ...; first: where those of each group begin, and the end.  Raises ValueError."""
        cdef const uint32_t *begins = <const uint32_t *><const char *>first
        cdef const uint32_t *each = <const uint32_t *><const char *>members
        cdef uint32_t group, i, room = len(members) // 4
        cdef Counts *into
        if len(first) < 4 * (self.group_count + 1):
            raise ValueError(f"{len(first)} octets for {self.group_count} groups")
        found = bytearray(container_count * sizeof(Counts))
        into = <Counts *><char *>found
        with nogil:
            for group in range(self.group_count):
                for i in range(begins[group], min(begins[group + 1], room)):
                    if each[i] < container_count:
                        add_up(into + each[i], self.groups + group)
        return found

    @staticmethod
    def scores(bytearray counts not None) -> list:
        """Of each container a number: the more are stuck, and then the more rows, the higher; 0: it has none."""
        cdef const Counts *each = <const Counts *><char *>counts
        cdef const Counts *end = each + len(counts) // sizeof(Counts)
        found = []
        while each < end:
            found.append(<uint64_t>each.progress[<int>STUCK] << 32 | rows_of(each))
            each += 1
        return found

    @staticmethod
    def told(bytearray counts not None, uint32_t place) -> dict:
        """{progress: rows, "stages": {stage: rows of machines heard}} of one container."""
        if <size_t>place >= len(counts) // sizeof(Counts):
            raise IndexError(f"no container {place}")
        return told_counts(<const Counts *><char *>counts + place)

    def by_relay(self, most: int) -> tuple:
        """({giaddr: as told()} of so many relays by which the most machines were heard last, 0: directly; as told() of all
        others; how many these are, RELAYS_MAX counted and beyond that one)."""
        cdef Counts others = self.other_relays.counts
        cdef uint32_t i
        used = []
        for i in range(RELAY_SLOTS):
            if self.relays[i].is_used:
                used.append((rows_of(&self.relays[i].counts), -<int64_t>swap32(self.relays[i].giaddr_be), i))
        chosen = heapq.nlargest(most, used)
        found = {}
        for _rows, negative, i in chosen:  # of as many machines the lowest address, so that it stays the same
            found[-negative] = told_counts(&self.relays[i].counts)
        for _rows, negative, i in used:
            if -negative not in found:
                add_up(&others, &self.relays[i].counts)
        return found, told_counts(&others), len(used) - len(chosen) + (rows_of(&self.other_relays.counts) != 0)

    def habits(self) -> bytes:
        """Of each group 8 octets, for Roll.learn()."""
        cdef Habit *into
        cdef Habit *each
        cdef uint32_t i, company
        found, of_company = bytearray(self.group_count * sizeof(Habit)), bytearray(self.company_count * sizeof(Habit))
        into, each = <Habit *><char *>found, <Habit *><char *>of_company
        for i in range(1, self.company_count):
            each[i] = habit_of(self.companies + i)
        for i in range(self.group_count):
            company = self.company_of_group[i]
            into[i] = each[company if company < self.company_count else 0]
        return bytes(found)

    def findings(self) -> dict:
        """With a watch: {of FINDINGS: (the first FOUND_MAX places, how many there are)}, and "stages": {stage: how many
        reached it}."""
        cdef uint32_t what, i
        told = {"stages": {}}
        for what in range(3):
            places = []
            for i in range(min(self.found_count[what], <uint32_t>FOUND_MAX)):
                places.append(self.found[what][i])
            told[FINDINGS[what]] = places, self.found_count[what]
        for i in range(STAGE_COUNT):
            if self.reached[i] != 0:
                told["stages"][STAGES[i]] = self.reached[i]
        return told
