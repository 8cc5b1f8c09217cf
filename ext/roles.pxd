"""Who asks, a server or its BMC (IPMI card): both may use one network card and one MAC address.

The rules are control's (control/config/bmc.py), compiled into the generation; without any, everybody is a host.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from ext.classify cimport OS
from ext.leases cimport *
from ext.request cimport Request, Span
from ext.verdict cimport *


cdef inline bint starts(const Span *span, const Rule *rule) noexcept nogil:
    return span.length >= rule.length and memcmp(span.at, rule.text, rule.length) == 0


cdef inline bint names_other_mac(const Request *request) noexcept nogil:
    cdef const Span *id = &request.client_id
    return id.length == 7 and id.at[0] == 1 and memcmp(id.at + 1, request.mac, 6) != 0


cdef inline bint applies(const Rule *rule, const Request *request) noexcept nogil:
    if rule.kind == RULE_VENDOR_CLASS:
        return request.vendor_class.length != 0 and starts(&request.vendor_class, rule)
    if rule.kind == RULE_USER_CLASS:
        return request.user_class.length != 0 and starts(&request.user_class, rule)
    if rule.kind == RULE_CLIENT_ID:
        return request.client_id.length != 0 and starts(&request.client_id, rule)
    if rule.kind == RULE_OTHER_MAC:
        return names_other_mac(request)
    return request.parameter_list.length == rule.length and starts(&request.parameter_list, rule)


cdef inline uint8_t role_of(const Site *site, const Request *request) noexcept nogil:
    cdef uint32_t i
    for i in range(site.rule_count):
        if applies(site.rules + i, request):
            return site.rules[i].role
    return ROLE_HOST


cdef inline Verdict find_host(const Site *site, const Request *request, Host *host) noexcept nogil:
    """The row of who asks.  GO_ON when there is one, else why not.

    A BMC never gets the address of the host whose card it shares; a MAC that the inventory knows as a BMC's alone is the
    BMC's, whatever it says of itself, unless it is firmware that boots: that is a host which shares the BMC's card."""
    if role_of(site, request) == ROLE_BMC:
        if find_lease(site, request.mac, ROLE_BMC, host):
            return GO_ON
        return IGNORED_BMC if find_lease(site, request.mac, ROLE_HOST, host) else IGNORED_UNKNOWN_MAC
    if find_lease(site, request.mac, ROLE_HOST, host):
        return GO_ON
    if site.rule_count != 0 and request.client_class == OS and find_lease(site, request.mac, ROLE_BMC, host):
        return GO_ON
    return IGNORED_UNKNOWN_MAC
