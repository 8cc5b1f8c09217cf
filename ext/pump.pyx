"""A worker's loop: recvmmsg -> answer() -> sendmmsg.  I/O only; what to say is answer.pxd's.

Runs without the GIL, allocates nothing, takes no lock.  A helper thread of the worker (fastpath/worker.py) offers new
generations; the loop swaps them in between two batches and tells it, so that mapping and unmapping never stall a packet.
"""

cimport cython
from libc.errno cimport errno as c_errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import os

from ext.answer cimport answer
from ext.encode cimport ROUTE_FRAME, ROUTE_UDP, Reply
from ext.judge cimport Decision, Packet
from ext.leases cimport *
from ext.net cimport *
from ext.page cimport *
from ext.notes cimport Notebook, note, prefetch_known, sight
from ext.overload cimport Shares, Waits, is_over_share, note_turn, relay_of, share_out, wait_of
from ext.parse cimport Request
from ext.record cimport record
from ext.rfc2131 cimport Bootp, IP_UDP_BYTES
from ext.verdict cimport *
from ext.wire cimport swap16, swap32

cdef enum:
    TX_BYTES = 1536
    BRAKE_DEBT_NS = 50000000       # of a bench's brake: delays that are made up for
    IDLE_NS = 50000000             # a quiet loop still shows its heartbeat
    BOOT_TURNS = 16                # a busy loop looks at the boot port in every 16th turn: a system call less a batch


class GenerationRejected(Exception):
    """A generation that a worker cannot adopt; it goes on with the one that it has."""


cdef struct Mapping:
    void *at
    size_t bytes


cdef struct Outbox:                # one sendmmsg: the kernel's UDP socket, or frames by the packet socket
    mmsghdr headers[BATCH]
    iovec pieces[BATCH]
    sockaddr_in names[BATCH]
    sockaddr_ll frame_names[BATCH]
    uint8_t control[BATCH][CONTROL_BYTES]
    unsigned int count


cdef inline int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef inline uint32_t sum16(const uint8_t *at, size_t length, uint32_t total) noexcept nogil:
    """RFC 1071, words as they lie in memory."""
    cdef uint16_t word
    while length > 1:
        memcpy(&word, at, 2)
        total += word
        at += 2
        length -= 2
    if length:
        total += at[0]             # little-endian: the odd byte is the low one of its word
    return total


cdef inline uint16_t fold16(uint32_t total) noexcept nogil:
    total = (total & 0xffff) + (total >> 16)
    total = (total & 0xffff) + (total >> 16)
    return <uint16_t>~total


cdef inline void put_ip_udp(uint8_t *at, const Reply *reply, uint16_t port_be) noexcept nogil:
    """IP and UDP headers in front of the payload (RFC 791, RFC 768), UDP checksum computed."""
    cdef uint16_t udp_be = swap16(<uint16_t>(8 + reply.length))
    cdef uint16_t value
    cdef uint32_t total
    memset(at, 0, IP_UDP_BYTES)
    at[0] = 0x45
    value = swap16(<uint16_t>(IP_UDP_BYTES + reply.length))
    memcpy(at + 2, &value, 2)
    at[8] = 64
    at[9] = 17
    memcpy(at + 12, &reply.source_be, 4)
    memcpy(at + 16, &reply.destination_be, 4)
    value = fold16(sum16(at, 20, 0))
    memcpy(at + 10, &value, 2)
    memcpy(at + 20, &port_be, 2)
    memcpy(at + 22, &reply.port_be, 2)
    memcpy(at + 24, &udp_be, 2)
    total = sum16(at + 12, 8, 0) + swap16(17) + udp_be
    value = fold16(sum16(at + 20, 8 + reply.length, total))
    if value == 0:
        value = 0xffff
    memcpy(at + 26, &value, 2)


cdef inline int error_index(int error) noexcept nogil:
    """Index into ext.page.SEND_ERROR_NAMES."""
    cdef int i
    cdef int[12] known
    known[:] = [EAGAIN, ENOBUFS, ENETUNREACH, EHOSTUNREACH, EACCES, EPERM, EINVAL, ENETDOWN, ENODEV, ENXIO, EMSGSIZE,
                ECONNREFUSED]
    for i in range(12):
        if known[i] == error:
            return i
    return 12


@cython.final
cdef class Pump:
    cdef int udp_fd, urgent_fd, boot_fd, packet_fd, wake_fd, swapped_fd, adopted_fd, bell_fd
    cdef uint16_t port_be, boot_port_be
    cdef int boot_turns            # until the boot port is looked at next
    cdef int stopping
    cdef bint running
    cdef Page *page
    cdef SitePage *site_page
    cdef Site site
    cdef Mapping base_map, delta_map
    cdef void *offered             # Site *, from the helper thread to the loop
    cdef int64_t now_boottime_ns
    cdef Notebook notebook
    cdef bint asleep               # control may be, and something was told to it
    cdef Shares shares
    cdef Waits waits
    cdef int64_t now_realtime_ns   # 0 while arrivals are not stamped
    cdef bint observing
    cdef int64_t brake_answer_ns, brake_other_ns, braked_ns
    cdef int urgent_count          # of the batch: its first ones are REQUESTs
    cdef Outbox udp_out, frame_out, boot_out
    cdef uint8_t tx[BATCH][TX_BYTES]

    def __cinit__(self):
        self.udp_fd = self.urgent_fd = self.boot_fd = self.packet_fd = self.adopted_fd = self.bell_fd = -1
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.swapped_fd = os.eventfd(0, os.EFD_CLOEXEC)

    def __dealloc__(self):
        unmap(&self.base_map)
        unmap(&self.delta_map)
        if self.page != NULL:
            munmap(self.page, sizeof(Page))
        if self.site_page != NULL:
            munmap(self.site_page, sizeof(SitePage))

    def assign(self, *, int udp_fd, int urgent_fd, int packet_fd, int page_fd, int site_fd, int adopted_fd, int bell_fd,
               int port, int boot_fd=-1, int boot_port=0, bint observe=False, brake_ns=(0, 0)):
        """Take over a slot: its sockets, its page with whatever the last worker left in it, and the doorbells.

        boot_fd: of boot_port, -1 where there is none.  observe: decide and record everything, send nothing.
        brake_ns: the benches' brake, for each answer and each other datagram."""
        self.brake_answer_ns, self.brake_other_ns = brake_ns
        self.observing = observe
        self.page = <Page *>map_shared(page_fd, sizeof(Page))
        self.site_page = <SitePage *>map_shared(site_fd, sizeof(SitePage))
        self.udp_fd, self.urgent_fd, self.packet_fd = udp_fd, urgent_fd, packet_fd
        self.adopted_fd, self.bell_fd = adopted_fd, bell_fd
        self.boot_fd, self.boot_turns = boot_fd, BOOT_TURNS
        self.port_be, self.boot_port_be = swap16(<uint16_t>port), swap16(<uint16_t>boot_port)
        self.wire_receive()
        self.wire_send()
        self.find_stamps()

    cdef void find_stamps(self) noexcept nogil:
        """Does the last worker of this slot leave sockets that stamp?"""
        cdef int on = 0
        cdef unsigned int length = sizeof(on)
        self.waits.stamping = getsockopt(self.udp_fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, &length) == 0 and on != 0
        self.waits.worried_ns = clock_ns(CLOCK_BOOTTIME)

    cdef void wire_receive(self) noexcept nogil:
        """Point the page's headers into our mapping of it; lengths and flags stay: they tell what is unanswered."""
        cdef int i
        for i in range(BATCH):
            self.page.pieces[i].iov_base = self.page.buffers[i]
            self.page.pieces[i].iov_len = RX_BYTES
            self.page.headers[i].msg_hdr.msg_name = &self.page.names[i]
            self.page.headers[i].msg_hdr.msg_iov = &self.page.pieces[i]
            self.page.headers[i].msg_hdr.msg_iovlen = 1
            self.page.headers[i].msg_hdr.msg_control = self.page.control[i]

    cdef void wire_send(self) noexcept nogil:
        cdef int i
        cdef msghdr *header
        wire_udp(&self.udp_out)
        wire_udp(&self.boot_out)
        for i in range(BATCH):
            header = &self.frame_out.headers[i].msg_hdr
            self.frame_out.frame_names[i].sll_family = AF_PACKET
            self.frame_out.frame_names[i].sll_protocol = swap16(ETH_P_IP)
            self.frame_out.frame_names[i].sll_halen = 6
            header.msg_name = &self.frame_out.frame_names[i]
            header.msg_namelen = sizeof(sockaddr_ll)
            header.msg_iov = &self.frame_out.pieces[i]
            header.msg_iovlen = 1

    def load(self, int base_fd, int delta_fd=-1) -> int:
        """Adopt a pair of sealed generations and return the number that the loop answers from now on.

        Called by the helper thread while run() runs, by anyone before.  Maps and populates here, waits for the loop to
        swap, unmaps the old here.  Raises GenerationRejected with the reason; then the old pair stays."""
        cdef Site site
        cdef Mapping base, delta, old_base, old_delta
        cdef bint keep = self.site.base.header != NULL and base_of(base_fd) == self.site.base.header.generation
        cdef const char *fault
        cdef uint64_t news
        memset(&site, 0, sizeof(site))
        base = self.base_map if keep else map_generation(base_fd)
        delta.at = NULL
        try:
            if delta_fd >= 0:
                delta = map_generation(delta_fd)
            fault = attach_table(&site.base, base.at, base.bytes)
            if fault == NULL and delta.at != NULL:
                fault = attach_table(&site.delta, delta.at, delta.bytes)
            if fault == NULL:
                fault = join_site(&site)
            if fault != NULL:
                raise GenerationRejected(f"generation fds {base_fd}, {delta_fd}: {fault.decode()}; "
                                         f"keeping generation {self.generation}")
        except BaseException:
            if not keep:
                unmap(&base)
            unmap(&delta)
            raise
        old_base, old_delta = self.base_map, self.delta_map
        self.base_map, self.delta_map = base, delta
        if self.running:
            with nogil:
                exchange(&self.offered, &site)
                eventfd_write(self.wake_fd, 1)
                eventfd_read(self.swapped_fd, &news)
        else:
            self.site = site
        if not keep:
            unmap(&old_base)
        unmap(&old_delta)
        return self.generation

    @property
    def generation(self) -> int:
        return self.site.own.generation if self.site.own != NULL else 0

    def stop(self):
        """Ask the loop to finish its batch and to return from run()."""
        store_release_int(&self.stopping, 1)
        eventfd_write(self.wake_fd, 1)

    def run(self):
        """Answer until stop().  First what the last worker of this slot received and did not finish."""
        self.page.pid = os.getpid()
        self.running = True
        with nogil:
            self.tick()
            self.adopt()
            self.recover()
            while not load_acquire_int(&self.stopping):
                self.turn()
        self.running = False
        self.page.pid = 0

    cdef void adopt(self) noexcept nogil:
        """Between two batches: swap in what the helper offers, and show it in the page (the acknowledgement)."""
        cdef Site *site = <Site *>exchange(&self.offered, NULL)
        if site != NULL:
            self.site = site[0]
        if self.site.own != NULL and self.page.generation != self.site.own.generation:
            store_release(&self.page.generation, self.site.own.generation)
            eventfd_write(self.adopted_fd, 1)
        if site != NULL:
            eventfd_write(self.swapped_fd, 1)

    cdef void tick(self) noexcept nogil:
        self.now_boottime_ns = clock_ns(CLOCK_BOOTTIME)
        self.site.age_s = self.now_boottime_ns // 1000000000 - self.site_page.confirmed_boottime_s
        store_release(&self.page.heartbeat_ns, clock_ns(CLOCK_MONOTONIC))

    cdef void turn(self) noexcept nogil:
        cdef int i, count, boot = 0
        cdef pollfd waits[4]
        cdef uint64_t news
        if self.offered != NULL:
            self.adopt()
        for i in range(BATCH):
            self.page.headers[i].msg_hdr.msg_namelen = sizeof(sockaddr_in)
            self.page.headers[i].msg_hdr.msg_controllen = CONTROL_BYTES
        self.boot_turns -= 1
        if self.boot_turns <= 0:
            boot = self.receive_boot()
        count = boot + max(0, recvmmsg(self.urgent_fd, self.page.headers + boot, URGENT, MSG_DONTWAIT, NULL))
        self.urgent_count = count
        count += max(0, recvmmsg(self.udp_fd, self.page.headers + count, BATCH - count, MSG_DONTWAIT, NULL))
        self.tick()
        self.look_at_waits(self.urgent_count - boot == URGENT, count == BATCH)
        if count > 0:
            self.answer_batch()
            return
        waits[0].fd = self.udp_fd
        waits[1].fd = self.urgent_fd
        waits[2].fd = self.wake_fd
        waits[3].fd = self.boot_fd                                # -1 is skipped
        waits[0].events = waits[1].events = waits[2].events = waits[3].events = POLLIN
        waits[0].revents = waits[1].revents = waits[2].revents = waits[3].revents = 0
        pause_until(waits, 4, IDLE_NS)
        if waits[3].revents:
            self.boot_turns = 0
        if waits[2].revents:
            eventfd_read(self.wake_fd, &news)

    cdef int receive_boot(self) noexcept nogil:
        """Into the batch's first places.  The mark is in the page before the first datagram is: whoever recovers the
        batch never takes one for a datagram of the other port."""
        cdef int count = 0
        self.boot_turns = BOOT_TURNS
        if self.boot_fd >= 0:
            store_release(&self.page.boot_count, BOOT_SHARE)
            count = max(0, recvmmsg(self.boot_fd, self.page.headers, BOOT_SHARE, MSG_DONTWAIT, NULL))
            store_release(&self.page.boot_count, count)
        return count

    cdef void look_at_waits(self, bint more_urgent, bint more_plain) noexcept nogil:
        """After receiving: do we reach the end of the queues?  Arrivals are stamped only while we do not."""
        if note_turn(&self.waits, self.now_boottime_ns, more_urgent, more_plain):
            self.stamp(self.waits.stamping)
        share_out(&self.shares, &self.waits, self.now_boottime_ns)
        self.now_realtime_ns = clock_ns(CLOCK_REALTIME) if self.waits.stamping else 0

    cdef void stamp(self, int on) noexcept nogil:
        setsockopt(self.udp_fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on))
        setsockopt(self.urgent_fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on))

    cdef void recover(self) noexcept nogil:
        """Answer what a dead worker had received; answers are idempotent.  One by one: if one of them is what killed it,
        the others do not go with it, and that one is given up when it has ended RECOVERIES_MAX workers."""
        cdef int i
        for i in range(BATCH):
            if self.page.headers[i].msg_len == 0:
                continue
            self.page.recoveries += 1
            if self.page.recoveries < RECOVERIES_MAX:
                self.udp_out.count = self.frame_out.count = self.boot_out.count = 0
                self.answer_one(i)
                self.send(&self.udp_out, self.udp_fd)
                self.send(&self.boot_out, self.boot_fd)
                self.send(&self.frame_out, self.packet_fd)
                bump(&self.page.rx, 1)
                bump(&self.page.recovered, 1)
            else:
                self.abandon(i)
            self.page.headers[i].msg_len = 0
            self.page.recoveries = 0
        self.page.boot_count = 0
        self.ring()

    cdef void abandon(self, int i) noexcept nogil:
        """Count and report without looking at more than the fixed header."""
        cdef Packet packet
        cdef Request request
        bump(&self.page.by_verdict[<int>ABANDONED], 1)
        self.describe(i, &packet)
        memset(&request, 0, sizeof(request))
        if packet.length >= sizeof(Bootp):
            request.bootp = <const Bootp *>packet.data
            self.asleep |= note(self.page, &self.notebook, self.now_boottime_ns, &self.site, &packet, &request, ABANDONED)

    cdef void answer_batch(self) noexcept nogil:
        """Everything with a length; the lengths go back to 0 only when all replies are with the kernel."""
        cdef int i
        cdef uint64_t received = 0
        for i in range(BATCH):
            if self.page.headers[i].msg_len == 0:
                continue
            received += 1
            prefetch_slot(&self.site, self.page.buffers[i] + 28)
        if received > 1:
            for i in range(BATCH):
                if self.page.headers[i].msg_len != 0:
                    prefetch_lease(&self.site, self.page.buffers[i] + 28)
                    prefetch_known(&self.notebook, self.page.buffers[i] + 28)
        self.udp_out.count = self.frame_out.count = self.boot_out.count = 0
        for i in range(BATCH):
            if self.page.headers[i].msg_len != 0:
                self.answer_one(i)
        bump(&self.page.rx, received)
        if self.brake_answer_ns != 0 or self.brake_other_ns != 0:
            self.brake(self.udp_out.count + self.frame_out.count, received)
        self.send(&self.udp_out, self.udp_fd)
        self.send(&self.frame_out, self.packet_fd)
        self.send(&self.boot_out, self.boot_fd)
        for i in range(BATCH):
            self.page.headers[i].msg_len = 0
        self.page.boot_count = 0
        self.ring()

    cdef void brake(self, uint64_t answered, uint64_t received) noexcept nogil:
        """A bench's: sleep until a worker that takes so long for each would be done, on an absolute schedule, so that a
        busy machine changes little about its capacity."""
        cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
        cdef int64_t cost = <int64_t>answered * self.brake_answer_ns + <int64_t>(received - answered) * self.brake_other_ns
        self.braked_ns = max(self.braked_ns, now - BRAKE_DEBT_NS) + cost
        if self.braked_ns > now:
            pause_until(NULL, 0, self.braked_ns - now)

    cdef void answer_one(self, int i) noexcept nogil:
        cdef Packet packet
        cdef Request request
        cdef Decision decision
        cdef Reply reply
        cdef Verdict verdict
        cdef uint32_t relay
        self.describe(i, &packet)
        relay = relay_of(&self.shares, packet.data, packet.ifindex)
        if is_over_share(&self.shares, relay, i < self.urgent_count, packet.waited_ns):
            bump(&self.page.by_verdict[<int>IGNORED_SHARE], 1)
            return
        reply.data = self.tx[i] + IP_UDP_BYTES
        reply.capacity = TX_BYTES - IP_UDP_BYTES
        verdict = answer(&self.site, &packet, &request, &decision, &reply)
        bump(&self.page.by_verdict[<int>verdict], 1)
        if is_answer(verdict) and not self.observing:
            if reply.route == ROUTE_UDP:
                queue_udp(&self.boot_out if reply.from_boot_port else &self.udp_out, &reply)
            else:
                self.queue_frame(&reply)
        record(self.page.records, self.page.records_written, self.now_boottime_ns, &packet, verdict, &reply,
               not self.observing)
        bump(&self.page.records_written, 1)
        if is_event(verdict):
            self.asleep |= note(self.page, &self.notebook, self.now_boottime_ns, &self.site, &packet, &request, verdict)
        elif verdict == ACKED:
            self.asleep |= sight(self.page, &self.notebook, self.now_boottime_ns, &packet, &request, &decision)

    cdef void describe(self, int i, Packet *packet) noexcept nogil:
        cdef msghdr *header = &self.page.headers[i].msg_hdr
        cdef cmsghdr *cmsg = CMSG_FIRSTHDR(header)
        cdef in_pktinfo *info
        cdef timespec *stamp
        cdef int64_t waited_ns
        packet.data = self.page.buffers[i]
        packet.length = self.page.headers[i].msg_len
        packet.truncated = (header.msg_flags & MSG_TRUNC) != 0
        packet.source_be = self.page.names[i].sin_addr.s_addr
        packet.source_port_be = self.page.names[i].sin_port
        packet.ifindex = packet.destination_be = packet.local_be = 0
        packet.waited_ns = 0
        packet.at_boot_port = <uint64_t>i < self.page.boot_count
        while cmsg != NULL:
            if cmsg.cmsg_level == IPPROTO_IP and cmsg.cmsg_type == IP_PKTINFO:
                info = <in_pktinfo *>CMSG_DATA(cmsg)
                packet.ifindex = info.ipi_ifindex
                packet.destination_be = info.ipi_addr.s_addr
                packet.local_be = info.ipi_spec_dst.s_addr
            elif self.now_realtime_ns != 0 and cmsg.cmsg_level == SOL_SOCKET and cmsg.cmsg_type == SCM_TIMESTAMPNS:
                stamp = <timespec *>CMSG_DATA(cmsg)
                waited_ns = self.now_realtime_ns - (<int64_t>stamp.tv_sec * 1000000000 + stamp.tv_nsec)
                packet.waited_ns = wait_of(&self.waits, waited_ns, i < self.urgent_count)
            cmsg = CMSG_NXTHDR(header, cmsg)

    cdef void queue_frame(self, const Reply *reply) noexcept nogil:
        cdef unsigned int at = self.frame_out.count
        put_ip_udp(reply.data - IP_UDP_BYTES, reply, self.boot_port_be if reply.from_boot_port else self.port_be)
        self.frame_out.frame_names[at].sll_ifindex = reply.ifindex
        if reply.route == ROUTE_FRAME:
            memcpy(self.frame_out.frame_names[at].sll_addr, reply.mac, 6)
        else:
            memset(self.frame_out.frame_names[at].sll_addr, 0xff, 6)
        self.frame_out.pieces[at].iov_base = reply.data - IP_UDP_BYTES
        self.frame_out.pieces[at].iov_len = IP_UDP_BYTES + reply.length
        self.frame_out.count = at + 1

    cdef void ring(self) noexcept nogil:
        """After the replies have left: waking control once a batch, not once an event, and clients come first."""
        if self.asleep:
            self.asleep = False
            eventfd_write(self.bell_fd, 1)

    cdef void send(self, Outbox *box, int fd) noexcept nogil:
        """Never waits: a reply that the kernel does not take at once, nor when asked again, is counted and skipped."""
        cdef unsigned int at = 0
        cdef int sent
        cdef bint again = False
        while at < box.count:
            sent = sendmmsg(fd, box.headers + at, box.count - at, MSG_DONTWAIT)
            if sent > 0:
                bump(&self.page.tx, sent)
                at += sent
                again = True       # a short count hides the error of the next one: the coming call is its second try
            elif c_errno != EINTR:
                if again:
                    bump(&self.page.send_errors[error_index(c_errno)], 1)
                    at += 1
                again = not again


cdef void wire_udp(Outbox *box) noexcept nogil:
    cdef int i
    cdef msghdr *header
    cdef cmsghdr *cmsg
    for i in range(BATCH):
        header = &box.headers[i].msg_hdr
        box.names[i].sin_family = AF_INET
        header.msg_name = &box.names[i]
        header.msg_namelen = sizeof(sockaddr_in)
        header.msg_iov = &box.pieces[i]
        header.msg_iovlen = 1
        header.msg_control = box.control[i]
        header.msg_controllen = CMSG_SPACE(sizeof(in_pktinfo))
        cmsg = CMSG_FIRSTHDR(header)
        cmsg.cmsg_level = IPPROTO_IP
        cmsg.cmsg_type = IP_PKTINFO
        cmsg.cmsg_len = CMSG_LEN(sizeof(in_pktinfo))


cdef void queue_udp(Outbox *box, const Reply *reply) noexcept nogil:
    cdef unsigned int at = box.count
    cdef in_pktinfo *info = <in_pktinfo *>CMSG_DATA(CMSG_FIRSTHDR(&box.headers[at].msg_hdr))
    info.ipi_ifindex = 0           # the route decides; only the source is ours to say
    info.ipi_spec_dst.s_addr = reply.source_be
    box.names[at].sin_addr.s_addr = reply.destination_be
    box.names[at].sin_port = reply.port_be
    box.pieces[at].iov_base = reply.data
    box.pieces[at].iov_len = reply.length
    box.count = at + 1


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
    with nogil:
        mapping.at = mmap(NULL, mapping.bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0)
    if mapping.at == MAP_FAILED:
        raise OSError(c_errno, f"cannot map generation fd {fd} ({mapping.bytes} bytes)")
    return mapping


cdef uint64_t base_of(int fd) except? 0:
    """The generation number in the header behind fd, without mapping it; 0 when it has none."""
    cdef Header header
    head = os.pread(fd, sizeof(Header), 0)
    if len(head) < sizeof(Header):
        return 0
    memcpy(&header, <const uint8_t *>head, sizeof(Header))
    return header.generation


def confine(bytes program not None):
    """Install a seccomp program (fastpath/confine.py) in this process, before it starts threads; for good.

    Raises OSError when the kernel refuses."""
    if bs_confine(<const char *>program, len(program)) != 0:
        raise OSError(c_errno, f"seccomp: {os.strerror(c_errno)}")
