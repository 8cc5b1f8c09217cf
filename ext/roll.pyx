"""Rows of a table beside the boot ledger, one by one: which fit what somebody looks for, and what is known of each.

A million rows are looked through in pieces (Roll.look), so that whoever does it does something else in between; all of
them are counted by ext/scan.pyx.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree

from ext.leases cimport *
from ext.ledger cimport (LEDGER_PLACES, PHASE_NONE, PHASE_ROM, PHASE_SHIFT, PHASE_SYSTEM, STEP_ANSWERED, STEP_MASK, Entry,
                         LedgerHead, ledger_key)
from ext.table cimport Pair
from ext.verdict cimport GO_ON
from ext.wire cimport swap32

from ext import verdict as verdict_module
from ext.classify import ClientClass
from ext.ledger import PHASES, STEPS
from ext.table import STATES

PROGRESS = ("never", "booting", "stuck", "done", "unknown", "refused")
STAGES = tuple([f"{phase}-{step}" for phase in PHASES[1:] for step in STEPS])
VERDICTS = [verdict.name for verdict in verdict_module.Verdict if verdict != GO_ON]   # whoever writes there may write anything
CLASSES = {int(each): each.name for each in ClientClass}
IN_DOUBT_BIT = 1 << STATE_COUNT   # of Roll.look's states
assert len(STATES) == STATE_COUNT and len(PROGRESS) == PROGRESS_COUNT and len(STAGES) == STAGE_COUNT
assert sizeof(Habit) == 8


def stage_name(stage: int) -> str:
    """"rom-offered"; "" for none."""
    phase, step = stage >> PHASE_SHIFT, stage & STEP_MASK
    return f"{PHASES[phase]}-{STEPS[step]}" if 0 < phase < len(PHASES) and step < len(STEPS) else ""


cdef dict entry_of(const Rows *rows, const Lease *lease, int64_t now_s, int64_t behind_s):
    """now_s: of the ledger; behind_s: Ledger.behind_s()."""
    cdef const Entry *entry = rows.entries + number_of(lease)
    cdef uint8_t stage
    cdef uint32_t stage_s
    if entry.key != ledger_key(lease):
        return {"stage": "", "first_s": None, "last_s": None, "stage_s": None, "boot_s": None, "requests": 0,
                "silent": 0, "boots": 0, "verdict": None, "class": None, "relay": None, "reached": "", "took_s": []}
    stage = stage_at(entry, <uint32_t>now_s, <uint32_t>rows.head.resumed_s)
    stage_s = entry.stage_s if stage & STEP_MASK == STEP_ANSWERED else max(entry.stage_s, entry.again_s)
    return {
        "stage": stage_name(stage), "first_s": entry.first_s + behind_s, "last_s": entry.last_s + behind_s,
        "stage_s": stage_s + behind_s, "boot_s": entry.boot_s + behind_s, "requests": entry.requests,
        "silent": entry.silent, "boots": entry.boots,
        "verdict": VERDICTS[entry.verdict] if entry.verdict < len(VERDICTS) else f"{entry.verdict}",
        "class": CLASSES.get(entry.client_class, f"{entry.client_class}"), "relay": swap32(entry.giaddr_be) or None,
        "reached": stage_name(entry.reached),
        "took_s": [max(entry.took_s[0][0], entry.took_s[0][1]), max(entry.took_s[1][0], entry.took_s[1][1])],
    }


cdef dict judged_by(const Rows *rows, const Lease *lease, uint32_t group):
    """"habit": the phase that most of a company went on to, where the row is judged by that, else ""; "habit_s": the time
    in which nine of ten did, 0: not known; "ends": where the inventory says that its boots end, or ""."""
    cdef const Entry *entry = rows.entries + number_of(lease)
    cdef uint8_t phase = entry.stage >> PHASE_SHIFT, end = end_at(rows, group)
    cdef const Habit *habit
    found = {"habit": "", "habit_s": 0, "ends": PHASES[end] if end < len(PHASES) else ""}
    if group >= rows.habit_count or entry.key != ledger_key(lease):
        return found
    habit = rows.habit_of_group + group
    if PHASE_NONE < phase < habit.end <= PHASE_SYSTEM and is_end_unknown(entry, phase, end):
        found["habit"], found["habit_s"] = PHASES[habit.end], habit.took_s[phase - PHASE_ROM]
    return found


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
    (ext/rows.pyx: grouped); 0, and what lies behind the end: not known.  ends: of each group a Phase, 0: not said.
    doubtful: of each row number 4 octets, other than 0 where the row stays as it was because its record is in doubt.
    ledger: ext.ledger.Ledger."""

    def __cinit__(self, Pair pair not None, ledger, bytes groups=b"", bytes ends=b"", bytes doubtful=b""):
        cdef Rows *rows = &self.rows
        cdef LedgerHead *head = <LedgerHead *><size_t>ledger.address
        cdef const Lease *found
        cdef uint32_t i = 0, at
        self.pair, self.ledger, self.groups, self.ends, self.doubtful = pair, ledger, groups, ends, doubtful
        rows.head, rows.entries = head, head.entries
        rows.group_of_number, rows.group_count = <const uint32_t *><const char *>groups, len(groups) // 4
        rows.end_of_group, rows.end_count = <const uint8_t *><const char *>ends, len(ends)
        rows.doubt_of_number, rows.doubt_count = <const uint32_t *><const char *>doubtful, len(doubtful) // 4
        rows.base, rows.delta = &pair.site.base, &pair.site.delta
        self.learn(b"")
        rows.replaced = <uint8_t *>PyMem_RawCalloc(rows.base.lease_count // 8 + 1, 1)
        if rows.replaced == NULL:
            raise MemoryError(f"{rows.base.lease_count} rows")
        while i < rows.delta.lease_count:
            found = find_in(rows.base, key_of(rows.delta.leases[i].mac, rows.delta.leases[i].role))
            if found != NULL:
                at = <uint32_t>(found - rows.base.leases)
                rows.replaced[at >> 3] |= 1 << (at & 7)
            i += rows.delta.leases[i].lease_count

    def __dealloc__(self):
        PyMem_RawFree(self.rows.replaced)
        PyMem_RawFree(self.rows.place_of_number)

    def __len__(self) -> int:
        """Places."""
        return places_of(&self.rows)

    cdef int number_all(self) except -1:
        cdef Rows *rows = &self.rows
        cdef uint32_t place = 0, end = places_of(rows), number, last = 0
        cdef const Lease *lease
        if rows.place_of_number != NULL:
            return 0
        while place < end:
            lease = row_at(rows, place)
            if lease != NULL:
                last = max(last, number_of(lease))
            place = after(rows, place)
        rows.place_of_number = <uint32_t *>PyMem_RawCalloc(last + 1, sizeof(uint32_t))
        if rows.place_of_number == NULL:
            raise MemoryError(f"{last} row numbers")
        rows.number_end, place = last + 1, 0
        while place < end:
            lease = row_at(rows, place)
            if lease != NULL:
                number = number_of(lease)
                if number != 0:
                    rows.place_of_number[number] = place + 1
                else:
                    rows.unnumbered += 1
            place = after(rows, place)
        return 0

    def at(self, uint32_t place) -> int:
        """Where look() finds the row of a place: its number; or beyond all numbers, by its place, of one that has none."""
        cdef const Lease *lease = row_at(&self.rows, place)
        if lease == NULL:
            raise IndexError(f"no row at {place}")
        return number_of(lease) or LEDGER_PLACES + place

    def learn(self, bytes habits not None) -> None:
        """What a scan before has found (Scan.habits); counts from now on."""
        self.habits = habits
        self.rows.habit_of_group = <const Habit *><const char *>habits
        self.rows.habit_count = len(habits) // <int>sizeof(Habit)

    def look(self, uint32_t begin, uint32_t most, int64_t now_s, uint32_t states, uint32_t progresses,
             relay=None, uint32_t first=0, uint32_t last=0xffffffff, bytes wanted_groups=None) -> tuple:
        """(where to go on, 0: nowhere; [places]) of rows whose state and progress are in two sets of bits; and, where it is
        asked for, which were last heard by a relay, have an address from first to last, and are in a group of which the
        octet is not 0.  begin: as at(), so that whoever goes on in the roll of a later table leaves no row out.

        IN_DOUBT_BIT of states: rows in doubt, too, whatever their state."""
        cdef const Rows *rows = &self.rows
        cdef uint32_t end = LEDGER_PLACES + places_of(rows), place
        cdef const Lease *lease
        cdef const Entry *entry
        cdef uint32_t wanted_be = swap32(relay) if relay is not None else 0
        cdef bint by_relay = relay is not None, by_address = first != 0 or last != 0xffffffff
        cdef bint or_in_doubt = states >> STATE_COUNT & 1
        cdef const uint8_t *bits = NULL
        cdef uint32_t number, group, group_room = 0
        if wanted_groups is not None:
            bits, group_room = <const uint8_t *><const char *>wanted_groups, len(wanted_groups)
        self.number_all()
        found = []
        while most != 0:
            if rows.number_end <= begin < LEDGER_PLACES:
                begin = LEDGER_PLACES
            if begin >= end or (begin >= LEDGER_PLACES and rows.unnumbered == 0):
                return 0, found
            most -= 1
            if begin < LEDGER_PLACES:
                place = rows.place_of_number[begin]
                begin += 1
                if place == 0:
                    continue
                place -= 1
                lease = row_at(rows, place)
            else:
                place = begin - LEDGER_PLACES
                lease = row_at(rows, place)
                begin = LEDGER_PLACES + after(rows, place)
                if lease == NULL or number_of(lease) != 0:
                    continue
            number = number_of(lease)
            if not (states >> state_of(lease) & 1 or (or_in_doubt and is_in_doubt(rows, number))):
                continue
            entry, group = rows.entries + number, group_at(rows, number)
            if not progresses >> progress_at(rows, lease, entry, now_s, group) & 1:
                continue
            if bits != NULL and (group >= group_room or not bits[group]):
                continue
            if by_relay and (entry.key != ledger_key(lease) or entry.giaddr_be != wanted_be):
                continue
            if by_address and not has_address(lease, first, last):
                continue
            found.append(place)
        return begin if begin < rows.number_end or (rows.unnumbered != 0 and begin < end) else 0, found

    def place_of(self, mac: int, role: int) -> int:
        """Of a row; -1: there is none."""
        cdef const Rows *rows = &self.rows
        cdef uint64_t key = (<uint64_t>1 << 63) | (<uint64_t>role << 48) | <uint64_t>mac
        cdef const Lease *found = find_in(rows.delta, key)
        if found != NULL:
            return -1 if found.state == TOMBSTONE else <int64_t>(rows.base.lease_count + (found - rows.delta.leases))
        found = find_in(rows.base, key)
        return <int64_t>(found - rows.base.leases) if found != NULL else -1

    def name(self, uint32_t place) -> bytes:
        cdef uint32_t in_base = self.rows.base.lease_count
        cdef const Table *table = self.rows.base if place < in_base else self.rows.delta
        cdef const Lease *lease = table.leases + (place if place < in_base else place - in_base)
        return (<const char *>table.heap + lease.name_at)[:lease.name_bytes]

    def row(self, uint32_t place, int64_t now_s) -> dict:
        """What is known of one row; times are seconds since 1970, None where it was never heard.  Addresses are ints."""
        cdef const Rows *rows = &self.rows
        cdef const Lease *lease = row_at(rows, place)
        cdef uint32_t i, number, group
        if lease == NULL:
            raise IndexError(f"no row at {place}")
        number = number_of(lease)
        group = group_at(rows, number)
        return {
            "number": number, "mac": key_of(lease.mac, 0) & 0xffffffffffff, "role": lease.role,
            "name": self.name(place), "state": STATES[state_of(lease)],
            "addresses": [swap32(lease[i].address_be) for i in range(lease.lease_count)] if lease.state == SERVED else [],
            "port": lease.template_index if state_of(lease) == OTHER_PORT else None,
            "progress": PROGRESS[progress_at(rows, lease, rows.entries + number, now_s, group)],
            "group": group, "in_doubt": bool(is_in_doubt(rows, number)), **judged_by(rows, lease, group),
            **entry_of(rows, lease, now_s, self.ledger.behind_s()),
        }
