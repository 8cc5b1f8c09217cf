"""Where a site of many addresses or relays is: sorted, so that a packet does not pay for each of them.

Made when a pair is adopted (ext/placing.pxd), in the process's own memory.  A site of few has none: to go through a few is
quicker than to search.  Addresses are in host order here.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef struct Keyed:
    uint64_t key
    uint64_t value


cdef struct Keys:                  # ascending by key, and then by value
    Keyed *all
    uint32_t count


cdef struct Places:
    Keys own                       # addresses of this machine
    Keys edges                     # the first and the last address of their networks, which no host has
    Keys edges_on                  # the same, of an interface: on()
    Keys addresses                 # on(interface, address); value: the place among the site's links
    uint32_t *least                # of `addresses`: in row k, at i, the least place of the 2^k from i on
    Keys within[33]                # on() of those of each prefix length,
    uint64_t prefixes              # of those that there are; a bit for each
    Keys served                    # interfaces that may be answered on
    Keys known                     # interfaces with an address in a network of the inventory
    Keys grouped                   # interface; value: a group of networks on one link in which it has an address
    Keys relays                    # last address of a range of dhcp.relays; value: the first


cdef enum Question:
    IS_OWN                         # an address of this machine
    IS_EDGE                        # no host's, of a network of ours
    IS_EDGE_ON                     # the same, of the interface
    IS_IN_PREFIX                   # in the network of an address of the interface, by that one's own prefix
    FIRST_BETWEEN                  # of the interface's addresses from one to another, which stands first among the links:
                                   # its place; -1: there is none
    IS_SERVED                      # the interface
    IS_KNOWN                       # it has an address in a network of the inventory
    HAS_GROUP                      # it has one in that group of networks
    IS_ALLOWED                     # a relay


ctypedef int64_t (*Searcher)(const Places *, Question, uint32_t, uint64_t, uint32_t) noexcept nogil


cdef extern from *:
    """
    #define BS_FIRST_BIT(number) ((uint8_t)__builtin_ctzll(number))
    #define BS_LOG2(number) (31 - (uint32_t)__builtin_clz(number))
    /* A call that no compiler puts in line: sites of few would pay for its room. */
    #define BS_SEARCH(function) ({ __typeof__(&function) search = function; __asm__("" : "+r"(search)); search; })
    """
    uint8_t first_bit "BS_FIRST_BIT"(uint64_t) noexcept nogil    # not of 0
    uint32_t log2_of "BS_LOG2"(uint32_t) noexcept nogil            # not of 0
    Searcher apart_from "BS_SEARCH"(Searcher) noexcept nogil


cdef inline uint64_t on(uint32_t ifindex, uint32_t address) noexcept nogil:
    return <uint64_t>ifindex << 32 | address


cdef inline uint32_t lower(const Keys *keys, uint64_t key) noexcept nogil:
    """How many have a lower key."""
    cdef uint32_t low = 0, high = keys.count, middle
    while low < high:
        middle = (low + high) >> 1
        if keys.all[middle].key < key:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline bint has(const Keys *keys, uint64_t key) noexcept nogil:
    cdef uint32_t at = lower(keys, key)
    return at < keys.count and keys.all[at].key == key


cdef inline bint has_pair(const Keys *keys, uint64_t key, uint64_t value) noexcept nogil:
    cdef uint32_t low = 0, high = keys.count, middle
    while low < high:
        middle = (low + high) >> 1
        if keys.all[middle].key < key or (keys.all[middle].key == key and keys.all[middle].value < value):
            low = middle + 1
        else:
            high = middle
    return low < keys.count and keys.all[low].key == key and keys.all[low].value == value


cdef inline uint32_t inside_of(uint8_t prefix) noexcept nogil:
    """The bits of an address that tell a network's hosts apart.  prefix: at most 32."""
    return <uint32_t>(<uint64_t>0xffffffff >> prefix)


cdef inline bint is_in_prefix_of(const Places *places, uint32_t ifindex, uint32_t address) noexcept nogil:
    cdef uint64_t left = places.prefixes
    cdef const Keys *keys
    cdef uint32_t inside, at
    cdef uint8_t prefix
    while left != 0:
        prefix = first_bit(left)
        left &= left - 1
        inside = inside_of(prefix)
        keys = places.within + prefix
        at = lower(keys, on(ifindex, address & ~inside))
        if at < keys.count and keys.all[at].key <= on(ifindex, address | inside):
            return True
    return False


cdef inline int64_t first_between(const Places *places, uint32_t ifindex, uint32_t first, uint32_t last) noexcept nogil:
    cdef uint32_t low = lower(&places.addresses, on(ifindex, first))
    cdef uint32_t end = lower(&places.addresses, on(ifindex, last) + 1)
    cdef const uint32_t *row
    cdef uint32_t level
    if low == end:
        return -1
    level = log2_of(end - low)
    row = places.least + <uint64_t>level * places.addresses.count
    return min(row[low], row[end - (<uint32_t>1 << level)])


cdef inline bint is_in_ranges(const Keys *ranges, uint32_t address) noexcept nogil:
    cdef uint32_t at = lower(ranges, address)
    return at < ranges.count and ranges.all[at].value <= address


cdef inline int64_t searched(const Places *places, Question question, uint32_t ifindex, uint64_t value,
                             uint32_t last) noexcept nogil:
    cdef uint32_t address = <uint32_t>value
    if question == IS_OWN:
        return has(&places.own, address)
    if question == IS_EDGE:
        return has(&places.edges, address)
    if question == IS_EDGE_ON:
        return has(&places.edges_on, on(ifindex, address))
    if question == IS_IN_PREFIX:
        return is_in_prefix_of(places, ifindex, address)
    if question == FIRST_BETWEEN:
        return first_between(places, ifindex, address, last)
    if question == IS_SERVED:
        return has(&places.served, ifindex)
    if question == IS_KNOWN:
        return has(&places.known, ifindex)
    if question == HAS_GROUP:
        return has_pair(&places.grouped, ifindex, value)
    return is_in_ranges(&places.relays, address)


cdef inline int64_t search(const Places *places, Question question, uint32_t ifindex, uint64_t value,
                           uint32_t last) noexcept nogil:
    """value: an address, the first of FIRST_BETWEEN, a group; last: of FIRST_BETWEEN.  0: no."""
    return apart_from(searched)(places, question, ifindex, value, last)
