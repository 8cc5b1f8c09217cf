"""The numbers of rows, and hosts by their rows; ext/builder.pyx asks before it seals.

A row's number is its own for as long as any kept generation bears it: through bases, deltas, rollbacks and restarts.  It is
in no digest: nothing is published for a number's sake.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ext.leases cimport *
from ext.table cimport Generation, Pair

cdef enum:
    NUMBERS_MAX = 1 << 24          # 0 is none

ROW_NUMBERS_MAX = NUMBERS_MAX - 1


cdef extern from *:
    """
    #define BS_FIRST_ZERO(word) ((uint32_t)__builtin_ctzll(~(word)))
    """
    uint32_t first_zero "BS_FIRST_ZERO"(uint64_t) noexcept nogil


cdef class Numbers:
    """For the rows of one generation to be.  kept: generations whose numbers stay theirs, what is served first; base: of a
    delta, whose rows bear what the base's rows of the same keys do, none too.

    A row that another kept generation has bears the same number as there, a new one the lowest that none of them bears."""

    def __cinit__(self, kept, Generation base=None):
        cdef Generation each
        cdef const uint64_t *bits
        cdef uint32_t i, words
        self.kept, self.base = list(kept), base
        self.taken = <uint64_t *>PyMem_RawCalloc(NUMBERS_MAX // 64, sizeof(uint64_t))
        if self.taken == NULL:
            raise MemoryError(f"{NUMBERS_MAX // 8} bytes for the numbers of rows")
        self.taken[0] = 1
        for each in (*self.kept, *((base,) if base is not None else ())):
            borne = each.numbers_borne()
            bits, words = <const uint64_t *><const char *><bytes>borne, <uint32_t>(len(borne) // sizeof(uint64_t))
            for i in range(words):
                self.taken[i] |= bits[i]

    def __dealloc__(self):
        PyMem_RawFree(self.taken)

    cdef uint32_t free_number(self) noexcept nogil:
        """The lowest that nobody has, which has it from now on; 0: all are taken."""
        cdef uint32_t number
        while self.lowest < NUMBERS_MAX // 64 and self.taken[self.lowest] == ~<uint64_t>0:
            self.lowest += 1
        if self.lowest == NUMBERS_MAX // 64:
            return 0
        number = self.lowest * 64 + first_zero(self.taken[self.lowest])
        self.taken[self.lowest] |= <uint64_t>1 << (number & 63)
        return number

    cdef int give(self, Lease *leases, uint32_t count) except -1:
        """Into all leases of each row."""
        cdef const Table *tables[8]
        cdef const Table *base = &self.base.table if self.base is not None else NULL
        cdef uint32_t hints[8]
        cdef uint32_t many = 0, at = 0, i, number
        cdef const Lease *known
        cdef uint64_t key
        cdef Generation each
        if len(self.kept) > 8:
            raise ValueError(f"{len(self.kept)} generations are kept")
        for each in self.kept:
            tables[many], hints[many] = &each.table, 0
            many += 1
        with nogil:
            while at < count:
                key = key_of(leases[at].mac, leases[at].role)
                known = find_in(base, key) if base != NULL else NULL
                if known != NULL:
                    number = number_of(known)
                else:
                    number = 0
                    for i in range(many):
                        # A base is read in the order in which it was written: nearly always its next row is this one.
                        known = tables[i].leases + hints[i]
                        if hints[i] >= tables[i].lease_count or key_of(known.mac, known.role) != key:
                            known = find_in(tables[i], key)
                        if known == NULL:
                            continue
                        hints[i] = <uint32_t>(known - tables[i].leases) + known.lease_count
                        number = number_of(known)
                        if number != 0:
                            break
                    if number == 0:
                        number = self.free_number()
                for i in range(leases[at].lease_count):
                    set_number(leases + at + i, number)
                at += leases[at].lease_count
        return 0


def grouped(Pair pair not None, parts, bytes before not None=b"") -> bytes:
    """Of each row number of a pair 4 octets, the number of a group.  parts: [(array of "Q", keys of rows; array of "I", the
    group of each)]; before: what stays for rows that are in none of them."""
    cdef const uint64_t[:] keys
    cdef const uint32_t[:] groups
    cdef uint32_t *into
    cdef const Lease *lease
    cdef uint64_t i, room = len(before) // 4
    cdef Table *tables[2]
    cdef int at
    tables[0], tables[1] = &pair.site.base, &pair.site.delta
    for at in range(2):
        i = 0
        while i < tables[at].lease_count:
            room = max(room, <uint64_t>number_of(tables[at].leases + i) + 1)
            i += tables[at].leases[i].lease_count
    found = bytearray(before.ljust(4 * room, b"\0"))
    into = <uint32_t *><char *>found
    for keys, groups in parts:
        for i in range(<uint64_t>len(keys)):
            lease = find_in(tables[1], <uint64_t>1 << 63 | keys[i])
            if lease == NULL:
                lease = find_in(tables[0], <uint64_t>1 << 63 | keys[i])
            if lease != NULL:
                into[number_of(lease)] = groups[i]
    return bytes(found)


cdef int64_t count_hosts(const Lease *leases, uint32_t count, const uint8_t *heap) except -1:
    """Objects with an answered row that is no BMC's, however many cards they have."""
    cdef uint64_t room = 64, identity, place
    cdef uint64_t *seen
    cdef uint32_t at = 0
    cdef int64_t hosts = 0
    while room < 2 * <uint64_t>count:
        room *= 2
    seen = <uint64_t *>PyMem_RawCalloc(room, sizeof(uint64_t))
    if seen == NULL:
        raise MemoryError(f"{count} identities")
    with nogil:
        while at < count:
            if leases[at].role == ROLE_HOST and is_answered(leases[at].state):
                memcpy(&identity, heap + leases[at].own_at - IDENTITY_BYTES, IDENTITY_BYTES)
                identity |= identity == 0
                place = (identity * <uint64_t>0x9E3779B97F4A7C15 >> 20) & (room - 1)
                while seen[place] != 0 and seen[place] != identity:
                    place = (place + 1) & (room - 1)
                hosts += seen[place] == 0
                seen[place] = identity
            at += leases[at].lease_count
    PyMem_RawFree(seen)
    return hosts
