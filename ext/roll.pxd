"""All rows of a pair beside the boot ledger: each row once, and how far its machine is.  Inline, since it is read a million
rows at a time (ext/roll.pyx, ext/scan.pyx)."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from ext.leases cimport DISABLED, PROXIED, TOMBSTONE, Lease, Table, is_answered, number_of
from ext.ledger cimport (PHASE_NONE, PHASE_ROM, PHASE_SHIFT, PHASE_SYSTEM, STEP_ANSWERED, STEP_ASKED, STEP_MASK, Entry,
                         LedgerHead, is_trouble, ledger_key)
from ext.table cimport Pair
from ext.verdict cimport IGNORED_DISABLED, IGNORED_HELD, IGNORED_OTHER_PORT, IGNORED_OTHER_SERVER


cdef enum:
    PATIENCE_S = 60                # who asks or was offered something, and is not further after this, is stuck
    LATE_S = 60                    # beyond what the boots before took from one phase to the next,
    FIRST_TIME_S = 240             # and what a machine may take of which no boot before is known
    STATE_COUNT = 9
    STAGE_COUNT = 9                # that there are, each Phase with each Step
    NO_STAGE = 255


cdef enum Progress:                # of a row's machine
    NEVER                          # not heard since the ledger began
    BOOTING
    STUCK
    DONE                           # has its address, and goes no further by what is known
    UNKNOWN                        # has an address in an early phase, and nobody knows whether that is all; or asked when
                                   # its row had no answer to expect, and has one now
    REFUSED                        # asks, and by the inventory's word has no answer to expect
    PROGRESS_COUNT


cdef struct Habit:                 # 8 bytes; of a group: what most machines of its company do (Scan.habits)
    uint16_t end                   # the Phase that more than half of those heard have reached; 0: of too few is known
    uint16_t took_s[2]             # nine of ten went on so soon from the answer in ROM, and in LOADER; 0: nobody has
    uint16_t reserved


cdef struct Rows:                  # what a Roll is about
    const Table *base
    const Table *delta
    const LedgerHead *head
    const Entry *entries           # of the ledger
    uint8_t *replaced              # a bit for each lease of the base: the delta has another word about that row
    uint32_t *place_of_number      # and 1 more, 0: no row has the number; NULL until somebody looks
    uint32_t number_end            # no row has this number or a higher one
    uint32_t unnumbered            # rows of number 0: of tables of older builds
    const uint32_t *group_of_number
    const uint8_t *end_of_group    # the Phase in which boots end; 0: not said
    const Habit *habit_of_group
    const uint32_t *doubt_of_number
    uint32_t group_count
    uint32_t end_count
    uint32_t habit_count
    uint32_t doubt_count


cdef class Roll:
    cdef Rows rows
    cdef readonly Pair pair
    cdef readonly object ledger
    cdef readonly bytes groups, ends, habits, doubtful
    cdef int number_all(self) except -1


cdef inline uint32_t places_of(const Rows *rows) noexcept nogil:
    return rows.base.lease_count + rows.delta.lease_count


cdef inline const Lease *row_at(const Rows *rows, uint32_t place) noexcept nogil:
    """NULL: none that counts stands there."""
    cdef const Lease *lease
    if place < rows.base.lease_count:
        if rows.replaced[place >> 3] >> (place & 7) & 1:
            return NULL
        return rows.base.leases + place
    lease = rows.delta.leases + (place - rows.base.lease_count)
    if lease.state == TOMBSTONE:
        return NULL
    return lease


cdef inline uint32_t after(const Rows *rows, uint32_t place) noexcept nogil:
    if place >= rows.base.lease_count:
        return place + rows.delta.leases[place - rows.base.lease_count].lease_count
    return place + rows.base.leases[place].lease_count


cdef inline uint32_t group_at(const Rows *rows, uint32_t number) noexcept nogil:
    return rows.group_of_number[number] if number < rows.group_count else 0


cdef inline uint8_t end_at(const Rows *rows, uint32_t group) noexcept nogil:
    return rows.end_of_group[group] if group < rows.end_count else 0


cdef inline bint is_in_doubt(const Rows *rows, uint32_t number) noexcept nogil:
    return number < rows.doubt_count and rows.doubt_of_number[number] != 0


cdef inline uint8_t stage_place(uint8_t stage) noexcept nogil:
    """In STAGES; NO_STAGE: it is none."""
    cdef uint8_t phase = stage >> PHASE_SHIFT, step = stage & STEP_MASK
    if phase == PHASE_NONE or phase > PHASE_SYSTEM or step > STEP_ANSWERED:
        return NO_STAGE
    return <uint8_t>((phase - PHASE_ROM) * 3 + step)


cdef inline bint is_end_unknown(const Entry *entry, uint8_t phase, uint8_t end) noexcept nogil:
    """Neither the inventory nor a boot before says how far the machine's boots go."""
    return end == 0 and entry.reached >> PHASE_SHIFT <= phase and entry.reached & STEP_MASK == STEP_ASKED


cdef inline uint8_t stage_at(const Entry *entry, uint32_t now_s, uint32_t resumed_s) noexcept nogil:
    """Who asks anew where he had his address is where he was, unless he does not take it again within his patience."""
    cdef uint32_t again_s = max(entry.again_s, resumed_s)
    if entry.again_s == 0 or entry.stage & STEP_MASK == STEP_ANSWERED or (now_s > again_s and now_s - again_s > PATIENCE_S):
        return entry.stage
    return <uint8_t>(entry.stage & ~STEP_MASK | STEP_ANSWERED)


cdef inline Progress progress_of(const Lease *lease, const Entry *entry, uint32_t now_s, uint32_t resumed_s,
                                 uint8_t end, const Habit *habit) noexcept nogil:
    """resumed_s: nobody is late by the time before; end: the Phase in which the machine's boots end, 0 where nobody says;
    habit: what its company does, or NULL."""
    cdef uint8_t stage = stage_at(entry, now_s, resumed_s)
    cdef uint8_t phase = stage >> PHASE_SHIFT
    cdef bint is_told = stage & STEP_MASK == STEP_ANSWERED, is_in_trouble = is_trouble(entry.verdict)
    cdef uint32_t stage_s = max(entry.stage_s, resumed_s)
    cdef uint32_t since_s = max(stage_s, entry.trouble_s) if is_in_trouble else stage_s
    cdef bint is_late = now_s > since_s and now_s - since_s > PATIENCE_S
    cdef const uint16_t *took
    cdef uint32_t took_s
    if entry.key != ledger_key(lease):
        return NEVER
    if not is_answered(lease.state) and is_in_trouble:  # else it has not asked since, and may run for months
        return REFUSED if lease.state == DISABLED else STUCK
    if entry.verdict == IGNORED_DISABLED or entry.verdict == IGNORED_OTHER_PORT or entry.verdict == IGNORED_HELD:
        return UNKNOWN
    if lease.state == PROXIED or entry.verdict == IGNORED_OTHER_SERVER:
        is_told = stage & STEP_MASK != STEP_ASKED or phase == PHASE_SYSTEM   # its ACK is another server's
    elif is_in_trouble:
        return STUCK if is_late else BOOTING
    if not is_told:
        return STUCK if is_late else BOOTING
    if phase >= PHASE_SYSTEM or (end != 0 and phase >= end):
        return DONE
    if phase == PHASE_NONE:
        return UNKNOWN
    took = entry.took_s[phase - PHASE_ROM]
    took_s = max(took[0], took[1])
    if is_end_unknown(entry, phase, end):
        if habit == NULL or habit.end <= phase:
            return UNKNOWN
        took_s = habit.took_s[phase - PHASE_ROM]
    elif end == 0 and entry.reached >> PHASE_SHIFT <= phase:
        return DONE
    if took_s == 0:
        took_s = FIRST_TIME_S
    return STUCK if now_s > stage_s and now_s - stage_s > took_s + <uint32_t>LATE_S else BOOTING


cdef inline Progress progress_at(const Rows *rows, const Lease *lease, const Entry *entry, int64_t now_s,
                                 uint32_t group) noexcept nogil:
    return progress_of(lease, entry, <uint32_t>now_s, <uint32_t>rows.head.resumed_s, end_at(rows, group),
                       rows.habit_of_group + group if group < rows.habit_count else NULL)
