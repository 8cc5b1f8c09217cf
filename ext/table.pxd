"""What other extensions may take from ext.table: a mapped generation, and a pair of them as answer() wants it."""

from libc.stdint cimport uint32_t, uint64_t

from ext.leases cimport Lease, Site, Table


cdef class Generation:
    cdef Table table
    cdef void *at
    cdef size_t bytes

    cdef uint64_t host_hash(self, const Lease *first) noexcept nogil
    cdef object template_dict(self, uint32_t index)


cdef class Pair:
    cdef Site site
    cdef readonly Generation base
    cdef readonly Generation delta
