"""A socket with thousands of simulated hosts behind it: requests out in batches, replies in, each one checked.

What to send when is its heirs' business: blast.pyx (appointed times), storms.pyx (clients with timers).
"""

from libc.errno cimport errno as c_errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from ext.net cimport *
from ext.rfc2131 cimport *
from ext.wire cimport load32, swap16, swap32

FAULTS = ("right", "malformed", "mac", "type", "address", "options", "unexpected")

cdef extern from *:
    """
    #include <sys/prctl.h>
    static inline void bs_wake_on_time(void) { prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); }
    static inline int bs_highest_bit(uint64_t value) { return 63 - __builtin_clzll(value); }
    """
    int POLLOUT
    void bs_wake_on_time() nogil
    int highest_bit "bs_highest_bit"(uint64_t) nogil

cdef enum:
    SPIN_NS = 40000                # a sleep would end about that late
    PAUSE_NS = 20000000            # a pause this long at most: stop() is seen
    DRAIN_BATCHES = 4              # received between two sends


cdef void wake_on_time() noexcept nogil:
    """This thread's sleeps end when they should, not up to 50 us later."""
    bs_wake_on_time()


cdef int64_t now_ns() noexcept nogil:
    return clock_ns(CLOCK_MONOTONIC)


cdef void count_ns(uint64_t *histogram, int64_t value) noexcept nogil:
    """Into a bucket that is 1/64 of its value wide; below 64 ns one each."""
    cdef int shift
    if value < 64:
        histogram[max(value, 0)] += 1
        return
    shift = highest_bit(<uint64_t>value) - 6
    histogram[(shift << 6) + (value >> shift)] += 1


cdef list counts(uint64_t *histogram):
    """(upper bound in ns, count) of the buckets that hold something, ascending."""
    cdef int i, shift
    found = []
    for i in range(BUCKETS):
        if histogram[i]:
            shift = max((i >> 6) - 1, 0)
            found.append((i if i < 64 else (<uint64_t>(65 + (i & 63)) << shift) - 1, histogram[i]))
    return found


cdef uint16_t ip_checksum(const uint8_t *at) noexcept nogil:
    cdef uint32_t total = 0
    cdef uint16_t word
    cdef int i
    for i in range(0, 20, 2):
        memcpy(&word, at + i, 2)
        total += word
    total = (total & 0xffff) + (total >> 16)
    return <uint16_t>~((total & 0xffff) + (total >> 16))


cdef void read_circuit(const uint8_t *at, const uint8_t *end, Answer *answer) noexcept nogil:
    while end - at >= 2 and end - at - 2 >= at[1]:
        if at[0] == 1:
            answer.circuit = at + 2
            answer.circuit_bytes = at[1]
        at += 2 + at[1]


cdef bint read_answer(const uint8_t *data, size_t length, Answer *answer) noexcept nogil:
    """False when it is no DHCP reply at all."""
    cdef const Bootp *bootp = <const Bootp *>data
    cdef const uint8_t *at = data + BOOTP_BYTES
    cdef const uint8_t *end = data + length
    memset(answer, 0, sizeof(Answer))
    if length < BOOTP_BYTES or bootp.op != BOOTREPLY or bootp.cookie_be != swap32(COOKIE):
        return False
    answer.xid = swap32(bootp.xid_be)
    answer.yiaddr_be, answer.giaddr_be = bootp.yiaddr_be, bootp.giaddr_be
    answer.mac = data + 28         # chaddr
    while at < end and at[0] != OPTION_END:
        if at[0] == OPTION_PAD:
            at += 1
            continue
        if end - at < 2 or end - at - 2 < at[1]:
            return True
        if at[0] == OPTION_MESSAGE_TYPE and at[1] == 1:
            answer.kind = at[2]
        elif at[0] == OPTION_SERVER_ID and at[1] == 4:
            answer.server_id_be = load32(at + 2)
        elif at[0] == OPTION_LEASE_TIME and at[1] == 4:
            answer.lease_s = swap32(load32(at + 2))
        elif at[0] == OPTION_RELAY_AGENT:
            read_circuit(at + 2, at + 2 + at[1], answer)
        at += 2 + at[1]
    answer.whole = at < end
    return True


cdef class Wire:
    """A socket, the hosts behind it and the requests that they can send.

    fd: a bound UDP socket (the hosts stand behind relays), or a packet socket on a segment (`ifindex` set: Ethernet frames
    with the hosts' own MACs).  server: its address, an int in host order.  relays: giaddr addresses, likewise; more than
    one needs an fd that is bound to none of them.  unchecked: a reply only has to come back to its host (an echo)."""

    def __cinit__(self, int fd, *, uint32_t server, uint16_t port=67, relays=(), int ifindex=0,
                  bytes server_mac=b"\xff" * 6, bint unchecked=False, int templates=256, **_rest):
        self.fd, self.ifindex, self.framed = fd, ifindex, ifindex != 0
        self.unchecked = unchecked
        self.server_be, self.server_port_be = swap32(server), swap16(port)
        if len(server_mac) != 6:
            raise ValueError(f"server_mac has {len(server_mac)} bytes, wanted 6")
        memcpy(self.server_mac, <const char *>server_mac, 6)
        self.many_relays = len(relays) > 1
        self.relays_be = <uint32_t *>calloc(max(1, len(relays)), sizeof(uint32_t))
        self.templates = <Template *>calloc(templates, sizeof(Template))
        if self.relays_be == NULL or self.templates == NULL:
            raise MemoryError(f"{len(relays)} relays, {templates} templates")
        self.template_room = templates
        for relay in relays:
            self.relays_be[self.relay_count] = swap32(relay)
            self.relay_count += 1
        self.wire_up()

    def __dealloc__(self):
        free(self.peers)
        free(self.templates)
        free(self.relays_be)

    def set_peers(self, bytes macs not None, addresses, relays=None):
        """macs: six bytes each, one after the other; addresses: array of ints in host order, 0 = unknown; relays: array
        of indices into the relays of the wire.  ValueError when their numbers differ or an index is too high."""
        cdef uint32_t i, count = len(macs) // 6
        cdef Peer *peers
        if count == 0 or len(macs) % 6 or len(addresses) != count or (relays is not None and len(relays) != count):
            raise ValueError(f"{len(macs)} bytes of MACs, {len(addresses)} addresses, "
                             f"{'no' if relays is None else len(relays)} relays: wanted as many of each, at least one")
        peers = <Peer *>calloc(count, sizeof(Peer))
        if peers == NULL:
            raise MemoryError(f"{count} hosts")
        free(self.peers)
        self.peers, self.peer_count = peers, count
        for i in range(count):
            memcpy(peers[i].mac, <const char *>macs + 6 * i, 6)
            peers[i].address_be = swap32(addresses[i])
            peers[i].relay = relays[i] if relays is not None else 0
            if self.relay_count and peers[i].relay >= self.relay_count:
                raise ValueError(f"host {i}: relay {peers[i].relay}, the wire has {self.relay_count}")

    def add_template(self, bytes data not None, *, int kind, int wants, int requested_at=0, int server_at=0,
                     int client_id_at=0, int circuit_at=0, bint ciaddr=False, bint unicast=False) -> int:
        """Index of one request; its holes are offsets, 0 = it has none.  wants: type of the right reply, 0 = silence."""
        cdef Template *template
        if self.template_count == self.template_room:
            raise ValueError(f"more than {self.template_room} templates")
        if not BOOTP_BYTES <= len(data) <= PAYLOAD_BYTES:
            raise ValueError(f"a request of {len(data)} bytes, wanted {BOOTP_BYTES} to {PAYLOAD_BYTES}")
        for at, room in ((requested_at, 4), (server_at, 4), (client_id_at, 6), (circuit_at, 4)):
            if at and not BOOTP_BYTES <= at <= len(data) - room:
                raise ValueError(f"a hole of {room} bytes at {at}: not in the options of {len(data)} bytes")
        template = &self.templates[self.template_count]
        memcpy(template.data, <const char *>data, len(data))
        template.length = len(data)
        template.requested_at, template.server_at = requested_at, server_at
        template.client_id_at, template.circuit_at = client_id_at, circuit_at
        template.kind, template.wants = kind, wants
        template.ciaddr, template.unicast = ciaddr, unicast
        self.template_count += 1
        return self.template_count - 1

    def addresses(self) -> list:
        """What each host got or had to get, in host order."""
        return [swap32(self.peers[i].address_be) for i in range(self.peer_count)]

    def figures(self) -> dict:
        """Counts of the wire itself: what it received, replies by fault, what the kernel did not take."""
        cdef int i
        faults = {}
        for i in range(FAULT_COUNT):
            faults[FAULTS[i]] = self.faults[i]
        return {"received": self.received, "blocked": self.blocked, "send_errors": self.send_errors,
                "last_error": self.last_error, "faults": faults}

    def samples_kept(self) -> list:
        """The first faulty replies: (fault, MAC that it was checked against or b"", bytes)."""
        found = []
        for i in range(self.sample_count):
            peer = self.samples[i].peer
            mac = b"" if peer >= self.peer_count else <bytes>(<const char *>self.peers[peer].mac)[:6]
            data = <bytes>(<const char *>self.samples[i].data)[:self.samples[i].length]
            found.append((FAULTS[self.samples[i].fault], mac, data))
        return found

    def stop(self):
        """Ask the loop to send nothing more; replies are still awaited for its tail."""
        store_release_int(&self.stopping, 1)

    cdef void wire_up(self) noexcept nogil:
        cdef int i
        cdef msghdr *header
        cdef cmsghdr *cmsg
        memset(self.out_headers, 0, sizeof(self.out_headers))
        memset(self.in_headers, 0, sizeof(self.in_headers))
        for i in range(BATCH):
            header = &self.out_headers[i].msg_hdr
            header.msg_iov = &self.out_pieces[i]
            header.msg_iovlen = 1
            self.out_pieces[i].iov_base = self.out_data[i] + (0 if self.framed else HEAD_BYTES)
            if self.framed:
                memset(&self.out_frames[i], 0, sizeof(sockaddr_ll))
                self.out_frames[i].sll_family = AF_PACKET
                self.out_frames[i].sll_protocol = swap16(ETH_P_IP)
                self.out_frames[i].sll_ifindex = self.ifindex
                self.out_frames[i].sll_halen = 6
                header.msg_name = &self.out_frames[i]
                header.msg_namelen = sizeof(sockaddr_ll)
            else:
                memset(&self.out_names[i], 0, sizeof(sockaddr_in))
                self.out_names[i].sin_family = AF_INET
                self.out_names[i].sin_port = self.server_port_be
                self.out_names[i].sin_addr.s_addr = self.server_be
                header.msg_name = &self.out_names[i]
                header.msg_namelen = sizeof(sockaddr_in)
            if self.many_relays:
                memset(self.out_control[i], 0, CONTROL_BYTES)
                header.msg_control = self.out_control[i]
                header.msg_controllen = CMSG_SPACE(sizeof(in_pktinfo))
                cmsg = CMSG_FIRSTHDR(header)
                cmsg.cmsg_level = IPPROTO_IP
                cmsg.cmsg_type = IP_PKTINFO
                cmsg.cmsg_len = CMSG_LEN(sizeof(in_pktinfo))
            header = &self.in_headers[i].msg_hdr
            header.msg_iov = &self.in_pieces[i]
            header.msg_iovlen = 1
            header.msg_control = self.in_control[i]
            self.in_pieces[i].iov_base = self.in_data[i]
            self.in_pieces[i].iov_len = FRAME_BYTES

    cdef void put(self, uint32_t peer_at, uint32_t template_at, uint32_t xid, uint16_t secs) noexcept nogil:
        """Append one request to the batch, which must have room."""
        cdef Peer *peer = &self.peers[peer_at]
        cdef const Template *template = &self.templates[template_at]
        cdef uint8_t *at = self.out_data[self.out_count] + HEAD_BYTES
        cdef Bootp *bootp = <Bootp *>at
        cdef uint32_t number, server_id_be
        cdef in_pktinfo *info
        memcpy(at, template.data, template.length)
        bootp.xid_be = swap32(xid)
        bootp.secs_be = swap16(secs)
        memcpy(bootp.chaddr, peer.mac, 6)
        if template.ciaddr:
            bootp.ciaddr_be = peer.address_be
        if template.requested_at:
            memcpy(at + template.requested_at, &peer.address_be, 4)
        if template.server_at:
            server_id_be = peer.server_id_be if peer.server_id_be else self.server_be
            memcpy(at + template.server_at, &server_id_be, 4)
        if template.client_id_at:
            memcpy(at + template.client_id_at, peer.mac, 6)
        if template.circuit_at:
            number = swap32(peer.relay)
            memcpy(at + template.circuit_at, &number, 4)
        if self.framed:
            self.put_frame(at, peer, template)
            self.out_pieces[self.out_count].iov_len = HEAD_BYTES + template.length
        else:
            bootp.hops = 1
            bootp.giaddr_be = self.relays_be[peer.relay]
            self.out_pieces[self.out_count].iov_len = template.length
            if self.many_relays:
                info = <in_pktinfo *>CMSG_DATA(CMSG_FIRSTHDR(&self.out_headers[self.out_count].msg_hdr))
                info.ipi_ifindex = 0
                info.ipi_spec_dst.s_addr = bootp.giaddr_be
        self.out_count += 1

    cdef void put_frame(self, uint8_t *at, const Peer *peer, const Template *template) noexcept nogil:
        """Headers in front of the payload; no UDP checksum, which is legal (RFC 768) and what dhcpcd does."""
        cdef uint8_t *head = at - HEAD_BYTES
        cdef uint16_t value
        memset(head, 0, HEAD_BYTES)
        if template.unicast:
            memcpy(head, self.server_mac, 6)
            memcpy(head + 26, &peer.address_be, 4)
            memcpy(head + 30, &self.server_be, 4)
        else:
            memset(head, 0xff, 6)
            memset(head + 30, 0xff, 4)
        memcpy(head + 6, peer.mac, 6)
        memcpy(self.out_frames[self.out_count].sll_addr, head, 6)
        head[12] = 0x08
        head[14] = 0x45
        value = swap16(<uint16_t>(28 + template.length))
        memcpy(head + 16, &value, 2)
        self.ip_id += 1
        memcpy(head + 18, &self.ip_id, 2)
        head[22] = 64
        head[23] = 17
        value = ip_checksum(head + 14)
        memcpy(head + 24, &value, 2)
        head[35] = 68
        memcpy(head + 36, &self.server_port_be, 2)
        value = swap16(<uint16_t>(8 + template.length))
        memcpy(head + 38, &value, 2)

    cdef void flush(self) noexcept nogil:
        """Send the batch.  What the kernel does not take yet is offered again; what it refuses twice is counted."""
        cdef unsigned int at = 0
        cdef int sent
        cdef bint again = False
        cdef pollfd wait
        while at < self.out_count:
            sent = sendmmsg(self.fd, self.out_headers + at, self.out_count - at, MSG_DONTWAIT)
            if sent > 0:
                at += sent
                again = False
            elif c_errno == EAGAIN or c_errno == ENOBUFS:
                self.blocked += 1
                if load_acquire_int(&self.stopping):
                    break
                wait.fd, wait.events, wait.revents = self.fd, POLLOUT, 0
                pause_until(&wait, 1, 1000000)
            elif c_errno != EINTR:
                if again:          # the first time it may be the echo of an earlier datagram (ICMP)
                    self.send_errors += 1
                    self.last_error = c_errno
                    at += 1
                again = not again
        self.out_count = 0

    cdef int receive(self) noexcept nogil:
        """Take what is there, at most a few batches; how many datagrams it was."""
        cdef int i, count, total = 0
        cdef int64_t shift_ns, when_ns
        cdef size_t header
        cdef cmsghdr *cmsg
        cdef timespec *stamp
        cdef uint8_t *data
        for _ in range(DRAIN_BATCHES):
            for i in range(BATCH):
                self.in_headers[i].msg_hdr.msg_controllen = CONTROL_BYTES
            count = recvmmsg(self.fd, self.in_headers, BATCH, MSG_DONTWAIT, NULL)
            if count <= 0:
                break
            total += count
            when_ns = now_ns()
            shift_ns = when_ns - clock_ns(CLOCK_REALTIME)
            for i in range(count):
                cmsg = CMSG_FIRSTHDR(&self.in_headers[i].msg_hdr)
                if cmsg != NULL and cmsg.cmsg_level == SOL_SOCKET and cmsg.cmsg_type == SO_TIMESTAMPNS:
                    stamp = <timespec *>CMSG_DATA(cmsg)
                    when_ns = <int64_t>stamp.tv_sec * 1000000000 + stamp.tv_nsec + shift_ns
                data, header = self.in_data[i], 0
                if self.framed:
                    header = 14 + 4 * (data[14] & 15) + 8
                    if (self.in_headers[i].msg_len < header or data[12] != 8 or data[13] != 0 or data[23] != 17
                            or data[header - 6] != 0 or data[header - 5] != 68):
                        continue
                self.received += 1
                self.take(data + header, self.in_headers[i].msg_len - header, when_ns)
            if count < BATCH:
                break
        return total

    cdef void take(self, const uint8_t *data, size_t length, int64_t when_ns) noexcept nogil:
        pass

    cdef Fault check(self, const Answer *answer, Peer *peer, const Template *template) noexcept nogil:
        """Is it the right reply to this request of this host?  A host without an appointed address keeps its first."""
        cdef uint32_t number
        if memcmp(answer.mac, peer.mac, 6) != 0:
            return WRONG_MAC
        if self.unchecked:
            return RIGHT
        if not answer.whole:
            return MALFORMED
        if template.wants == 0:
            return UNEXPECTED
        if answer.kind != template.wants:
            return WRONG_TYPE
        if not self.framed and answer.giaddr_be != self.relays_be[peer.relay]:
            return WRONG_ADDRESS
        if answer.server_id_be == 0:
            return WRONG_OPTIONS
        if template.circuit_at:
            number = swap32(peer.relay)
            if answer.circuit_bytes != 4 or memcmp(answer.circuit, &number, 4) != 0:
                return WRONG_OPTIONS
        if answer.kind != DHCPNAK and template.kind != DHCPINFORM:
            if answer.yiaddr_be == 0 or (peer.address_be != 0 and answer.yiaddr_be != peer.address_be):
                return WRONG_ADDRESS
            if answer.lease_s == 0:
                return WRONG_OPTIONS
            peer.address_be = answer.yiaddr_be
            peer.server_id_be = answer.server_id_be
        return RIGHT

    cdef void keep(self, const uint8_t *data, size_t length, uint32_t peer, Fault fault) noexcept nogil:
        cdef Sample *sample
        if self.sample_count < SAMPLES:
            sample = &self.samples[self.sample_count]
            sample.length = <uint16_t>min(length, <size_t>PAYLOAD_BYTES)
            memcpy(sample.data, data, sample.length)
            sample.peer, sample.fault = peer, <int>fault
            self.sample_count += 1

    cdef void pause(self, int64_t until_ns) noexcept nogil:
        """Until something arrives or the time has come, less what waking up takes."""
        cdef int64_t left = min(until_ns - now_ns(), <int64_t>PAUSE_NS) - SPIN_NS
        cdef pollfd wait
        if left > 0:
            wait.fd, wait.events, wait.revents = self.fd, POLLIN, 0
            pause_until(&wait, 1, left)
