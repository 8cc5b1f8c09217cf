"""The packet path without I/O: prefetch, parse, look up, judge, encode, timed batch by batch as a worker does it.

Filling the buffers is not timed, and leaves them in the cache, as the kernel's copy does.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from array import array

from bench.engine.wire cimport now_ns
from ext.answer cimport answer
from ext.judge cimport Decision
from ext.leases cimport Site, prefetch_entry, prefetch_lease, prefetch_slot
from ext.ledger cimport Book, LedgerHead, enter, ledger_bytes, open_book
from ext.mapping cimport map_shared
from ext.net cimport munmap
from ext.packet cimport Packet, Reply
from ext.request cimport Request
from ext.rfc2131 cimport CHADDR_AT, Bootp, IP_UDP_BYTES
from ext.table cimport Pair
from ext.verdict cimport VERDICT_COUNT, Verdict as CVerdict
from ext.wire cimport swap16, swap32

cdef enum:
    BATCH = 64                     # a worker's
    RX_BYTES = 1536
    REQUEST_BYTES = 512


@cython.final
cdef class Core:
    """Relayed requests of hosts counted up from first_mac and first_address, in random order, alternately one form and
    the other.  forms: (bytes, offset of option 50, offset of the MAC in option 61), offset 0 = none."""
    cdef Pair pair                 # keeps the mapping alive
    cdef uint64_t first_mac, noise
    cdef uint32_t first_address, hosts, server_be, giaddr_be, ifindex
    cdef uint8_t forms[2][REQUEST_BYTES]
    cdef uint32_t form_bytes[2]
    cdef uint32_t requested_at[2]
    cdef uint32_t client_id_at[2]
    cdef uint8_t rx[BATCH][RX_BYTES]
    cdef uint8_t tx[BATCH][RX_BYTES]
    cdef uint64_t verdicts[VERDICT_COUNT]
    cdef Book book                 # as a worker's; without a ledger where none was given

    def __cinit__(self, Pair pair not None, *, uint64_t first_mac, uint32_t first_address, uint32_t hosts,
                  uint32_t server, uint32_t giaddr, uint32_t ifindex, forms, uint64_t seed=1, int ledger_fd=-1):
        cdef int i
        if hosts == 0 or len(forms) != 2:
            raise ValueError(f"{hosts} hosts, {len(forms)} forms: wanted at least one host and two forms")
        self.pair, self.first_mac, self.first_address, self.hosts = pair, first_mac, first_address, hosts
        self.server_be, self.giaddr_be, self.ifindex = swap32(server), swap32(giaddr), ifindex
        self.noise = seed * 2 + 1
        for i in range(2):
            data, requested_at, client_id_at = forms[i]
            if len(data) > REQUEST_BYTES:
                raise ValueError(f"a request of {len(data)} bytes, wanted at most {REQUEST_BYTES}")
            memcpy(self.forms[i], <const char *><bytes>data, len(data))
            self.form_bytes[i], self.requested_at[i], self.client_id_at[i] = len(data), requested_at, client_id_at

        if ledger_fd >= 0:
            open_book(&self.book, <LedgerHead *>map_shared(ledger_fd, ledger_bytes()))
            self.pair.site.ledger = self.book.head.entries

    def __dealloc__(self):
        if self.book.head != NULL:
            self.pair.site.ledger = NULL
            munmap(self.book.head, ledger_bytes())

    cdef uint32_t any_host(self) noexcept nogil:
        self.noise ^= self.noise << 13
        self.noise ^= self.noise >> 7
        self.noise ^= self.noise << 17
        return <uint32_t>((self.noise >> 32) * self.hosts >> 32)

    cdef void fill(self) noexcept nogil:
        cdef int i, form, j
        cdef uint32_t host, address_be
        cdef uint64_t mac
        cdef Bootp *bootp
        for i in range(BATCH):
            form = i & 1
            host = self.any_host()
            mac = self.first_mac + host
            bootp = <Bootp *>self.rx[i]
            memcpy(self.rx[i], self.forms[form], self.form_bytes[form])
            bootp.xid_be = host
            bootp.hops = 1
            bootp.giaddr_be = self.giaddr_be
            for j in range(6):
                bootp.chaddr[j] = <uint8_t>(mac >> (40 - 8 * j))
            address_be = swap32(self.first_address + host)
            if self.requested_at[form]:
                memcpy(self.rx[i] + self.requested_at[form], &address_be, 4)
            if self.client_id_at[form]:
                memcpy(self.rx[i] + self.client_id_at[form], bootp.chaddr, 6)

    cdef void think(self) noexcept nogil:
        """What stands between recvmmsg and sendmmsg (ext/pump.pyx), without them."""
        cdef int i
        cdef Packet packet
        cdef Request request
        cdef Decision decision
        cdef Reply reply
        cdef CVerdict verdict
        cdef const Site *site = &self.pair.site
        for i in range(BATCH):
            prefetch_slot(site, self.rx[i] + CHADDR_AT)
        for i in range(BATCH):
            prefetch_lease(site, self.rx[i] + CHADDR_AT)
        for i in range(BATCH):
            prefetch_entry(site, self.rx[i] + CHADDR_AT)
        for i in range(BATCH):
            packet.data, packet.length, packet.truncated = self.rx[i], self.form_bytes[i & 1], False
            packet.waited_ns = 0
            packet.at_boot_port = False
            packet.ifindex, packet.source_be, packet.source_port_be = self.ifindex, self.giaddr_be, swap16(67)
            packet.destination_be = packet.local_be = self.server_be
            reply.data, reply.capacity = self.tx[i] + IP_UDP_BYTES, RX_BYTES - IP_UDP_BYTES
            verdict = answer(site, &packet, &request, &decision, &reply)
            self.verdicts[<int>verdict] += 1
            if self.book.head != NULL:
                enter(&self.book, decision.host.lease, &request, verdict)

    def measure(self, int batches):
        """Nanoseconds of each batch of 64 packets, as an array."""
        cdef int i
        cdef int64_t before
        times = array("q", bytes(8 * batches))
        cdef int64_t[:] spent = times
        with nogil:
            for i in range(batches):
                self.fill()
                before = now_ns()
                self.think()
                spent[i] = now_ns() - before
        return times

    def work(self, int batches, bint thinking):
        """The same without a clock, for counting instructions; without thinking: the filling alone."""
        cdef int i
        with nogil:
            for i in range(batches):
                self.fill()
                if thinking:
                    self.think()

    def counters(self) -> list:
        """How often each verdict came out, by its number."""
        return [self.verdicts[i] for i in range(<int>VERDICT_COUNT)]
