"""Layout of the shared memory: one page a worker slot (counters, event ring, receive buffers) with the worker's
own headers behind it, one of control's.

The supervisor keeps the fds, so a page outlives the worker that writes it: counters go on, and a batch that was received
but not answered is answered by the replacement.  Every word has one writer; readers take what they see.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t

from ext.latency cimport Histogram
from ext.net cimport bump, full_fence, iovec, load_acquire, mmsghdr, sockaddr_in, store_release
from ext.record cimport RECORDS, Record
from ext.verdict cimport VERDICT_COUNT


cdef enum:
    PAGE_MAGIC = 0x67617062        # "bpag"
    PAGE_VERSION = 6
    APART = 1 << 16
    BATCH = 64
    RX_BYTES = 1536                # one Ethernet MTU; more is IGNORED_TRUNCATED
    CONTROL_BYTES = 128            # IP_PKTINFO and a time stamp with room to spare
    URGENT_SHARE = 48              # of a batch, at most: REQUESTs, which are nearer to done
    BOOT_SHARE = 8                 # of a batch, at most: what came to the boot port, looked at in every 16th turn only
    EVENTS = 4096                  # power of two; sightings and strangers leave half of it to refused hosts
    COUNTERS = 64                  # by verdict, with room for more
    SEND_ERRORS = 16
    RECOVERIES_MAX = 3             # a datagram that ended this many workers is given up


cdef packed struct Event:          # 128 bytes: a host that waits for an answer that it does not get, or one that was seen
    int64_t boottime_ns
    uint32_t xid_be
    uint32_t ifindex
    uint32_t giaddr_be
    uint32_t ciaddr_be
    uint32_t requested_be
    uint32_t server_id_be
    uint32_t source_be
    uint8_t mac[6]
    uint8_t verdict
    uint8_t message_type
    uint8_t htype
    uint8_t vendor_bytes
    uint8_t vendor[18]             # beginning of option 60
    uint8_t client_class
    uint8_t role
    uint8_t client_state           # of a REQUEST, one of ext.classify.ClientState
    uint8_t repeats                # a sighting: ACKs of this host in this class within LOOP_S, as far as a byte counts
    uint8_t client_id_bytes
    uint8_t relay_agent_bytes
    uint8_t client_id[28]          # beginning of option 61: a DUID with its UUID, and the IAID before it, whole
    uint8_t relay_agent[30]        # beginning of option 82


cdef struct Page:
    uint32_t magic
    uint32_t version
    uint32_t slot
    uint32_t pid
    uint64_t heartbeat_ns          # CLOCK_MONOTONIC of the last turn of the loop
    uint64_t generation            # adopted: what the next batch is answered from
    uint64_t rx
    uint64_t tx
    uint64_t recoveries            # tries at the first datagram that the last worker left behind
    uint64_t recovered             # datagrams answered for a dead worker
    uint64_t boot_count            # the batch's first ones, which came to the boot port; set before they are received
    uint64_t by_verdict[COUNTERS]
    uint64_t send_errors[SEND_ERRORS]
    uint64_t events_lost           # ring full
    uint64_t sightings_lost        # its half full
    uint64_t frames_lost           # by XDP, for want of room; the kernel's own count
    uint64_t records_written
    uint64_t events_head           # next to be written, by the worker
    uint64_t records_left_out      # strangers' that would have pushed hosts' out of the flight recorder
    uint8_t apart[56]              # another writer, another cache line
    uint64_t events_tail           # next to be read, by control
    uint8_t apart2[64]
    Event events[EVENTS]
    sockaddr_in names[BATCH]
    uint8_t control[BATCH][CONTROL_BYTES]
    uint8_t buffers[BATCH][RX_BYTES]
    Record records[RECORDS]        # the flight recorder
    # In room that every page of this version has before its inbox.  Workers of builds without these leave zeros there.
    Histogram waits                # of requests, from their arrival until the worker has their batch
    Histogram answers              # of replies, from then until all of the batch are with the kernel


cdef struct Inbox:                 # behind the page, and mapped by the slot's worker alone: the kernel follows these pointers
    mmsghdr headers[BATCH]         # msg_len 0: answered, or never filled
    iovec pieces[BATCH]


cdef inline size_t inbox_at() noexcept nogil:
    """Its place in the memfd: no mapping of the page reaches it, whatever the machine's page size."""
    return (sizeof(Page) + APART - 1) & ~<size_t>(APART - 1)


cdef struct SitePage:              # written by control, read by every worker
    uint32_t magic
    uint32_t version
    int64_t confirmed_boottime_s   # when the inventory last confirmed the table, CLOCK_BOOTTIME; may lie before the boot
    int64_t dated_s                # since 1970: date on the disk that this was made of; 0 once the inventory said it


cdef enum Pushed:
    LOST
    PUSHED
    PUSHED_ASLEEP                  # the reader may be asleep and wants its bell rung


cdef inline Pushed push_event(Page *page, const Event *event, uint64_t room, uint64_t *lost) noexcept nogil:
    """room: of the ring, for events of this kind."""
    cdef uint64_t head = page.events_head
    cdef uint64_t tail = load_acquire(&page.events_tail)
    if head - tail >= room:
        bump(lost, 1)
        return LOST
    page.events[head & (EVENTS - 1)] = event[0]
    store_release(&page.events_head, head + 1)
    full_fence()                   # the reader stores its tail and then looks at head once more
    return PUSHED_ASLEEP if load_acquire(&page.events_tail) == head else PUSHED
