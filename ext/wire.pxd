"""Bytes and bits at the edge of the wire: byte order, address tests, and a bounded writer of options."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ext.rfc2131 cimport OPTION_BYTES_MAX, OPTION_END


cdef extern from *:
    """
    #include <stdint.h>
    #define BS_SWAP16(x) __builtin_bswap16(x)
    #define BS_SWAP32(x) __builtin_bswap32(x)
    #define BS_LIKELY(x) __builtin_expect(!!(x), 1)
    """
    uint16_t swap16 "BS_SWAP16"(uint16_t) noexcept nogil
    uint32_t swap32 "BS_SWAP32"(uint32_t) noexcept nogil


cdef struct Sink:                  # a writer that never leaves its bounds; once full it stays full, checked at the end
    uint8_t *at
    uint8_t *end
    bint full


cdef inline uint64_t load64(const uint8_t *at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


cdef inline uint32_t load32(const uint8_t *at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline uint16_t load16(const uint8_t *at) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, at, 2)
    return value


cdef inline uint32_t mask_be(uint8_t prefix) noexcept nogil:
    return swap32(<uint32_t>(<uint64_t>0xffffffff << (32 - prefix)))     # 64 bits: prefix 0 shifts all of them out


cdef inline bint same_network(uint32_t a_be, uint32_t b_be, uint8_t prefix) noexcept nogil:
    return ((a_be ^ b_be) & mask_be(prefix)) == 0


cdef inline bint is_broadcast_of(uint32_t address_be, uint32_t inside_be, uint8_t prefix) noexcept nogil:
    """True when address is the all-ones or the all-zeros host of inside's network (no such host below /31, RFC 3021)."""
    cdef uint32_t mask
    if (swap32(address_be) + 1) & 3 > 1:       # the last two bits are neither 00 nor 11: nearly every address ends here
        return False
    mask = mask_be(prefix)
    if prefix >= 31 or ((address_be ^ inside_be) & mask) != 0:
        return False
    return (address_be & ~mask) == ~mask or (address_be & ~mask) == 0


cdef inline bint is_host_address(uint32_t address_be) noexcept nogil:
    """False for 0/8, 127/8, multicast, class E and 255.255.255.255: nothing that a reply may ever be sent to."""
    cdef uint32_t top = swap32(address_be) >> 24
    return top != 0 and top != 127 and top < 224


cdef inline void put_bytes(Sink *sink, const void *bytes, size_t length) noexcept nogil:
    if sink.full or <size_t>(sink.end - sink.at) < length:
        sink.full = True
        return
    memcpy(sink.at, bytes, length)
    sink.at += length


cdef inline void put_option(Sink *sink, uint8_t code, const void *value, uint8_t length) noexcept nogil:
    if sink.full or <size_t>(sink.end - sink.at) < <size_t>2 + length:
        sink.full = True
        return
    sink.at[0] = code
    sink.at[1] = length
    memcpy(sink.at + 2, value, length)
    sink.at += 2 + length


cdef inline size_t long_option_bytes(uint16_t length) noexcept nogil:
    return length + <size_t>2 * ((length + OPTION_BYTES_MAX - 1) // OPTION_BYTES_MAX)


cdef inline void put_long_option(Sink *sink, uint8_t code, const uint8_t *value, uint16_t length) noexcept nogil:
    """In parts of 255 bytes where it takes more than one (RFC 3396)."""
    cdef uint8_t part
    while length:
        part = <uint8_t>(length if length < OPTION_BYTES_MAX else OPTION_BYTES_MAX)
        put_option(sink, code, value, part)
        value += part
        length -= part


cdef inline void put_option8(Sink *sink, uint8_t code, uint8_t value) noexcept nogil:
    put_option(sink, code, &value, 1)


cdef inline void put_option32(Sink *sink, uint8_t code, uint32_t value_be) noexcept nogil:
    put_option(sink, code, &value_be, 4)


cdef inline void put_end(Sink *sink) noexcept nogil:
    cdef uint8_t end = OPTION_END
    put_bytes(sink, &end, 1)
