"""Layout of what control remembers of answered machines; ext/sighted.pyx says what for."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ext.page cimport Event


cdef enum:
    BY_MAC = 0
    BY_IDENTITY = 1
    BY_ADDRESS = 2
    CHAINS = 3
    NONE = 0                       # no word has this place


cdef struct Link:
    uint32_t next
    uint32_t before                # NONE: the first of its chain


cdef struct Said:                  # by one machine in one stage of its boot; 104 bytes
    uint64_t mac
    int64_t seen_ns
    uint32_t address_be            # that it was last ACKed with; 0: none that it named
    uint8_t client_class
    uint8_t role
    uint8_t client_id_bytes
    uint8_t vendor_bytes
    uint8_t identity_at            # in client_id
    uint8_t identity_bytes         # 0: it says nothing that no other machine should say
    uint8_t client_id[28]
    uint8_t vendor[18]
    Link links[CHAINS]
    Link age                       # next: seen before this one; before: seen after it


cdef class Sighted:
    cdef Said *said
    cdef uint32_t *heads           # of each chain `room`
    cdef uint32_t count, room, most, newest, oldest
    cdef readonly uint32_t machines
    cdef object take(self, const Event *event)
    cdef void foresee_heads(self, const Event *event) noexcept nogil
    cdef void foresee_said(self, const Event *event) noexcept nogil
    cdef object renamed(self, uint32_t at, const Event *event)
    cdef object left_to_others(self, bytes identity)
    cdef bint is_shared(self, uint64_t mac, uint32_t address_be, int64_t *used_ns) noexcept
    cdef tuple new_place(self)
    cdef bint grow(self) noexcept
    cdef void link(self, int chain, uint32_t at) noexcept
    cdef void unlink(self, int chain, uint32_t at) noexcept
    cdef void seen_now(self, uint32_t at) noexcept
    cdef void forget_age(self, uint32_t at) noexcept
    cdef uint32_t *head(self, int chain, uint64_t value) noexcept nogil
    cdef uint32_t first_of(self, uint64_t mac) noexcept
    cdef uint32_t find(self, uint64_t mac, uint8_t client_class, uint8_t role) noexcept
    cdef uint32_t sayer(self, const uint8_t *identity, size_t length, uint64_t but) noexcept
