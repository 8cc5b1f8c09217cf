"""How long requests wait for the worker, and how long their answers take: histograms in powers of two, a look a batch.

The replies of a batch are with the kernel together, so all its answers are one look at a clock.  A wait begins with the
kernel's stamp on the datagram.  Stamps cost more than all of this, so the sockets are asked for them while the loop
finds time to sleep, and while it does not reach the end of its queues.  A busy loop that does reach it knows without
stamps that nothing has waited longer than since it was there last.
"""

from libc.stdint cimport int64_t, uint64_t

from ext.net cimport bump
from ext.packet cimport PLAIN, QUEUES, URGENT


cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long) nogil


cdef enum:
    BOUNDS = 24                    # 1, 2, 4, ... 8,388,608 us
    BUSY_NS = 2000000              # no sleep for so long: no stamps,
    SURE_NS = 20000000             # unless the end of a queue has not been seen for so long


cdef struct Histogram:
    uint64_t sum_ns
    uint64_t counts[BOUNDS + 1]    # of requests, each at the least bound that it does not exceed; the last: at none


cdef struct Stamps:                # of one worker's two sockets
    bint on
    bint rested                    # the loop has slept since it looked last
    int64_t rested_ns              # when it noticed that, CLOCK_BOOTTIME
    int64_t end_ns[QUEUES]         # when the end of a queue was last seen; 0: not yet


cdef inline int place_of(uint64_t ns) noexcept nogil:
    """Index into Histogram.counts."""
    cdef uint64_t us = (ns + 999) // 1000
    return min(64 - leading_zeros(us - 1), <int>BOUNDS) if us > 1 else 0


cdef inline void observe(Histogram *histogram, int64_t ns, uint64_t requests) noexcept nogil:
    """ns: of each; less than 0 counts as 0."""
    cdef uint64_t each = <uint64_t>max(ns, 0)
    bump(&histogram.sum_ns, each * requests)
    bump(&histogram.counts[place_of(each)], requests)


cdef inline int older_half(int requests) noexcept nogil:
    return requests - requests // 2


cdef inline void observe_halves(Histogram *histogram, int requests, int64_t oldest_ns,
                                int64_t middle_ns) noexcept nogil:
    """Of what was taken from a queue together, oldest first: each half counts as its oldest, so none as too young.

    middle_ns: of number older_half(requests), counted from 0."""
    cdef int older = older_half(requests)
    observe(histogram, oldest_ns, older)
    if requests > older:
        observe(histogram, middle_ns, requests - older)


cdef inline bint are_wanted(Stamps *stamps, bint pressed, int64_t now_ns) noexcept nogil:
    """Once a turn, after end_ns was set.  pressed: shares and ages go by stamps (ext/overload.pxd)."""
    cdef int64_t end_ns = min(stamps.end_ns[<int>PLAIN], stamps.end_ns[<int>URGENT])
    if stamps.rested:
        stamps.rested, stamps.rested_ns = False, now_ns
    return pressed or now_ns - stamps.rested_ns < BUSY_NS or now_ns - end_ns > SURE_NS
