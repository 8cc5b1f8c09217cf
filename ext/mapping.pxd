"""Shared memory of others, mapped: pages to write into, sealed generations to read."""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t


cdef struct Mapping:
    void *at                       # NULL: nothing
    size_t bytes


cdef void unmap(Mapping *mapping) noexcept nogil
cdef void *map_shared(int fd, size_t bytes) except NULL
cdef Mapping map_generation(int fd) except *
cdef int is_that(int fd, uint64_t generation, uint64_t checksum) except -1
