"""What other extensions may take from ext.table: a mapped generation, a pair of them as answer() wants it, and the hashes
by which contents are told apart."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from ext.leases cimport ClassField, Header, Lease, Site, Table, identity_of
from ext.places cimport Places


cdef class Generation:
    cdef Table table
    cdef void *at
    cdef size_t bytes
    cdef readonly object classes   # ext.site_classes.ClassNumbers
    cdef bytes borne

    cdef uint64_t host_hash(self, const Lease *first, bint with_identity=*) noexcept nogil
    cdef list owner(self, const Lease *lease)
    cdef object template_dict(self, uint32_t index, bint whole=*)
    cdef list variants_of(self, uint32_t index)
    cdef bytes section_bytes(self, uint32_t kind)
    cdef void verify_classes(self) except *
    cdef bint texts_are_right(self, const ClassField *field) noexcept
    cdef bint variants_exist(self, uint32_t index) noexcept
    cdef bint is_proxied_right(self, const Lease *lease) noexcept


cdef class Pair:
    cdef Site site
    cdef Places *places            # of the site, and ours to free
    cdef readonly Generation base
    cdef readonly Generation delta


cdef bytes unsummed(const Header *header)
cdef object view_of(const uint8_t *at, uint64_t length)


cdef inline uint64_t mix(uint64_t seed, const uint8_t *at, size_t length) noexcept nogil:
    """FNV-1a with a final avalanche: tells contents apart, is no defence against an adversary."""
    cdef size_t i
    cdef uint64_t value = seed ^ <uint64_t>0xcbf29ce484222325
    for i in range(length):
        value = (value ^ at[i]) * <uint64_t>0x100000001b3
    value = (value ^ (value >> 32)) * <uint64_t>0x9E3779B97F4A7C15
    return value ^ (value >> 29)


cdef inline uint64_t lease_hash(uint64_t seed, const Lease *lease, const uint8_t *heap,
                                uint64_t template_hash) noexcept nogil:
    cdef uint64_t value = seed ^ template_hash
    value = mix(value, lease.mac, 12)                      # mac, role, state, address: they stand side by side
    value = mix(value ^ lease.prefix, heap + lease.own_at, lease.own_bytes)
    return mix(value, heap + lease.name_at, lease.name_bytes)


cdef inline bint are_options(const uint8_t *at, size_t length) noexcept nogil:
    """Whole options one after the other, no PAD, no END: encode.pxd walks and copies them on trust."""
    cdef const uint8_t *end = at + length
    while at < end:
        if at[0] == 0 or at[0] == 255 or end - at < 2 or end - at - 2 < at[1]:
            return False
        at += 2 + at[1]
    return True
