"""libFuzzer over answer(): parse, classify, judge, encode, under ASan and UBSan, without an interpreter.

An input is a Place and a datagram (population.py).  What must hold for every input:

1. ASan and UBSan have nothing to say; the datagram's last octet and the reply's last octet are fenced.
2. A verdict is one of those that answer() may return; nobody is late who did not wait.
3. An answer goes to a datagram with op 1 only, from a MAC that the table serves.
4. It has 300 bytes at least, and at most the buffer's, the client's and the interface's limit; op 2; the request's
   xid, chaddr and giaddr; yiaddr is an address of that host (OFFER, ACK) or 0, and always 0 where another server
   gives the address and at the boot port.
5. Its options begin with 53 and 54, end with END before the end, with 82 last and untouched when there was one; so do
   file and sname when 52 says that they hold options.
6. It goes to giaddr when there is one, which is never ours, in 0/8, 127/8, 224/3, a broadcast of our links or outside
   dhcp.relays; else to 255.255.255.255 on the wire that it came from, or to an address of that host; where that is not
   known, and at the boot port, to ciaddr when that is the sender's, at the boot port to the port that it came from.
7. The reply, fed back in, is never answered.
8. The same input gives the same output, whatever was in the memory before.

invariants.py says 2 to 8 again in Python, for the replay.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdio cimport FILE, SEEK_END, SEEK_SET, fclose, fopen, fprintf, fread, fseek, ftell, snprintf, stderr
from libc.stdlib cimport abort, malloc
from libc.string cimport memcmp, memcpy, memset

from ext.answer cimport answer
from ext.judge cimport Decision
from ext.leases cimport *
from ext.packet cimport ROUTE_BROADCAST, ROUTE_FRAME, ROUTE_UDP, Packet, Reply
from ext.request cimport Request
from ext.roles cimport role_of
from ext.rfc2131 cimport *
from ext.verdict cimport *
from ext.wire cimport load32, swap16, swap32


cdef extern from "sanitizer/asan_interface.h" nogil:
    void fence "__asan_poison_memory_region"(const void *, size_t)
    void unfence "__asan_unpoison_memory_region"(const void *, size_t)


cdef extern from *:
    """
    size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);
    """
    size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max) noexcept nogil


cdef packed struct Place:
    uint8_t site
    uint8_t ifindex
    uint8_t flags
    uint8_t waited
    uint16_t source_port_be
    uint16_t capacity_be
    uint32_t source_be
    uint32_t destination_be
    uint32_t local_be
    int32_t age_s_be


cdef enum:
    SITE_COUNT = 5
    PLACE_BYTES = 24
    USUAL_BYTES = PLACE_BYTES + 576
    TX_BYTES = 1508
    FENCE_BYTES = 32               # before and behind a reply: ASan fences whole multiples of 8
    PLACE_TRUNCATED = 1
    PLACE_NO_TABLE = 2
    PLACE_AT_BOOT_PORT = 4
    WAITED_NS = 16000000           # a unit of Place.waited

cdef Site sites[SITE_COUNT]
cdef uint8_t first_room[FENCE_BYTES + 1536 + FENCE_BYTES]
cdef uint8_t second_room[FENCE_BYTES + 1536 + FENCE_BYTES]


cdef void broken(const char *rule) noexcept nogil:
    fprintf(stderr, b"invariant broken: %s\n", rule)
    abort()


cdef void attach(Table *table, int number, const char *kind) noexcept nogil:
    """One generation into heap memory of just its size: a read past it is a finding."""
    cdef char name[64]
    cdef FILE *file
    cdef const char *fault
    cdef long size
    cdef void *at
    snprintf(name, sizeof(name), b"build/fuzz/sites/%d.%s", number, kind)
    file = fopen(name, b"rb")
    if file == NULL:
        return                                                   # join_site says what a missing base means
    fseek(file, 0, SEEK_END)
    size = ftell(file)
    fseek(file, 0, SEEK_SET)
    at = malloc(size)
    if fread(at, 1, size, file) != <size_t>size:
        broken(b"a generation under build/fuzz/sites can be read whole")
    fclose(file)
    fault = attach_table(table, at, size)
    if fault != NULL:
        broken(fault)


cdef public int LLVMFuzzerInitialize(int *argc, char ***argv) noexcept nogil:
    cdef int number
    cdef const char *fault
    for number in range(SITE_COUNT):
        attach(&sites[number].base, number, b"base")
        attach(&sites[number].delta, number, b"delta")
        if sites[number].base.header == NULL:
            broken(b"build/fuzz/sites holds every site: start this by `make fuzz`, from the project's folder")
        fault = join_site(&sites[number])
        if fault != NULL:
            broken(fault)
    return 0


cdef public size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned int seed) noexcept nogil:
    """Mostly the datagram or its options alone: a Place that slides into the datagram asks nothing new.

    Fifteen of sixteen are cut to the length that clients send: a long one costs as much as ten and says no more."""
    cdef size_t kept = 0
    if seed // 8 % 16 != 0:
        size_max = min(size_max, <size_t>USUAL_BYTES)
        size = min(size, size_max)
    if seed % 8 < 4:
        kept = PLACE_BYTES + BOOTP_BYTES
    elif seed % 8 < 6:
        kept = PLACE_BYTES
    elif seed % 8 == 6 and size >= PLACE_BYTES:
        LLVMFuzzerMutate(data, PLACE_BYTES, PLACE_BYTES)
        return size
    if size < kept or size_max <= kept:
        kept = 0
    return kept + LLVMFuzzerMutate(data + kept, size - kept, size_max - kept)


cdef Verdict ask(const Site *site, const Packet *packet, uint8_t *room, uint8_t dirt, size_t capacity,
                 Request *request, Decision *decision, Reply *reply) noexcept nogil:
    """answer() into memory full of dirt, with both ends of the reply fenced."""
    cdef Verdict verdict
    memset(request, dirt, sizeof(Request))
    memset(decision, dirt, sizeof(Decision))
    memset(reply, dirt, sizeof(Reply))
    memset(room, dirt, sizeof(first_room))
    reply.data = room + FENCE_BYTES
    reply.capacity = capacity
    fence(room, FENCE_BYTES)
    fence(reply.data + capacity, sizeof(first_room) - FENCE_BYTES - capacity)
    verdict = answer(site, packet, request, decision, reply)
    unfence(room, sizeof(first_room))
    return verdict


cdef bint same_mac(const uint8_t *a, const uint8_t *b) noexcept nogil:
    """No memcmp: libFuzzer would take the addresses of the checks for words worth trying, thousands a second."""
    cdef uint16_t last_a, last_b
    memcpy(&last_a, a + 4, 2)
    memcpy(&last_b, b + 4, 2)
    return ((load32(a) ^ load32(b)) | (last_a ^ last_b)) == 0


cdef const Lease *row_of(const Table *table, const uint8_t *mac, uint8_t role) noexcept nogil:
    """A host's first lease by reading all of them: knows nothing of slots and hashes."""
    cdef uint32_t at = 0
    while table.header != NULL and at < table.lease_count:
        if same_mac(table.leases[at].mac, mac) and table.leases[at].role == role:
            return table.leases + at
        at += table.leases[at].lease_count
    return NULL


cdef const Lease *in_role(const Site *site, const uint8_t *mac, uint8_t role) noexcept nogil:
    cdef const Lease *row = row_of(&site.delta, mac, role)
    if row == NULL:
        row = row_of(&site.base, mac, role)
    return row if row != NULL and row.state != TOMBSTONE else NULL


cdef const Lease *host_of(const Site *site, const Request *request) noexcept nogil:
    """NULL for everybody who must not be answered."""
    cdef const Lease *row = NULL
    if role_of(site, request) == ROLE_HOST:
        row = in_role(site, request.mac, ROLE_HOST)
    if row == NULL and site.rule_count != 0:
        row = in_role(site, request.mac, ROLE_BMC)
    return row if row != NULL and (row.state == SERVED or row.state == PROXIED) else NULL


cdef bint owns(const Lease *host, uint32_t address_be) noexcept nogil:
    cdef int i
    for i in range(host.lease_count):
        if host[i].address_be == address_be:
            return True
    return False


cdef uint32_t host_bits(uint8_t prefix) noexcept nogil:
    return <uint32_t>0xffffffff >> prefix if prefix < 32 else 0


cdef void check_relay(const Site *site, uint32_t giaddr_be) noexcept nogil:
    cdef uint32_t giaddr = swap32(giaddr_be), own, bits, i
    cdef uint32_t top = giaddr >> 24
    cdef bint listed = site.relay_count == 0
    if top == 0 or top == 127 or top >= 224:
        broken(b"6: giaddr is an address that a host may have")
    for i in range(site.link_count):
        own, bits = swap32(site.links[i].address_be), host_bits(site.links[i].prefix)
        if giaddr == own:
            broken(b"6: giaddr is not ours")
        if bits > 1 and giaddr & ~bits == own & ~bits and (giaddr & bits == 0 or giaddr & bits == bits):
            broken(b"6: giaddr is no broadcast of a link of ours")
    for i in range(site.relay_count):
        bits = host_bits(site.relays[i].prefix)
        if giaddr & ~bits == swap32(site.relays[i].address_be) & ~bits:
            listed = True
    if not listed:
        broken(b"6: giaddr is in dhcp.relays")


cdef void check_sender(const Site *site, const Packet *packet, const Bootp *asked, const Reply *reply) noexcept nogil:
    """The reply goes to who says so himself, twice, and to nobody that is ours."""
    cdef uint32_t to = swap32(reply.destination_be), own, bits, i
    if reply.destination_be != packet.source_be or reply.destination_be != asked.ciaddr_be:
        broken(b"6: ciaddr is the sender's own address")
    if to >> 24 == 0 or to >> 24 == 127 or to >> 24 >= 224:
        broken(b"6: the sender's address is one that a host may have")
    for i in range(site.link_count):
        own, bits = swap32(site.links[i].address_be), host_bits(site.links[i].prefix)
        if to == own or (bits > 1 and to & ~bits == own & ~bits and (to & bits == 0 or to & bits == bits)):
            broken(b"6: the sender's address is neither ours nor a broadcast of ours")


cdef void check_destination(const Site *site, const Packet *packet, const Bootp *asked, const Lease *host,
                            const Reply *reply) noexcept nogil:
    cdef uint32_t i
    cdef bint ours = reply.source_be == packet.destination_be and packet.destination_be == packet.local_be
    if asked.giaddr_be != 0:
        check_relay(site, asked.giaddr_be)
        if reply.route != ROUTE_UDP or reply.destination_be != asked.giaddr_be:
            broken(b"6: a relayed answer goes to giaddr")
        if reply.port_be != swap16(SERVER_PORT) and reply.port_be != packet.source_port_be:
            broken(b"6: a relay is answered at 67 or where it asked from")
    else:
        if reply.port_be != (packet.source_port_be if packet.at_boot_port else swap16(CLIENT_PORT)):
            broken(b"6: a client is answered at 68, at the boot port where it asked from")
        if <int>(reply.destination_be == <uint32_t>0xffffffff) != <int>(reply.route == ROUTE_BROADCAST):
            broken(b"6: 255.255.255.255 goes out as a broadcast, and nothing else does")
        if packet.at_boot_port or (host.state == PROXIED and reply.route != ROUTE_BROADCAST):
            check_sender(site, packet, asked, reply)
        if reply.route != ROUTE_BROADCAST and host.state == SERVED and not owns(host, reply.destination_be):
            broken(b"6: the destination is an address of this host")
    if reply.route != ROUTE_UDP and reply.ifindex != packet.ifindex:
        broken(b"6: frames go out where the request came in")
    if reply.route == ROUTE_FRAME and (asked.htype != HTYPE_ETHERNET or memcmp(reply.mac, asked.chaddr, 6) != 0):
        broken(b"6: a frame goes to the client's own MAC")
    for i in range(site.link_count):
        if site.links[i].address_be == reply.source_be:
            ours = True
    if not ours or reply.source_be == 0:
        broken(b"6: the source is an address of this machine")


cdef void check_fixed(const Bootp *asked, const Bootp *said, const Lease *host, Verdict verdict) noexcept nogil:
    if said.op != BOOTREPLY or said.htype != asked.htype or said.hlen != asked.hlen or said.cookie_be != asked.cookie_be:
        broken(b"4: op 2, the request's hardware, the cookie")
    if said.xid_be != asked.xid_be or said.giaddr_be != asked.giaddr_be or memcmp(said.chaddr, asked.chaddr, 16) != 0:
        broken(b"4: the request's xid, giaddr and chaddr")
    if (host.state == PROXIED) and verdict != OFFERED_PROXY and verdict != ACKED_INFORM and verdict != ACKED_BOOT:
        broken(b"4: no address, and no NAK, for who has his address from another server")
    if verdict == OFFERED_PROXY and host.state != PROXIED:
        broken(b"4: an offer without address for those hosts alone")
    if verdict == NAKED or verdict == ACKED_INFORM or verdict == OFFERED_PROXY or verdict == ACKED_BOOT:
        if said.yiaddr_be != 0:
            broken(b"4: no yiaddr in a NAK, for an INFORM, and of the boot service")
    elif not owns(host, said.yiaddr_be):
        broken(b"4: yiaddr is an address of this host")
    if (verdict == ACKED_INFORM or verdict == ACKED_BOOT) and host.state == SERVED and not owns(host, asked.ciaddr_be):
        broken(b"4: an INFORM is answered for the host's own address only")


cdef const uint8_t *walk(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """The last option before END, or END itself when there is none; the area must end in an END and then zeros."""
    cdef const uint8_t *last = NULL
    while at < end and at[0] != OPTION_END:
        if end - at < 2 or end - at - 2 <= at[1] or at[0] == OPTION_PAD:
            broken(b"5: whole options, no PAD between them, up to an END inside the area")
        last = at
        at += 2 + at[1]
    if at == end:
        broken(b"5: an END inside the area")
    if last == NULL:
        last = at
    while at + 1 < end:
        at += 1
        if at[0] != 0:
            broken(b"5: nothing but zeros behind the END")
    return last


cdef void check_bootp(const uint8_t *at) noexcept nogil:
    while at[0] != OPTION_END:
        if OPTION_LEASE_TIME <= at[0] <= OPTION_SERVER_ID or at[0] == OPTION_RENEWAL_TIME or at[0] == OPTION_REBINDING_TIME:
            broken(b"5: BOOTP knows no option of DHCP's own")
        at += 2 + at[1]


cdef void check_options(const Request *request, const Reply *reply, Verdict verdict) noexcept nogil:
    cdef const Bootp *said = <const Bootp *>reply.data
    cdef const uint8_t *at = reply.data + BOOTP_BYTES
    cdef const uint8_t *last = walk(at, reply.data + reply.length)
    cdef uint8_t kind = DHCPOFFER if verdict == OFFERED or verdict == OFFERED_PROXY else DHCPNAK if verdict == NAKED else DHCPACK
    if verdict == ANSWERED_BOOTP:
        check_bootp(at)
    elif at[0] != OPTION_MESSAGE_TYPE or at[1] != 1 or at[2] != kind:
        broken(b"5: option 53 first, of the verdict's kind")
    elif at[3] != OPTION_SERVER_ID or at[4] != 4 or (at[5] | at[6] | at[7] | at[8]) == 0:
        broken(b"5: option 54 second, and not 0")
    if <int>(last[0] == OPTION_RELAY_AGENT) != <int>(request.relay_agent.length != 0):
        broken(b"5: option 82 is the last when the request had one, and absent when not")
    if last[0] == OPTION_RELAY_AGENT and (last[1] != request.relay_agent.length
                                          or memcmp(last + 2, request.relay_agent.at, last[1]) != 0):
        broken(b"5: option 82 as it came")
    while at[0] != OPTION_END:
        if at[0] == OPTION_OVERLOAD and at[2] & OVERLOAD_FILE:
            walk(said.file, said.file + sizeof(said.file))
        if at[0] == OPTION_OVERLOAD and at[2] & OVERLOAD_SNAME:
            walk(said.sname, said.sname + sizeof(said.sname))
        at += 2 + at[1]


cdef void check_size(const Site *site, const Packet *packet, const Request *request, const Reply *reply) noexcept nogil:
    cdef size_t client = request.max_size if request.max_size > CLIENT_MTU_MIN else CLIENT_MTU_MIN
    cdef uint32_t i
    if request.message_type == 0:
        client = REPLY_BYTES_MIN + IP_UDP_BYTES
    if request.relay_agent.length:
        client += 2 + request.relay_agent.length                 # the relay takes its own away again
    if reply.length < REPLY_BYTES_MIN or reply.length > reply.capacity or reply.length + IP_UDP_BYTES > client:
        broken(b"4: 300 bytes at least, at most what the buffer and the client take")
    for i in range(site.link_count):
        if site.links[i].ifindex == packet.ifindex:
            if reply.length + IP_UDP_BYTES > site.links[i].mtu:
                broken(b"4: at most the interface's MTU")
            return


cdef void check(const Site *site, const Packet *packet, const Request *request, const Reply *reply,
                Verdict verdict) noexcept nogil:
    """Rules 3 to 7, for an answer."""
    cdef const Bootp *asked = <const Bootp *>packet.data
    cdef const Lease *host
    cdef Packet reflected = packet[0]
    cdef Request other
    cdef Decision decision
    cdef Reply answered
    if packet.truncated or packet.length < BOOTP_BYTES or asked.op != BOOTREQUEST or request.mac == NULL:
        broken(b"3: a whole request from a host with a MAC")
    if asked.hlen >= 6 and memcmp(request.mac, asked.chaddr, 6) != 0:
        broken(b"3: a host with a hardware address is known by that alone")
    host = host_of(site, request)
    if host == NULL:
        broken(b"3: a host that the table serves")
    check_size(site, packet, request, reply)
    check_fixed(asked, <const Bootp *>reply.data, host, verdict)
    check_options(request, reply, verdict)
    check_destination(site, packet, asked, host, reply)
    if <int>reply.from_boot_port != <int>packet.at_boot_port or <int>(verdict == ACKED_BOOT) != <int>packet.at_boot_port:
        broken(b"6: the boot port's answers go out by it, and no others do")
    if packet.at_boot_port and asked.giaddr_be != 0:
        broken(b"6: no relay is answered at the boot port")
    reflected.data, reflected.length = reply.data, reply.length
    if ask(site, &reflected, second_room, 0x5a, TX_BYTES, &other, &decision, &answered) != IGNORED_NOT_REQUEST:
        broken(b"7: a reply is never answered")


cdef public int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) noexcept nogil:
    cdef const Place *place = <const Place *>data
    cdef Site nothing
    cdef const Site *site
    cdef Packet packet
    cdef Request request, other_request
    cdef Decision decision, other_decision
    cdef Reply reply, other
    cdef Verdict verdict
    cdef size_t capacity
    if size < PLACE_BYTES:
        return 0
    memset(&nothing, 0, sizeof(nothing))
    sites[place.site % SITE_COUNT].age_s = <int32_t>swap32(<uint32_t>place.age_s_be)
    site = &nothing if place.flags & PLACE_NO_TABLE else &sites[place.site % SITE_COUNT]
    capacity = swap16(place.capacity_be)
    if capacity == 0 or capacity > TX_BYTES:
        capacity = TX_BYTES
    packet.data, packet.length = data + PLACE_BYTES, size - PLACE_BYTES
    packet.truncated = (place.flags & PLACE_TRUNCATED) != 0
    packet.at_boot_port = (place.flags & PLACE_AT_BOOT_PORT) != 0
    packet.waited_ns = <int64_t>place.waited * WAITED_NS
    packet.ifindex = place.ifindex
    packet.source_be, packet.source_port_be = place.source_be, place.source_port_be
    packet.destination_be, packet.local_be = place.destination_be, place.local_be
    fence(data, PLACE_BYTES)
    verdict = ask(site, &packet, first_room, 0xa5, capacity, &request, &decision, &reply)
    if ask(site, &packet, second_room, 0x00, capacity, &other_request, &other_decision, &other) != verdict:
        broken(b"8: the same verdict twice")
    if not 0 <= <int>verdict < <int>ABANDONED and verdict != IGNORED_LATE:
        broken(b"2: a verdict that answer() may return")
    if verdict == IGNORED_LATE and packet.waited_ns == 0:
        broken(b"2: nobody is late who did not wait")
    if is_answer(verdict):
        if (other.length != reply.length or memcmp(other.data, reply.data, reply.length) != 0
                or other.route != reply.route or other.destination_be != reply.destination_be
                or other.port_be != reply.port_be or other.source_be != reply.source_be
                or other.ifindex != reply.ifindex or memcmp(other.mac, reply.mac, 6) != 0):
            broken(b"8: the same reply to the same place twice")
        check(site, &packet, &request, &reply, verdict)
    unfence(data, PLACE_BYTES)
    return 0
