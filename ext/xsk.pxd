"""AF_XDP: the memory that the workers of one receive queue share with each other and with the kernel, and its rings.

A *pool* is one queue of one interface: a memfd with frames (the kernel's umem) and, before them, what must outlive a
worker.  Each worker has two sockets on it (REQUESTs and the rest) with a ring each to receive from, and one ring to send.
Where frames come from and go back to, the fill and the completion ring, is one pair a pool: whoever puts something there
holds the pool's lock, and does not wait for it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from ext.net cimport MSG_DONTWAIT, getsockopt, load_acquire32, sendto, store_release32, take32
from ext.packet cimport PLAIN, Queue


cdef extern from *:
    """
    #include <linux/if_xdp.h>
    #ifndef SOL_XDP
    #define SOL_XDP 283
    #endif
    """
    cdef struct xdp_desc:
        uint64_t addr
        uint32_t len
        uint32_t options
    cdef struct xdp_ring_offset:
        uint64_t producer
        uint64_t consumer
        uint64_t desc
        uint64_t flags
    cdef struct xdp_mmap_offsets:
        xdp_ring_offset rx
        xdp_ring_offset tx
        xdp_ring_offset fr
        xdp_ring_offset cr
    cdef struct xdp_statistics:
        uint64_t rx_dropped
        uint64_t rx_ring_full
    int SOL_XDP, XDP_MMAP_OFFSETS, XDP_STATISTICS
    uint64_t XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_FILL_RING, XDP_UMEM_PGOFF_COMPLETION_RING


cdef enum:
    POOL_MAGIC = 0x6c6f6f70        # "pool"
    POOL_VERSION = 1
    POOLS_MAX = 16
    LANES = 64                     # workers
    FRAME_BYTES = 2048
    SENDING = 512                  # frames of one worker to send from
    SENDING_AT = 22                # of a frame: the payload then begins at a multiple of 64
    KICKS = 16                     # the kernel takes 32 frames at a call, and a batch has 64
    STAMP_BYTES = 8                # before a received frame: when the XDP program saw it, CLOCK_BOOTTIME; 0: no stamp


cdef struct Lane:                  # what a worker has done with its two rings: one writer, one cache line
    uint32_t taken[2]              # index up to which it has begun
    uint32_t answered[2]           # index up to which all replies are with the kernel
    uint32_t recoveries            # tries at the first frame that the last worker left behind
    uint32_t apart[11]


cdef struct Pool:
    uint32_t magic
    uint32_t version
    uint32_t workers
    uint32_t receiving             # frames that circulate; a power of two
    uint32_t ifindex
    uint32_t umem_at               # in the memfd
    uint8_t mac[6]                 # the interface's own
    uint8_t apart[34]
    uint32_t lock                  # 1 + slot of the worker that is at the fill or the completion ring; 0: nobody
    uint32_t returning_ring        # its note of what it is about: frames from this ring of its,
    uint32_t returning_from        # to be put into the fill ring from this index on,
    uint32_t returning             # and so many of them; 0: none
    uint8_t apart2[48]
    Lane lanes[LANES]
    uint8_t flights[LANES][SENDING]    # 1: given to the kernel, which has not returned it


cdef struct Ring:
    uint32_t *producer
    uint32_t *consumer
    void *entries
    uint32_t mask
    void *at
    size_t bytes


cdef struct Port:                  # one pool, as one worker has it
    Pool *pool
    Lane *lane
    uint8_t *umem
    uint8_t *flights
    size_t bytes
    uint32_t slot
    int fds[2]
    Ring received[2]
    Ring sending
    Ring fill
    Ring done
    uint32_t posted                # index behind the last frame written; the ring's producer follows
    uint32_t next                  # place to look for a free frame


cdef inline uint32_t waiting(const Port *port, Queue queue) noexcept nogil:
    return load_acquire32(port.received[<int>queue].producer) - port.lane.taken[<int>queue]


cdef inline const xdp_desc *received(const Port *port, Queue queue, uint32_t index) noexcept nogil:
    cdef const Ring *ring = &port.received[<int>queue]
    return <const xdp_desc *>ring.entries + (index & ring.mask)


cdef inline uint8_t *frame_of(const Port *port, Queue queue, uint32_t index) noexcept nogil:
    return port.umem + received(port, queue, index).addr


cdef inline uint8_t *free_frame(Port *port) noexcept nogil:
    """A frame to write a reply into, NULL while the kernel has them all.  It stays free until launch()."""
    cdef uint32_t at
    cdef int tries
    for tries in range(8):         # one that never comes back blocks nothing
        at = port.next & (SENDING - 1)
        port.next += 1
        if not port.flights[at]:
            return port.umem + (<size_t>port.pool.receiving + port.slot * SENDING + at) * FRAME_BYTES
    return NULL


cdef inline void post(Port *port, const uint8_t *frame, uint32_t length) noexcept nogil:
    """For the next launch()."""
    cdef xdp_desc *place = <xdp_desc *>port.sending.entries + (port.posted & port.sending.mask)
    place.addr = frame - port.umem
    place.len = length
    place.options = 0
    port.posted += 1


cdef inline uint32_t launch(Port *port) noexcept nogil:
    """Give what was posted to the kernel; how many frames it did not take at once.  Those go with the next launch."""
    cdef uint32_t index = port.sending.producer[0]
    cdef uint32_t first = port.slot * SENDING + port.pool.receiving
    cdef xdp_desc *places = <xdp_desc *>port.sending.entries
    cdef int kicks = 0
    while index != port.posted:
        port.flights[places[index & port.sending.mask].addr // FRAME_BYTES - first] = 1
        index += 1
    store_release32(port.sending.producer, port.posted)
    while load_acquire32(port.sending.consumer) != port.posted and kicks < KICKS:
        sendto(port.fds[<int>PLAIN], NULL, 0, MSG_DONTWAIT, NULL, 0)
        kicks += 1
    return port.posted - load_acquire32(port.sending.consumer)


cdef inline void refill(Port *port, int queue, uint32_t count) noexcept nogil:
    """With the lock: the frames of the oldest `count` answered requests go back to the kernel, in one store."""
    cdef Ring *ring = &port.received[queue]
    cdef uint64_t *places = <uint64_t *>port.fill.entries
    cdef uint32_t i, from_index = ring.consumer[0], to_index = port.fill.producer[0]
    port.pool.returning_ring = queue
    port.pool.returning_from = to_index
    store_release32(&port.pool.returning, count)
    for i in range(count):
        places[(to_index + i) & port.fill.mask] = received(port, <Queue>queue, from_index + i).addr & ~<uint64_t>(FRAME_BYTES - 1)
    store_release32(port.fill.producer, to_index + count)
    store_release32(ring.consumer, from_index + count)
    store_release32(&port.pool.returning, 0)


cdef inline void reclaim(Port *port) noexcept nogil:
    """With the lock: what the kernel has sent, of whichever worker, is free again.

    The index goes first: whoever dies in between leaves some frames unused, and never frees one twice."""
    cdef uint32_t i, index = port.done.consumer[0], end = load_acquire32(port.done.producer)
    cdef uint64_t[64] addresses
    while index != end:
        i = 0
        while i < 64 and index != end:
            addresses[i] = (<uint64_t *>port.done.entries)[index & port.done.mask]
            index += 1
            i += 1
        store_release32(port.done.consumer, index)
        while i > 0:
            i -= 1
            (&port.pool.flights[0][0])[addresses[i] // FRAME_BYTES - port.pool.receiving] = 0


cdef inline void give_back(Port *port) noexcept nogil:
    """Frames of answered requests to the fill ring, sent frames to their owners; later, when another one is at it."""
    cdef uint32_t[2] count
    cdef int queue
    for queue in range(2):
        count[queue] = port.lane.answered[queue] - port.received[queue].consumer[0]
    if count[0] + count[1] == 0 and load_acquire32(port.done.producer) == load_acquire32(port.done.consumer):
        return
    if not take32(&port.pool.lock, port.slot + 1):
        return
    for queue in range(2):
        if count[queue]:
            refill(port, queue, count[queue])
    reclaim(port)
    store_release32(&port.pool.lock, 0)


cdef inline uint64_t lost(const Port *port) noexcept nogil:
    """Frames that the worker's two sockets had no room for, since they were made."""
    cdef xdp_statistics counts
    cdef unsigned int length
    cdef uint64_t total = 0
    cdef int queue
    for queue in range(2):
        length = sizeof(counts)
        if getsockopt(port.fds[queue], SOL_XDP, XDP_STATISTICS, &counts, &length) == 0:
            total += counts.rx_dropped + counts.rx_ring_full
    return total


cdef inline void finish_for_the_dead(Port *port) noexcept nogil:
    """The last worker of this slot may have died with the lock.  Whether its frames had gone back shows in the fill ring,
    which nobody else has touched since."""
    cdef Pool *pool = port.pool
    if load_acquire32(&pool.lock) != port.slot + 1:
        return
    if pool.returning and port.fill.producer[0] != pool.returning_from:
        store_release32(port.received[pool.returning_ring].consumer, port.lane.answered[pool.returning_ring])
    store_release32(&pool.returning, 0)
    store_release32(&pool.lock, 0)


cdef int open_port(Port *port, int pool_fd, int plain_fd, int urgent_fd, uint32_t slot) except -1
cdef void close_port(Port *port) noexcept
