"""Off the packet path: maps pages and generations, and says what is wrong with an fd that cannot be."""

from libc.errno cimport errno as c_errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

import os

from ext.leases cimport Header
from ext.net cimport (MAP_FAILED, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, is_sealed, mmap,
                      munmap)


class GenerationRejected(Exception):
    """A generation that a worker cannot adopt; it goes on with the one that it has."""


cdef void unmap(Mapping *mapping) noexcept nogil:
    if mapping.at != NULL:
        munmap(mapping.at, mapping.bytes)
        mapping.at = NULL


cdef void *map_shared(int fd, size_t bytes) except NULL:
    cdef void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if at == MAP_FAILED:
        raise OSError(c_errno, f"cannot map the shared page behind fd {fd} ({bytes} bytes)")
    return at


cdef Mapping map_generation(int fd) except *:
    cdef Mapping mapping
    mapping.bytes = os.fstat(fd).st_size
    if mapping.bytes < sizeof(Header):
        raise GenerationRejected(f"generation fd {fd}: {mapping.bytes} bytes, a header alone has {sizeof(Header)}")
    if not is_sealed(fd):
        raise GenerationRejected(f"generation fd {fd}: not sealed, it could change or end while it is read")
    with nogil:
        mapping.at = mmap(NULL, mapping.bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0)
    if mapping.at == MAP_FAILED:
        raise OSError(c_errno, f"cannot map generation fd {fd} ({mapping.bytes} bytes)")
    return mapping


cdef int is_that(int fd, uint64_t generation, uint64_t checksum) except -1:
    """Whether the generation behind fd is that one, without mapping it.  The number alone does not tell: machines of a
    fleet have numbered bases of their own, and numbers come again after a disk was lost."""
    cdef Header header
    head = os.pread(fd, sizeof(Header), 0)
    if len(head) < sizeof(Header):
        return False
    memcpy(&header, <const uint8_t *>head, sizeof(Header))
    return header.generation == generation and header.checksum == checksum
