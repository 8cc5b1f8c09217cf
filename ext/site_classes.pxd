"""The client classes of the site (dhcp.classes): the first rule that fits a request says its class, before the built-in ones.

Each field of a request that some rule looks at gives a set of rules, a bit each; the first rule in all of these sets is the
one that fits.  What a field costs is bounded whatever the rules are: a search by halves among at most 64 texts, or numbers.
ext/site_classes.pyx makes the records.
"""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from ext.classify cimport SITE_CLASS
from ext.judge cimport client_link, primary_link
from ext.leases cimport *
from ext.request cimport Request, Span
from ext.rfc2131 cimport *
from ext.wire cimport load16, load32, swap16, swap32


ctypedef uint8_t (*ClassChooser)(const Site *, const Request *, const uint8_t *, uint32_t) noexcept nogil


cdef extern from *:
    """
    #define BS_LOWEST_BIT(mask) __builtin_ctzll(mask)
    /* A call that no compiler puts in line: sites without classes would pay for its registers. */
    #define BS_APART(function) ({ __typeof__(&function) apart = function; __asm__("" : "+r"(apart)); apart; })
    """
    int lowest_bit "BS_LOWEST_BIT"(uint64_t) noexcept nogil
    ClassChooser apart "BS_APART"(ClassChooser) noexcept nogil


cdef struct Present:               # what only a second walk over the options tells; made when a rule asks
    bint known
    uint64_t codes[4]              # a bit for each option that is there
    uint32_t enterprises[2]        # the first of option 124, and of 125
    bint has_enterprise[2]


cdef inline uint32_t shared_octets(const uint8_t *one, const uint8_t *other, uint32_t length) noexcept nogil:
    """With which both begin, of `length`: by eights, the last of which may overlap the one before."""
    cdef uint32_t same = 0
    cdef uint64_t mine, theirs
    if length < 8:
        while same < length and one[same] == other[same]:
            same += 1
        return same
    while True:
        memcpy(&mine, one + same, 8)
        memcpy(&theirs, other + same, 8)
        if mine != theirs:
            return same + <uint32_t>(lowest_bit(mine ^ theirs) >> 3)
        if same + 8 == length:
            return length
        same = min(same + 8, length - 8)


cdef inline uint64_t classes_of_text(const Site *site, const ClassField *field, const Span *value) noexcept nogil:
    """Of the longest text that the value is or begins with: its classes hold those of the shorter ones."""
    cdef const ClassText *texts = site.base.class_texts + field.first
    cdef const ClassText *text
    cdef uint32_t low, high, middle
    cdef int order
    if value.length <= field.pivots[1]:
        return 0
    low = field.kinds[0][value.at[field.pivots[0]]] * field.width + field.kinds[1][value.at[field.pivots[1]]]
    high = field.groups[low + 1]
    low = field.groups[low]
    if low == high:
        return 0
    while high - low > 1:                                        # the last text that is not behind the value
        middle = (low + high) >> 1
        text = texts + middle
        order = memcmp(value.at, text.text, text.length if text.length < value.length else value.length)
        if order > 0 or (order == 0 and value.length >= text.length):
            low = middle
        else:
            high = middle
    text = texts + low
    low = shared_octets(value.at, text.text, text.length if text.length < value.length else value.length)
    while text.length > low:                                     # it begins with those that are its parents
        if text.parent == 0:
            return 0
        text = texts + text.parent - 1
    return text.exact if text.length == value.length else text.longer


cdef inline uint64_t classes_of_number(const Site *site, const ClassField *field, uint64_t value) noexcept nogil:
    cdef const ClassNumber *numbers = site.base.class_numbers + field.first
    cdef uint32_t low = 0, high = field.count, middle
    while high - low > 1:
        middle = (low + high) >> 1
        if numbers[middle].first <= value:
            low = middle
        else:
            high = middle
    return numbers[low].classes


cdef inline Span user_class_of(const Request *request) noexcept nogil:
    """Option 77 as text: clients send it plain, or as a list of one (RFC 3004)."""
    cdef Span value = request.user_class
    if value.length > 1 and value.at[0] == value.length - 1:
        value.at += 1
        value.length -= 1
    return value


cdef inline uint32_t link_of(const Site *site, const Request *request, uint32_t ifindex) noexcept nogil:
    cdef uint32_t link_be = client_link(request)
    cdef const Link *primary
    if link_be == 0:
        primary = primary_link(site, ifindex)
        link_be = primary.address_be if primary != NULL else 0
    return swap32(link_be)


cdef inline void note_present(Present *present, const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Walks as parse_options does."""
    cdef int which
    while at < end:
        if at[0] == OPTION_PAD:
            at += 1
            continue
        if at[0] == OPTION_END or end - at < 2 or end - at - 2 < at[1]:
            return
        present.codes[at[0] >> 6] |= <uint64_t>1 << (at[0] & 63)
        if (at[0] == OPTION_VENDOR_CLASSES or at[0] == OPTION_VENDOR_OPTIONS) and at[1] >= 4:
            which = at[0] - OPTION_VENDOR_CLASSES
            if not present.has_enterprise[which]:
                present.has_enterprise[which] = True
                present.enterprises[which] = swap32(load32(at + 2))
        at += 2 + at[1]


cdef inline void look_through(Present *present, const Request *request, const uint8_t *end) noexcept nogil:
    cdef int i
    if present.known:
        return
    present.known = True
    for i in range(4):
        present.codes[i] = 0
    present.has_enterprise[0] = present.has_enterprise[1] = False
    note_present(present, <const uint8_t *>request.bootp + BOOTP_BYTES, end)
    if request.overload & OVERLOAD_FILE:
        note_present(present, request.bootp.file, request.bootp.file + sizeof(request.bootp.file))
    if request.overload & OVERLOAD_SNAME:
        note_present(present, request.bootp.sname, request.bootp.sname + sizeof(request.bootp.sname))


cdef inline uint64_t classes_of_enterprises(const Site *site, const ClassField *field,
                                            const Present *present) noexcept nogil:
    cdef uint64_t found = 0
    cdef int i
    for i in range(2):
        if present.has_enterprise[i]:
            found |= classes_of_number(site, field, present.enterprises[i])
    return found


cdef inline uint64_t classes_present(const Site *site, const ClassField *field, const Present *present) noexcept nogil:
    """A ClassNumber here: an option's code, and the classes that want it."""
    cdef const ClassNumber *wanted = site.base.class_numbers + field.first
    cdef uint64_t found = 0
    cdef uint32_t i
    for i in range(field.count):
        if (present.codes[(wanted[i].first >> 6) & 3] >> (wanted[i].first & 63)) & 1:
            found |= wanted[i].classes
    return found


cdef inline uint64_t classes_of_field(const Site *site, const Request *request, const uint8_t *end, uint32_t ifindex,
                                      const ClassField *field, Present *present) noexcept nogil:
    cdef Span value
    cdef uint8_t kind = field.kind
    if kind == FIELD_VENDOR_CLASS:
        return classes_of_text(site, field, &request.vendor_class)
    if kind == FIELD_USER_CLASS:
        value = user_class_of(request)
        return classes_of_text(site, field, &value)
    if kind == FIELD_CLIENT_ID:
        return classes_of_text(site, field, &request.client_id)
    if kind == FIELD_MACHINE_GUID:
        return classes_of_text(site, field, &request.machine_guid)
    if kind == FIELD_ARCHITECTURE:
        if request.architecture.length < 2:
            return 0
        return classes_of_number(site, field, swap16(load16(request.architecture.at)))
    if kind == FIELD_MAC:
        if request.mac == NULL:
            return 0
        return classes_of_number(site, field, (<uint64_t>swap32(load32(request.mac)) << 16)
                                 | swap16(load16(request.mac + 4)))
    if kind == FIELD_RELAY:
        return classes_of_number(site, field, swap32(request.bootp.giaddr_be)) if request.bootp.giaddr_be else 0
    if kind == FIELD_LINK:
        return classes_of_number(site, field, link_of(site, request, ifindex))
    look_through(present, request, end)
    if kind == FIELD_ENTERPRISE:
        return classes_of_enterprises(site, field, present)
    return classes_present(site, field, present)


cdef inline uint8_t choose_class(const Site *site, const Request *request, const uint8_t *end,
                                 uint32_t ifindex) noexcept nogil:
    """end: of the datagram.  The class whose options the client gets: the site's first that fits, else what it is by itself.  There is a field at
    least.  A delta's rows have the classes of its base."""
    cdef const ClassField *fields = site.base.class_fields
    cdef Present present
    cdef uint64_t left = ~<uint64_t>0
    cdef uint32_t i
    present.known = False
    for i in range(site.base.class_field_count):
        left &= fields[i].free | classes_of_field(site, request, end, ifindex, fields + i, &present)
        if left == 0:
            return request.client_class
    return SITE_CLASS + <uint8_t>lowest_bit(left)
