"""What is worked out over the rows of a generation before it is sealed: the number that each bears, how many hosts they are, and
where each stands in the hash table."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ext.leases cimport Lease, Slot, slot_of
from ext.table cimport Generation


cdef class Numbers:
    cdef list kept                 # generations, what is served first
    cdef Generation base
    cdef uint64_t *taken
    cdef uint32_t words            # of taken
    cdef uint32_t lowest           # word that may have a free bit
    cdef uint32_t free_number(self) noexcept nogil
    cdef int give(self, Lease *leases, uint32_t count) except -1


cdef int64_t count_hosts(const Lease *leases, uint32_t count, const uint8_t *heap) except -1


cdef inline bint put_slot(Slot *slots, uint32_t slot_count, uint64_t key, uint32_t lease) noexcept nogil:
    cdef uint32_t at = slot_of(key, slot_count)
    while slots[at].key != 0:
        if slots[at].key == key:
            return False
        at = (at + 1) & (slot_count - 1)
    slots[at].key = key
    slots[at].lease = lease
    return True
