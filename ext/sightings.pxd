"""What a worker tells control: hosts that wait for an answer that they do not get, and what answered hosts say of themselves.

Both go into the page's ring (ext/page.pxd: Event), each once in a while for the same host: a flood must not fill it.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ext.classify cimport NO_STATE, OS, client_state, firmware_class
from ext.judge cimport Decision, is_unicast
from ext.leases cimport ROLE_HOST, Site, key_of, prefetch, slot_of
from ext.packet cimport Packet
from ext.page cimport *
from ext.request cimport Request, Span
from ext.roles cimport role_of
from ext.verdict cimport *


cdef enum:
    SEEN = 1024                    # power of two: hosts whose refusal was pushed within the second
    KNOWN = 32768                  # power of two: sets of hosts that were ACKed of late
    STAGES = 4                     # a set holds so many: one machine's ROM, iPXE, system and BMC
    TOLD_S = 300                   # a host that says the same as before is a sighting once in this time
    LOOP_S = 60                    # an ACK so soon after the last one of the same machine in the same stage of its boot,
    LOOP_ACKS = 4                  # so many in a row: a boot loop
    STRANGERS_BURST = 256          # of the recorder's places that a flood of strangers may take at once,
    STRANGERS_PER_S = 8            # and in each second of it


cdef packed struct ClientHistory:   # a host in one stage of its boot, as it last was ACKed; 32 bytes, a set two cache lines
    uint64_t key
    uint32_t said                  # hash of what it said of itself
    uint32_t told_s                # when control last heard of it, CLOCK_BOOTTIME and TOLD_S; 0 never
    uint32_t last_s                # the last of `acks`
    uint32_t xid_be
    uint32_t acks                  # in a row, each at most LOOP_S after the one before
    uint32_t reserved


cdef struct Notebook:              # a worker's own; nothing in it decides about an answer
    uint64_t seen_key[SEEN]
    int64_t seen_s[SEEN]
    ClientHistory known[KNOWN][STAGES]
    int64_t strangers_s            # when `strangers` was last filled up
    int64_t strangers              # that may still be recorded


cdef inline bint may_record(Notebook *notebook, int64_t now_ns) noexcept nogil:
    """Whether one more stranger's datagram may push an older one out of the recorder, perhaps a host's."""
    cdef int64_t now_s = now_ns // 1000000000
    if now_s != notebook.strangers_s:
        notebook.strangers += (now_s - notebook.strangers_s) * STRANGERS_PER_S
        notebook.strangers_s = now_s
        if notebook.strangers > STRANGERS_BURST or notebook.strangers < 0:
            notebook.strangers = STRANGERS_BURST
    if notebook.strangers == 0:
        return False
    notebook.strangers -= 1
    return True


cdef inline const uint8_t *name_of(const Request *request) noexcept nogil:
    """6 bytes that tell a host apart in events, also where the datagram names none."""
    return request.mac if request.mac != NULL else &request.bootp.chaddr[0]


cdef inline uint64_t hash_of(const Span *span, uint64_t seed) noexcept nogil:
    cdef uint64_t value = seed ^ span.length
    cdef uint64_t word
    cdef uint16_t at = 0
    while at < span.length:
        word = 0
        memcpy(&word, span.at + at, 8 if span.length - at > 8 else span.length - at)
        value = (value ^ word) * <uint64_t>0x9E3779B97F4A7C15
        value ^= value >> 29
        at += 8
    return value


cdef inline void describe(Event *event, int64_t now_ns, const Packet *packet, const Request *request,
                          Verdict verdict) noexcept nogil:
    memset(event, 0, sizeof(Event))
    event.boottime_ns = now_ns
    event.xid_be = request.bootp.xid_be
    event.ifindex = packet.ifindex
    event.giaddr_be = request.bootp.giaddr_be
    event.ciaddr_be = request.bootp.ciaddr_be
    event.requested_be = request.requested_be
    event.server_id_be = request.server_id_be
    event.source_be = packet.source_be
    memcpy(event.mac, name_of(request), 6)
    event.verdict = <uint8_t>verdict
    event.message_type = request.message_type
    event.htype = request.bootp.htype
    event.client_class = <uint8_t>firmware_class(request)
    event.client_state = <uint8_t>(NO_STATE if packet.at_boot_port else client_state(request, is_unicast(packet)))
    event.role = ROLE_HOST
    event.vendor_bytes = <uint8_t>min(<uint16_t>sizeof(event.vendor), request.vendor_class.length)
    memcpy(event.vendor, request.vendor_class.at, event.vendor_bytes)
    event.client_id_bytes = <uint8_t>min(<uint16_t>sizeof(event.client_id), request.client_id.length)
    memcpy(event.client_id, request.client_id.at, event.client_id_bytes)
    event.relay_agent_bytes = <uint8_t>min(<uint16_t>sizeof(event.relay_agent), request.relay_agent.length)
    memcpy(event.relay_agent, request.relay_agent.at, event.relay_agent_bytes)


cdef inline bint note(Page *page, Notebook *notebook, int64_t now_ns, const Site *site, const Packet *packet,
                      const Request *request, Verdict verdict) noexcept nogil:
    """Push a refusal, at most one a second for the same host and verdict (for the same other server, whoever took its
    offer).  True: the reader's bell must be rung."""
    cdef Event event
    cdef uint64_t key
    cdef uint32_t at
    cdef int64_t now_s = now_ns // 1000000000
    if request.bootp == NULL:
        return False
    key = request.server_id_be if verdict == IGNORED_OTHER_SERVER else key_of(name_of(request), 0)
    key ^= <uint64_t>verdict << 48
    at = slot_of(key, SEEN)
    if notebook.seen_key[at] == key and notebook.seen_s[at] == now_s:
        return False
    notebook.seen_key[at] = key
    notebook.seen_s[at] = now_s
    describe(&event, now_ns, packet, request, verdict)
    if site.own != NULL:  # also of a stranger: discovery records a BMC as one from its first request on
        event.role = role_of(site, request)
    # Strangers and sightings leave half of the ring to hosts that are refused.
    return push_event(page, &event, EVENTS // 2 if is_of_stranger(verdict) else EVENTS,
                      &page.events_lost) == PUSHED_ASLEEP


cdef inline void prefetch_known(const Notebook *notebook, const uint8_t *mac) noexcept nogil:
    cdef const ClientHistory *places = notebook.known[slot_of(key_of(mac, ROLE_HOST), KNOWN)]
    prefetch(places)
    prefetch(places + STAGES // 2)


cdef inline ClientHistory *client_history(Notebook *notebook, const uint8_t *mac, uint64_t key) noexcept nogil:
    """The host's own, or the place of whom control heard of longest ago, cleared for it."""
    cdef ClientHistory *places = notebook.known[slot_of(key_of(mac, ROLE_HOST), KNOWN)]
    cdef ClientHistory *oldest = places
    cdef int i
    for i in range(STAGES):
        if places[i].key == key:
            return places + i
        if places[i].told_s < oldest.told_s:
            oldest = places + i
    memset(oldest, 0, sizeof(ClientHistory))
    oldest.key = key
    return oldest


cdef inline bint count_ack(ClientHistory *known, uint32_t xid_be, uint32_t now_s) noexcept nogil:
    """True: a loop, not told within the last LOOP_S.  A repeated REQUEST is no round of its own; how long a round takes is
    the firmware's affair: a minute for big UEFI machines."""
    if now_s - known.last_s > LOOP_S:
        known.acks = 0
    elif known.acks != 0 and known.xid_be == xid_be:
        return False
    known.last_s = now_s
    known.xid_be = xid_be
    known.acks += 1
    return known.acks == LOOP_ACKS or (known.acks > LOOP_ACKS and now_s - known.told_s >= LOOP_S)


cdef inline bint sight(Page *page, Notebook *notebook, int64_t now_ns, const Packet *packet, const Request *request,
                       const Decision *decision) noexcept nogil:
    """Push what an ACKed host says of itself: when that is new, when it was long ago, and when it asks again and again in
    one stage of its boot.  True: the reader's bell must be rung."""
    cdef Event event
    cdef Pushed pushed
    cdef uint32_t now_s = <uint32_t>(now_ns // 1000000000 + TOLD_S)        # so that "never" lies TOLD_S ago at boot, too
    cdef uint64_t key = key_of(request.mac, decision.host.lease.role) ^ (<uint64_t>firmware_class(request) << 52)
    cdef ClientHistory *known = client_history(notebook, request.mac, key)
    cdef uint32_t said = <uint32_t>hash_of(&request.client_id, hash_of(&request.vendor_class, request.bootp.giaddr_be))
    cdef bint looping
    looping = (count_ack(known, request.bootp.xid_be, now_s) and firmware_class(request) != OS
               and not decision.to_ciaddr)
    if known.said == said and now_s - known.told_s < TOLD_S and not looping:
        return False
    describe(&event, now_ns, packet, request, ACKED)
    event.role = decision.host.lease.role
    event.repeats = <uint8_t>min(known.acks, <uint32_t>0xff) if looping else 0
    pushed = push_event(page, &event, EVENTS // 2, &page.sightings_lost)
    if pushed != LOST:
        known.said = said
        known.told_s = now_s
    return pushed == PUSHED_ASLEEP
