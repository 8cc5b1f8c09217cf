"""Off the packet path: make a pool's memory, map a worker's part of it and its rings, unmap them."""

from libc.errno cimport errno as c_errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import os

from ext.net cimport MAP_FAILED, MAP_POPULATE, MAP_SHARED, PROT_READ, PROT_WRITE, getsockopt, mmap, munmap
from ext.xsk cimport *

POOL_LAYOUT = POOL_VERSION
POOLS = POOLS_MAX
FRAME = FRAME_BYTES
SENDING_FRAMES = SENDING
UMEM_AT = (sizeof(Pool) + 4095) // 4096 * 4096
assert sizeof(Lane) == 64


def umem_bytes(int workers, int receiving) -> int:
    """Of a pool: `receiving` frames that circulate and those that each worker sends from."""
    return (receiving + workers * SENDING) * FRAME_BYTES


def create_pool(int workers, int receiving, int ifindex, bytes mac) -> int:
    """A new memfd with an empty pool; the caller owns the fd.  receiving: a power of two."""
    cdef Pool pool
    memset(&pool, 0, sizeof(Pool))
    pool.magic = POOL_MAGIC
    pool.version = POOL_VERSION
    pool.workers = workers
    pool.receiving = receiving
    pool.ifindex = ifindex
    pool.umem_at = UMEM_AT
    memcpy(pool.mac, <const uint8_t *>mac, 6)
    fd = os.memfd_create("bootstorm-xdp", os.MFD_CLOEXEC)
    os.ftruncate(fd, UMEM_AT + umem_bytes(workers, receiving))
    os.pwrite(fd, (<const char *>&pool)[:sizeof(Pool)], 0)
    return fd


cdef int map_ring(Ring *ring, int fd, uint64_t at, const xdp_ring_offset *offsets, uint32_t entries,
                  size_t entry_bytes) except -1:
    ring.bytes = offsets.desc + entries * entry_bytes
    ring.at = mmap(NULL, ring.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, at)
    if ring.at == MAP_FAILED:
        ring.at = NULL
        raise OSError(c_errno, f"cannot map a ring of the XDP socket behind fd {fd} ({ring.bytes} bytes at {at:#x}); "
                               "needs Linux 6.4 or newer")
    ring.producer = <uint32_t *>(<uint8_t *>ring.at + offsets.producer)
    ring.consumer = <uint32_t *>(<uint8_t *>ring.at + offsets.consumer)
    ring.entries = <uint8_t *>ring.at + offsets.desc
    ring.mask = entries - 1
    return 0


cdef int open_port(Port *port, int pool_fd, int plain_fd, int urgent_fd, uint32_t slot) except -1:
    """Map everything; the sockets are bound already, perhaps long since by another process.  Raises OSError."""
    cdef xdp_mmap_offsets offsets
    cdef uint32_t length = sizeof(offsets)
    cdef uint32_t flights
    port.bytes = os.fstat(pool_fd).st_size
    port.pool = <Pool *>mmap(NULL, port.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, pool_fd, 0)
    if port.pool == MAP_FAILED:
        port.pool = NULL
        raise OSError(c_errno, f"cannot map the pool behind fd {pool_fd} ({port.bytes} bytes)")
    if getsockopt(plain_fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) != 0:
        raise OSError(c_errno, f"cannot ask the socket behind fd {plain_fd} for the places of its rings")
    port.umem = <uint8_t *>port.pool + port.pool.umem_at
    port.lane = &port.pool.lanes[slot]
    port.flights = port.pool.flights[slot]
    port.slot = slot
    port.fds[0], port.fds[1] = plain_fd, urgent_fd
    flights = completions(port.pool.workers)
    map_ring(&port.received[0], plain_fd, XDP_PGOFF_RX_RING, &offsets.rx, port.pool.receiving, sizeof(xdp_desc))
    map_ring(&port.received[1], urgent_fd, XDP_PGOFF_RX_RING, &offsets.rx, port.pool.receiving, sizeof(xdp_desc))
    map_ring(&port.sending, plain_fd, XDP_PGOFF_TX_RING, &offsets.tx, SENDING, sizeof(xdp_desc))
    map_ring(&port.fill, plain_fd, XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, port.pool.receiving, sizeof(uint64_t))
    map_ring(&port.done, plain_fd, XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, flights, sizeof(uint64_t))
    port.posted = port.sending.producer[0]
    port.next = port.posted
    return 0


cpdef uint32_t completions(uint32_t workers):
    """Entries of the completion ring: room for every frame that may be under way, so that none is ever refused."""
    cdef uint32_t size = SENDING
    while size < workers * SENDING:
        size *= 2
    return size


cdef void unmap_ring(Ring *ring) noexcept:
    if ring.at != NULL:
        munmap(ring.at, ring.bytes)
        ring.at = NULL


cdef void close_port(Port *port) noexcept:
    unmap_ring(&port.received[0])
    unmap_ring(&port.received[1])
    unmap_ring(&port.sending)
    unmap_ring(&port.fill)
    unmap_ring(&port.done)
    if port.pool != NULL:
        munmap(port.pool, port.bytes)
        port.pool = NULL
