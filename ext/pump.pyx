"""A worker's loop: receive -> answer() -> send.  I/O only; what to say is answer.pxd's.

Two ways in and out, one account of both (settle): sockets, recvmmsg and sendmmsg, always; and beside them, where dhcp.io is
xdp, the rings of ext/xsk.pxd.
Runs without the GIL, allocates nothing, waits for no lock.  A helper thread of the worker (fastpath/worker.py) offers new
generations; the loop swaps them in between two batches and tells it, so that mapping and unmapping never stall a packet.
"""

cimport cython
from libc.errno cimport errno as c_errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import os

from ext.answer cimport answer
from ext.frames cimport HEADER_BYTES, UDP_BYTES, is_intact, neighbour_of, put_ethernet, put_ip_udp, read_headers
from ext.judge cimport Decision, local_of
from ext.leases cimport *
from ext.mapping cimport Mapping, base_of, map_generation, map_shared, unmap
from ext.mapping import GenerationRejected
from ext.net cimport *
from ext.page cimport *
from ext.sightings cimport Notebook, may_record, note, prefetch_known, sight
from ext.outbox cimport Outbox, error_index, prepare_frames, prepare_udp, queue_frame, queue_udp, send
from ext.overload cimport Shares, Waits, is_over_share, note_turn, relay_of, share_out, wait_of
from ext.packet cimport ROUTE_UDP, Packet, Reply
from ext.request cimport Request
from ext.record cimport record
from ext.rfc2131 cimport Bootp, IP_UDP_BYTES
from ext.verdict cimport *
from ext.wire cimport swap16
from ext.xsk cimport *

cdef enum:
    TX_BYTES = 1536
    IDLE_NS = 50000000             # a quiet loop still shows its heartbeat
    BRAKE_DEBT_NS = 50000000       # of a bench's brake: delays that are made up for
    BOOT_TURNS = 16                # a busy loop looks at the boot port in every 16th turn: a system call less a batch
    SOCKETS_EVERY = 8              # turns, while frames come in by XDP
    COUNT_NS = 1000000000          # between two questions to the kernel what XDP has lost


cdef int64_t UNKNOWN_AGE_S = <int64_t>1 << 62


@cython.final
cdef class Pump:
    cdef int udp_fd, urgent_fd, boot_fd, packet_fd, wake_fd, swapped_fd, adopted_fd, bell_fd
    cdef uint16_t port_be, boot_port_be
    cdef int boot_turns            # until the boot port is looked at next
    cdef int stopping
    cdef bint running
    cdef Page *page
    cdef Inbox *inbox
    cdef SitePage *site_page
    cdef Site site
    cdef Mapping base_map, delta_map
    cdef void *offered             # Site *, from the helper thread to the loop
    cdef int behind                # the newest pair could not be adopted: what is confirmed is not what we have
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
    cdef pollfd ends[4 + 2 * POOLS_MAX]
    cdef int wait_count
    cdef Port ports[POOLS_MAX]     # none of these where dhcp.io is socket
    cdef int port_count
    cdef bint busy                 # frames came in the last turn
    cdef bint more_frames[2]       # then: more waited than was taken, by Which
    cdef uint32_t turns
    cdef int64_t counted_ns
    cdef uint8_t tx[BATCH][TX_BYTES]

    def __cinit__(self):
        self.udp_fd = self.urgent_fd = self.boot_fd = self.packet_fd = self.adopted_fd = self.bell_fd = -1
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.swapped_fd = os.eventfd(0, os.EFD_CLOEXEC)

    def __dealloc__(self):
        cdef int i
        unmap(&self.base_map)
        unmap(&self.delta_map)
        for i in range(POOLS_MAX):
            close_port(&self.ports[i])
        if self.page != NULL:
            munmap(self.page, inbox_at() + sizeof(Inbox))
        if self.site_page != NULL:
            munmap(self.site_page, sizeof(SitePage))

    def assign(self, *, int udp_fd, int urgent_fd, int packet_fd, int page_fd, int site_fd, int adopted_fd, int bell_fd,
               int port, int boot_fd=-1, int boot_port=0, bint observe=False, brake_ns=(0, 0)):
        """Take over a slot: its sockets, its page with whatever the last worker left in it, and the doorbells.

        boot_fd: of boot_port, -1 where there is none.  observe: decide and record everything, send nothing.
        brake_ns: the benches' brake, for each answer and each other datagram."""
        self.brake_answer_ns, self.brake_other_ns = brake_ns
        self.observing = observe
        self.page = <Page *>map_shared(page_fd, inbox_at() + sizeof(Inbox))
        self.inbox = <Inbox *>(<uint8_t *>self.page + inbox_at())
        self.site_page = <SitePage *>map_shared(site_fd, sizeof(SitePage))
        self.udp_fd, self.urgent_fd, self.packet_fd = udp_fd, urgent_fd, packet_fd
        self.adopted_fd, self.bell_fd = adopted_fd, bell_fd
        self.boot_fd, self.boot_turns = boot_fd, BOOT_TURNS
        self.port_be, self.boot_port_be = swap16(<uint16_t>port), swap16(<uint16_t>boot_port)
        self.wire_receive()
        prepare_udp(&self.udp_out)
        prepare_udp(&self.boot_out)
        prepare_frames(&self.frame_out)
        self.find_stamps()
        for fd in (self.wake_fd, boot_fd, udp_fd, urgent_fd):     # -1 is skipped
            self.wait_for(fd)

    cdef void find_stamps(self) noexcept nogil:
        """Does the last worker of this slot leave sockets that stamp?"""
        cdef int on = 0
        cdef unsigned int length = sizeof(on)
        self.waits.stamping = getsockopt(self.udp_fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, &length) == 0 and on != 0
        self.waits.worried_ns = clock_ns(CLOCK_BOOTTIME)

    def assign_pool(self, int pool_fd, int plain_fd, int hurried_fd, int slot):
        """Take over this slot's part of an XDP pool as well; its sockets' fds stay with us, the pool's may be closed."""
        open_port(&self.ports[self.port_count], pool_fd, plain_fd, hurried_fd, slot)
        self.port_count += 1
        self.wait_for(plain_fd)
        self.wait_for(hurried_fd)

    cdef void wait_for(self, int fd) noexcept nogil:
        self.ends[self.wait_count].fd = fd
        self.ends[self.wait_count].events = POLLIN
        self.wait_count += 1

    cdef void wire_receive(self) noexcept nogil:
        """Point the headers into our mapping of the page; lengths and flags stay: they tell what is unanswered."""
        cdef int i
        for i in range(BATCH):
            self.inbox.pieces[i].iov_base = self.page.buffers[i]
            self.inbox.pieces[i].iov_len = RX_BYTES
            self.inbox.headers[i].msg_hdr.msg_name = &self.page.names[i]
            self.inbox.headers[i].msg_hdr.msg_iov = &self.inbox.pieces[i]
            self.inbox.headers[i].msg_hdr.msg_iovlen = 1
            self.inbox.headers[i].msg_hdr.msg_control = self.page.control[i]

    def load(self, int base_fd, int delta_fd=-1) -> int:
        """Adopt a pair of sealed generations and return the number that the loop answers from now on.

        Called by the helper thread while run() runs, by anyone before.  Maps and populates here, waits for the loop to
        swap, unmaps the old here.  Raises GenerationRejected with the reason; then the old pair stays, of unknown age until
        another one is adopted: the inventory's word is about the one that was refused."""
        cdef Site site
        cdef Mapping base, delta, old_base, old_delta
        cdef bint keep = False
        cdef const char *fault
        cdef uint64_t news
        memset(&site, 0, sizeof(site))
        base.at = delta.at = NULL
        try:
            keep = self.site.base.header != NULL and base_of(base_fd) == self.site.base.header.generation
            base = self.base_map if keep else map_generation(base_fd)
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
            store_release_int(&self.behind, 1)
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
                while eventfd_read(self.swapped_fd, &news) != 0 and c_errno == EINTR:
                    pass               # the loop still reads the old pair
        else:
            self.site = site
        store_release_int(&self.behind, 0)
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
                if self.port_count == 0 or not self.turn_frames():
                    self.turn()
        self.running = False
        self.page.pid = 0

    cdef void adopt(self) noexcept nogil:
        """Between two batches: swap in what the helper offers, and show it in the page (the acknowledgement)."""
        cdef Site *site = <Site *>exchange(&self.offered, NULL)
        if site != NULL:
            self.site = site[0]
            self.look_at_age()     # the pair comes without one, and whoever adopts may answer before the next tick
        if self.site.own != NULL and self.page.generation != self.site.own.generation:
            store_release(&self.page.generation, self.site.own.generation)
            eventfd_write(self.adopted_fd, 1)
        if site != NULL:
            eventfd_write(self.swapped_fd, 1)

    cdef void tick(self) noexcept nogil:
        self.now_boottime_ns = clock_ns(CLOCK_BOOTTIME)
        self.look_at_age()
        store_release(&self.page.heartbeat_ns, clock_ns(CLOCK_MONOTONIC))

    cdef void look_at_age(self) noexcept nogil:
        """The word in the site page is about the pair that control published last and that every worker had adopted."""
        if load_acquire_int(&self.behind):
            self.site.age_s = UNKNOWN_AGE_S
        else:
            self.site.age_s = self.now_boottime_ns // 1000000000 - self.site_page.confirmed_boottime_s

    cdef void turn(self) noexcept nogil:
        cdef int i, count, boot = 0
        cdef uint64_t news
        if self.offered != NULL:
            self.adopt()
        for i in range(BATCH):
            self.inbox.headers[i].msg_hdr.msg_namelen = sizeof(sockaddr_in)
            self.inbox.headers[i].msg_hdr.msg_controllen = CONTROL_BYTES
        self.boot_turns -= 1
        if self.boot_turns <= 0:
            boot = self.receive_boot()
        count = boot + max(0, recvmmsg(self.urgent_fd, self.inbox.headers + boot, URGENT, MSG_DONTWAIT, NULL))
        self.urgent_count = count
        count += max(0, recvmmsg(self.udp_fd, self.inbox.headers + count, BATCH - count, MSG_DONTWAIT, NULL))
        self.tick()
        self.look_at_waits(self.urgent_count - boot == URGENT or (self.busy and self.more_frames[<int>HURRIED]),
                           count == BATCH or (self.busy and self.more_frames[<int>PLAIN]))
        if count > 0:
            self.answer_batch()
            return
        if self.busy:                  # no rest while frames keep coming
            return
        pause_until(self.ends, self.wait_count, IDLE_NS)
        if self.ends[1].revents:
            self.boot_turns = 0
        if self.ends[0].revents:
            eventfd_read(self.wake_fd, &news)

    cdef int receive_boot(self) noexcept nogil:
        """Into the batch's first places.  The mark is in the page before the first datagram is: whoever recovers the
        batch never takes one for a datagram of the other port."""
        cdef int count = 0
        self.boot_turns = BOOT_TURNS
        if self.boot_fd >= 0:
            store_release(&self.page.boot_count, BOOT_SHARE)
            count = max(0, recvmmsg(self.boot_fd, self.inbox.headers, BOOT_SHARE, MSG_DONTWAIT, NULL))
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
        cdef Packet packet
        cdef int i
        for i in range(BATCH):
            if self.inbox.headers[i].msg_len == 0:
                continue
            self.page.recoveries += 1
            if self.page.recoveries < RECOVERIES_MAX:
                self.begin_sending()
                self.answer_one(i)
                self.send_all()
                bump(&self.page.rx, 1)
                bump(&self.page.recovered, 1)
            else:
                self.describe(i, &packet)
                self.abandon(&packet)
            self.inbox.headers[i].msg_len = 0
            self.page.recoveries = 0
        self.page.boot_count = 0
        for i in range(self.port_count):
            self.recover_frames(&self.ports[i])
        self.ring()

    cdef void abandon(self, const Packet *packet) noexcept nogil:
        """Count and report without looking at more than the fixed header."""
        cdef Request request
        bump(&self.page.by_verdict[<int>ABANDONED], 1)
        memset(&request, 0, sizeof(request))
        if packet.length >= sizeof(Bootp):
            request.bootp = <const Bootp *>packet.data
            self.asleep |= note(self.page, &self.notebook, self.now_boottime_ns, &self.site, packet, &request, ABANDONED)

    cdef void answer_batch(self) noexcept nogil:
        """Everything with a length; the lengths go back to 0 only when all replies are with the kernel."""
        cdef int i
        cdef uint64_t received = 0
        for i in range(BATCH):
            if self.inbox.headers[i].msg_len == 0:
                continue
            received += 1
            prefetch_slot(&self.site, self.page.buffers[i] + 28)
        if received > 1:
            for i in range(BATCH):
                if self.inbox.headers[i].msg_len != 0:
                    self.prefetch_rows(self.page.buffers[i])
        self.begin_sending()
        for i in range(BATCH):
            if self.inbox.headers[i].msg_len != 0:
                self.answer_one(i)
        bump(&self.page.rx, received)
        self.brake(self.udp_out.count + self.frame_out.count, received)
        self.send_all()
        for i in range(BATCH):
            self.inbox.headers[i].msg_len = 0
        self.page.boot_count = 0
        self.ring()

    cdef void prefetch_rows(self, const uint8_t *data) noexcept nogil:
        prefetch_lease(&self.site, data + 28)
        prefetch_known(&self.notebook, data + 28)

    cdef void begin_sending(self) noexcept nogil:
        self.udp_out.count = self.frame_out.count = self.boot_out.count = 0

    cdef void send_all(self) noexcept nogil:
        send(&self.udp_out, self.udp_fd, self.page)
        send(&self.boot_out, self.boot_fd, self.page)
        send(&self.frame_out, self.packet_fd, self.page)

    cdef void brake(self, uint64_t answered, uint64_t received) noexcept nogil:
        """A bench's: sleep until a worker that takes so long for each would be done, on an absolute schedule, so that a
        busy machine changes little about its capacity."""
        cdef int64_t now, cost
        if self.brake_answer_ns == 0 and self.brake_other_ns == 0:
            return
        now = clock_ns(CLOCK_MONOTONIC)
        cost = <int64_t>answered * self.brake_answer_ns + <int64_t>(received - answered) * self.brake_other_ns
        self.braked_ns = max(self.braked_ns, now - BRAKE_DEBT_NS) + cost
        if self.braked_ns > now:
            pause_until(NULL, 0, self.braked_ns - now)

    cdef void answer_one(self, int i) noexcept nogil:
        cdef Packet packet
        cdef Reply reply
        self.describe(i, &packet)
        if self.over_share(&packet, i < self.urgent_count):
            return
        reply.data = self.tx[i] + IP_UDP_BYTES
        reply.capacity = TX_BYTES - IP_UDP_BYTES
        if self.settle(&packet, &reply):
            self.queue(&reply)

    cdef bint over_share(self, const Packet *packet, bint urgent) noexcept nogil:
        cdef uint32_t relay = relay_of(&self.shares, packet.data, packet.ifindex)
        if is_over_share(&self.shares, relay, urgent, packet.waited_ns):
            bump(&self.page.by_verdict[<int>IGNORED_SHARE], 1)
            return True
        return False

    cdef bint settle(self, const Packet *packet, Reply *reply) noexcept nogil:
        """Decide, count, record and tell, whichever way the request came; True: the reply is to be sent."""
        cdef Request request
        cdef Decision decision
        cdef Verdict verdict = answer(&self.site, packet, &request, &decision, reply)
        bump(&self.page.by_verdict[<int>verdict], 1)
        if is_of_stranger(verdict) and not may_record(&self.notebook, self.now_boottime_ns):
            bump(&self.page.records_left_out, 1)
        else:
            record(self.page.records, self.page.records_written, self.now_boottime_ns, packet, verdict, reply,
                   not self.observing)
            bump(&self.page.records_written, 1)
        if is_event(verdict):
            self.asleep |= note(self.page, &self.notebook, self.now_boottime_ns, &self.site, packet, &request, verdict)
        elif verdict == ACKED:
            self.asleep |= sight(self.page, &self.notebook, self.now_boottime_ns, packet, &request, &decision)
        return is_answer(verdict) and not self.observing

    cdef void describe(self, int i, Packet *packet) noexcept nogil:
        cdef msghdr *header = &self.inbox.headers[i].msg_hdr
        cdef cmsghdr *cmsg = CMSG_FIRSTHDR(header)
        cdef in_pktinfo *info
        cdef timespec *stamp
        cdef int64_t waited_ns
        packet.data = self.page.buffers[i]
        packet.length = self.inbox.headers[i].msg_len
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

    cdef void queue(self, const Reply *reply) noexcept nogil:
        if reply.route == ROUTE_UDP:
            queue_udp(&self.boot_out if reply.from_boot_port else &self.udp_out, reply)
        else:
            queue_frame(&self.frame_out, reply, self.boot_port_be if reply.from_boot_port else self.port_be)

    cdef void ring(self) noexcept nogil:
        """After the replies have left: waking control once a batch, not once an event, and clients come first."""
        if self.asleep:
            self.asleep = False
            eventfd_write(self.bell_fd, 1)

    # --- the other way in and out: rings that the XDP program fills ------------------------------------------------

    cdef bint turn_frames(self) noexcept nogil:
        """One batch of each pool.  False when nothing came, and now and then: the sockets are to be looked at."""
        cdef Port *port
        cdef uint32_t hurried, plain
        cdef int i
        self.busy = self.more_frames[<int>PLAIN] = self.more_frames[<int>HURRIED] = False
        for i in range(self.port_count):
            port = &self.ports[i]
            hurried = min(waiting(port, HURRIED), <uint32_t>URGENT)
            plain = min(waiting(port, PLAIN), <uint32_t>BATCH - hurried)
            if hurried + plain != 0:
                self.busy = True
                self.more_frames[<int>HURRIED] |= hurried == URGENT
                self.more_frames[<int>PLAIN] |= hurried + plain == BATCH
                if self.offered != NULL:
                    self.adopt()
                self.tick()
                self.answer_frames(port, hurried, plain)
            give_back(port)
        if self.now_boottime_ns - self.counted_ns > COUNT_NS:
            self.count_lost()
        self.turns += 1
        if not self.busy or self.turns % SOCKETS_EVERY == 0:
            return False
        self.look_at_waits(self.more_frames[<int>HURRIED], self.more_frames[<int>PLAIN])
        return True

    cdef void count_lost(self) noexcept nogil:
        cdef uint64_t total = 0
        cdef int i
        for i in range(self.port_count):
            total += lost(&self.ports[i])
        store_release(&self.page.frames_lost, total)
        self.counted_ns = self.now_boottime_ns

    cdef void answer_frames(self, Port *port, uint32_t hurried, uint32_t plain) noexcept nogil:
        """The indices in the pool move on only when all replies are with the kernel."""
        cdef Lane *lane = port.lane
        cdef const uint8_t *frame
        cdef uint32_t i
        for i in range(hurried):
            prefetch_slot(&self.site, frame_of(port, HURRIED, lane.taken[1] + i) + HEADER_BYTES + 28)
        for i in range(plain):
            prefetch_slot(&self.site, frame_of(port, PLAIN, lane.taken[0] + i) + HEADER_BYTES + 28)
        if hurried + plain > 1:
            for i in range(hurried):
                self.prefetch_rows(frame_of(port, HURRIED, lane.taken[1] + i) + HEADER_BYTES)
            for i in range(plain):
                self.prefetch_rows(frame_of(port, PLAIN, lane.taken[0] + i) + HEADER_BYTES)
        store_release32(&lane.taken[1], lane.taken[1] + hurried)
        store_release32(&lane.taken[0], lane.taken[0] + plain)
        self.begin_sending()
        for i in range(hurried):
            self.answer_frame(port, HURRIED, lane.answered[1] + i, i)
        for i in range(plain):
            self.answer_frame(port, PLAIN, lane.answered[0] + i, hurried + i)
        bump(&self.page.rx, hurried + plain)
        self.brake(hurried + plain, hurried + plain)
        self.send_frames(port)
        store_release32(&lane.answered[1], lane.taken[1])
        store_release32(&lane.answered[0], lane.taken[0])
        self.ring()

    cdef void send_frames(self, Port *port) noexcept nogil:
        """What stands in the pool, then what has to go by a socket."""
        cdef uint32_t before = load_acquire32(port.sending.consumer)
        cdef uint32_t left = launch(port) if port.posted != before else 0
        bump(&self.page.tx, port.posted - left - before)
        if left:
            bump(&self.page.send_errors[error_index(c_errno)], left)
        self.send_all()

    cdef void recover_frames(self, Port *port) noexcept nogil:
        """As recover(), of one pool."""
        cdef Lane *lane = port.lane
        cdef Packet packet
        cdef int which
        finish_for_the_dead(port)
        for which in range(2):
            while lane.answered[which] != lane.taken[which]:
                lane.recoveries += 1
                if lane.recoveries < RECOVERIES_MAX:
                    self.begin_sending()
                    self.answer_frame(port, <Which>which, lane.answered[which], 0)
                    self.send_frames(port)
                    bump(&self.page.rx, 1)
                    bump(&self.page.recovered, 1)
                elif self.describe_frame(port, <Which>which, lane.answered[which], &packet):
                    self.abandon(&packet)
                store_release32(&lane.answered[which], lane.answered[which] + 1)
                lane.recoveries = 0

    cdef void answer_frame(self, Port *port, Which which, uint32_t index, uint32_t place) noexcept nogil:
        """place: of the batch, for a reply that has to go by a socket."""
        cdef const uint8_t *frame = frame_of(port, which, index)
        cdef const uint8_t *neighbour
        cdef uint8_t *out
        cdef bint known = False
        cdef Packet packet
        cdef Reply reply
        if not self.describe_frame(port, which, index, &packet) or self.over_share(&packet, which == HURRIED):
            return
        out = free_frame(port)
        reply.data = out + SENDING_AT + HEADER_BYTES if out != NULL else self.tx[place] + IP_UDP_BYTES
        reply.capacity = TX_BYTES - IP_UDP_BYTES
        if not self.settle(&packet, &reply):
            return
        neighbour = neighbour_of(frame, &packet, &reply, port.pool.ifindex, &known)
        if out == NULL or not known:
            self.queue(&reply)
            return
        put_ip_udp(reply.data - IP_UDP_BYTES, &reply, self.port_be)
        put_ethernet(out + SENDING_AT, neighbour, port.pool.mac)
        post(port, out + SENDING_AT, <uint32_t>(HEADER_BYTES + reply.length))

    cdef bint describe_frame(self, Port *port, Which which, uint32_t index, Packet *packet) noexcept nogil:
        """False, and counted: what the kernel would not have brought to a socket either."""
        cdef uint8_t *frame = frame_of(port, which, index)
        cdef int64_t *stamp = <int64_t *>(frame - STAMP_BYTES)
        if not read_headers(frame, received(port, which, index).len, packet):
            bump(&self.page.by_verdict[<int>IGNORED_SHORT], 1)
            return False
        if not is_intact(frame, packet.length + UDP_BYTES):
            bump(&self.page.by_verdict[<int>IGNORED_CHECKSUM], 1)
            return False
        packet.ifindex = port.pool.ifindex
        packet.local_be = local_of(&self.site, packet)
        if packet.local_be == 0 and self.site.own != NULL:
            bump(&self.page.by_verdict[<int>IGNORED_NO_SERVER_ID], 1)
            return False
        packet.at_boot_port = False
        packet.waited_ns = 0
        if self.waits.stamping and stamp[0] != 0:
            packet.waited_ns = wait_of(&self.waits, self.now_boottime_ns - stamp[0], which == HURRIED)
        stamp[0] = 0               # whoever gets the frame next may have no stamp
        return True


def confine(bytes program not None):
    """Install a seccomp program (fastpath/privileges/confine.py) in this process, before it starts threads; for good.

    Raises OSError when the kernel refuses."""
    if bs_confine(<const char *>program, len(program)) != 0:
        raise OSError(c_errno, f"seccomp: {os.strerror(c_errno)}")
