"""The flight recorder's records: what came in, what became of it, what went out; of each worker the last RECORDS.

Written by the worker after each datagram, read by anybody who maps the page.  A record that is being written has an odd
sequence, so a reader that sees the same even one before and after its copy has a whole one.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy

from ext.net cimport store_fence, store_release
from ext.packet cimport Packet, Reply
from ext.verdict cimport Verdict, is_answer


cdef enum:
    RECORDS = 2048                 # power of two
    RECORDED_BYTES = 640           # of a datagram; what is longer is cut


cdef packed struct Record:         # 1,344 bytes, whole cache lines
    uint64_t sequence              # 2 * (number of the record + 1), odd while it is written, 0 never written
    int64_t boottime_ns
    uint32_t ifindex
    uint32_t source_be
    uint32_t destination_be
    uint32_t reply_source_be
    uint32_t reply_destination_be
    uint16_t source_port_be
    uint16_t reply_port_be
    uint16_t request_bytes         # on the wire
    uint16_t reply_bytes           # 0: silence
    uint8_t verdict
    uint8_t route
    uint8_t reply_mac[6]
    uint8_t sent                   # 0 while dhcp.mode is observe
    uint8_t at_boot_port           # came to 4011 and is answered from there
    uint8_t reserved[10]
    uint8_t request[RECORDED_BYTES]
    uint8_t reply[RECORDED_BYTES]


cdef inline void record(Record *records, uint64_t number, int64_t boottime_ns, const Packet *packet, Verdict verdict,
                        const Reply *reply, bint sent) noexcept nogil:
    cdef Record *place = records + (number & (RECORDS - 1))
    store_release(&place.sequence, 2 * number + 1)
    store_fence()                  # nothing of the new record before the odd sequence
    place.boottime_ns = boottime_ns
    place.ifindex = packet.ifindex
    place.source_be = packet.source_be
    place.source_port_be = packet.source_port_be
    place.destination_be = packet.destination_be
    place.verdict = <uint8_t>verdict
    place.sent = sent
    place.at_boot_port = packet.at_boot_port
    place.request_bytes = <uint16_t>packet.length
    memcpy(place.request, packet.data, packet.length if packet.length < RECORDED_BYTES else RECORDED_BYTES)
    place.reply_bytes = 0
    if is_answer(verdict):
        place.route = <uint8_t>reply.route
        place.reply_source_be = reply.source_be
        place.reply_destination_be = reply.destination_be
        place.reply_port_be = reply.port_be
        memcpy(place.reply_mac, reply.mac, 6)
        place.reply_bytes = <uint16_t>reply.length
        memcpy(place.reply, reply.data, reply.length if reply.length < RECORDED_BYTES else RECORDED_BYTES)
    store_release(&place.sequence, 2 * number + 2)
