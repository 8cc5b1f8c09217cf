"""The searchable form of a site's addresses and relays (ext/places.pxd), made from an adopted pair's words."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort

from ext.leases cimport LINK_SERVED, Link, Relay, Site, group_of, in_networks
from ext.places cimport *
from ext.wire cimport swap32


cdef enum:
    FEW = 16                       # links, and relays, that are gone through


cdef inline int by_key(const void *one, const void *other) noexcept nogil:
    cdef const Keyed *a = <const Keyed *>one
    cdef const Keyed *b = <const Keyed *>other
    if a.key != b.key:
        return -1 if a.key < b.key else 1
    return (a.value > b.value) - (a.value < b.value)


cdef inline bint allot(Keys *keys, size_t room) noexcept nogil:
    """False: there is no memory."""
    keys.count = 0
    keys.all = <Keyed *>malloc((room if room else 1) * sizeof(Keyed))
    return keys.all != NULL


cdef inline void put(Keys *keys, uint64_t key, uint64_t value) noexcept nogil:
    keys.all[keys.count].key, keys.all[keys.count].value = key, value
    keys.count += 1


cdef inline void sort(Keys *keys) noexcept nogil:
    qsort(keys.all, keys.count, sizeof(Keyed), by_key)


cdef inline void free_places(Places *places) noexcept nogil:
    cdef int i
    if places == NULL:
        return
    free(places.own.all)
    free(places.edges.all)
    free(places.edges_on.all)
    free(places.addresses.all)
    free(places.served.all)
    free(places.known.all)
    free(places.grouped.all)
    free(places.relays.all)
    free(places.least)
    for i in range(33):
        free(places.within[i].all)
    free(places)


cdef inline void put_edge(Places *places, uint32_t ifindex, uint32_t address) noexcept nogil:
    put(&places.edges, address, 0)
    put(&places.edges_on, on(ifindex, address), 0)


cdef inline void put_link(Places *places, const Site *site, uint32_t at) noexcept nogil:
    cdef const Link *link = site.links + at
    cdef uint32_t address = swap32(link.address_be), inside = inside_of(link.prefix)
    cdef uint64_t group = group_of(site, link.address_be, 32)
    put(&places.own, address, 0)
    put(&places.addresses, on(link.ifindex, address), at)
    put(&places.within[link.prefix], on(link.ifindex, address), 0)
    if link.prefix < 31:           # below, both are hosts (RFC 3021)
        put_edge(places, link.ifindex, address & ~inside)
        put_edge(places, link.ifindex, address | inside)
    if link.flags & LINK_SERVED:
        put(&places.served, link.ifindex, 0)
    if in_networks(site, link.address_be):
        put(&places.known, link.ifindex, 0)
    if group != 0:
        put(&places.grouped, link.ifindex, group)


cdef inline void put_relays(Keys *relays, const Site *site) noexcept nogil:
    """As ranges that do not overlap."""
    cdef uint32_t i, inside, count = 0
    cdef Keyed *all = relays.all
    for i in range(site.relay_count):
        if site.relays[i].prefix > 32:
            continue
        inside = inside_of(site.relays[i].prefix)
        put(relays, swap32(site.relays[i].address_be) & ~inside, swap32(site.relays[i].address_be) | inside)
    sort(relays)
    for i in range(relays.count):
        if count != 0 and all[i].key <= all[count - 1].value:
            all[count - 1].value = max(all[count - 1].value, all[i].value)
        else:
            all[count] = all[i]
            count += 1
    relays.count = count
    for i in range(count):
        all[i].key, all[i].value = all[i].value, all[i].key


cdef inline bint put_least(Places *places) noexcept nogil:
    """False: there is no memory."""
    cdef uint32_t count = places.addresses.count, levels = log2_of(count) + 1 if count else 1, level, i, half
    cdef uint32_t *row
    cdef const uint32_t *below
    places.least = <uint32_t *>malloc((<size_t>levels * count if count else 1) * sizeof(uint32_t))
    if places.least == NULL:
        return False
    for i in range(count):
        places.least[i] = <uint32_t>places.addresses.all[i].value
    for level in range(1, levels):
        half = <uint32_t>1 << (level - 1)
        row, below = places.least + <size_t>level * count, places.least + <size_t>(level - 1) * count
        for i in range(count - 2 * half + 1):
            row[i] = min(below[i], below[i + half])
    return True


cdef inline Places *make_places(const Site *site) noexcept nogil:
    """Of a site whose pair is joined, for free_places(); NULL: it has few of both, or there is no memory, and all are gone
    through."""
    cdef Places *places
    cdef uint32_t of_prefix[33]
    cdef uint32_t i
    cdef bint has_room
    if site.link_count <= FEW and site.relay_count <= FEW:
        return NULL
    places = <Places *>calloc(1, sizeof(Places))
    if places == NULL:
        return NULL
    has_room = (allot(&places.own, site.link_count) and allot(&places.edges, 2 * <size_t>site.link_count)
                and allot(&places.edges_on, 2 * <size_t>site.link_count) and allot(&places.addresses, site.link_count)
                and allot(&places.served, site.link_count) and allot(&places.known, site.link_count)
                and allot(&places.grouped, site.link_count) and allot(&places.relays, site.relay_count))
    for i in range(33):
        of_prefix[i] = 0
    for i in range(site.link_count):
        if site.links[i].prefix <= 32:
            of_prefix[site.links[i].prefix] += 1
    for i in range(33):
        has_room = has_room and allot(&places.within[i], of_prefix[i])
        places.prefixes |= <uint64_t>(of_prefix[i] != 0) << i
    if not has_room:
        free_places(places)
        return NULL
    for i in range(site.link_count):
        if site.links[i].prefix <= 32:
            put_link(places, site, i)
    sort(&places.own)
    sort(&places.edges)
    sort(&places.edges_on)
    sort(&places.addresses)
    sort(&places.served)
    sort(&places.known)
    sort(&places.grouped)
    for i in range(33):
        sort(&places.within[i])
    put_relays(&places.relays, site)
    if not put_least(places):
        free_places(places)
        return NULL
    return places
