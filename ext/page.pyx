"""The Python face of the shared pages: create, read counters, drain events, confirm the table's age."""

from libc.string cimport memset
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t, int64_t

import fcntl
import os
from dataclasses import dataclass

from ext.latency cimport BOUNDS, Histogram
from ext.mapping cimport map_shared
from ext.net cimport full_fence, munmap
from ext.leases cimport ROLE_BMC
from ext.packet cimport ROUTE_BROADCAST, ROUTE_FRAME, ROUTE_UDP
from ext.page cimport *
from ext.record cimport RECORDED_BYTES, RECORDS, Record
from ext.sighted cimport Sighted
from ext.verdict cimport ACKED, GO_ON, VERDICT_COUNT
from ext.classify import ClientClass, ClientState
from ext.verdict import Verdict
from ext.wire cimport swap16, swap32


def state_name(number):
    """As RFC 2131 writes a ClientState, "INIT-REBOOT"; None for what has none."""
    return ClientState(number).name.replace("_", "-") if number != ClientState.NO_STATE else None


cdef enum:
    NEAR = 3                       # events that come so many later are looked at ahead
    FAR = 6


cdef size_t offsetof_heartbeat() noexcept:
    cdef Page *page = <Page *><size_t>APART      # anywhere but at 0, where no member may be taken
    return <size_t>&page.heartbeat_ns - <size_t>APART


PAGE_LAYOUT = PAGE_VERSION
RECORDS_KEPT, EVENTS_KEPT = RECORDS, EVENTS
RECORDED_BYTES_MAX = RECORDED_BYTES
ROUTES = {ROUTE_UDP: "udp", ROUTE_FRAME: "frame", ROUTE_BROADCAST: "broadcast"}
WORKER_PAGE_BYTES = sizeof(Page)
INBOX_AT = inbox_at()
SITE_PAGE_BYTES = sizeof(SitePage)
LATENCY_BOUNDS_S = tuple((1 << place) / 1_000_000 for place in range(BOUNDS))
LATENCIES = ("wait", "answer")
SEND_ERROR_NAMES = ("EAGAIN", "ENOBUFS", "ENETUNREACH", "EHOSTUNREACH", "EACCES", "EPERM", "EINVAL", "ENETDOWN",
                    "ENODEV", "ENXIO", "EMSGSIZE", "ECONNREFUSED", "other")
MFD_ALLOW_SEALING, F_ADD_SEALS, F_SEAL_SHRINK, F_SEAL_GROW = 0x0002, 1033, 0x0002, 0x0004
# The first words of a page are where they are in every layout: the supervisor reads those of workers of another build.
assert offsetof_heartbeat() == 16
assert sizeof(Event) == 128 and sizeof(Record) == 1344
assert <int>VERDICT_COUNT <= <int>COUNTERS
assert inbox_at() == 52 * <int>APART      # as in every build of version 6


@dataclass(frozen=True, slots=True)
class Recorded:
    """One datagram and what became of it.  Addresses are ints in host order; request and reply are UDP payloads, of which
    the first RECORDED_BYTES_MAX are kept."""
    number: int
    boottime_ns: int               # CLOCK_BOOTTIME
    ifindex: int
    source: int
    source_port: int
    destination: int
    verdict: str
    request: bytes
    request_bytes: int             # on the wire
    route: str                     # "udp", "frame", "broadcast"; "" for silence
    sent: bool                     # False: decided and not sent (dhcp.mode is observe)
    reply: bytes
    reply_bytes: int
    reply_source: int
    reply_destination: int
    reply_port: int
    reply_mac: bytes
    at_boot_port: bool = False     # came to port 4011 and was answered from there


def new_page(str name, size_t bytes) -> int:
    """A memfd that whoever has it cannot cut off under those that map it; the caller owns it.  Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, bytes)
        fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
    except OSError:
        os.close(fd)
        raise
    return fd


def create_worker_page(slot: int) -> int:
    """A new memfd with an empty worker page, and the worker's own headers behind it; the caller owns the fd."""
    fd = new_page(f"bootstorm-worker-{slot}", inbox_at() + sizeof(Inbox))
    cdef Page *page = <Page *>map_shared(fd, sizeof(Page))
    page.magic = PAGE_MAGIC
    page.version = PAGE_VERSION
    page.slot = slot
    munmap(page, sizeof(Page))
    return fd


def create_site_page() -> int:
    """A new memfd with a site page that no inventory has confirmed yet; the caller owns the fd."""
    fd = new_page("bootstorm-site", sizeof(SitePage))
    cdef SitePage *page = <SitePage *>map_shared(fd, sizeof(SitePage))
    page.magic = PAGE_MAGIC
    page.version = PAGE_VERSION
    page.confirmed_boottime_s = -(1 << 62)
    munmap(page, sizeof(SitePage))
    return fd


cdef class SiteWords:
    """The site page: control's word to all workers."""
    cdef SitePage *page

    def __cinit__(self, int fd):
        self.page = <SitePage *>map_shared(fd, sizeof(SitePage))
        if self.page.magic != PAGE_MAGIC or self.page.version != PAGE_VERSION:
            raise ValueError(f"fd {fd} is no site page of version {PAGE_VERSION}")

    def __dealloc__(self):
        if self.page != NULL:
            munmap(self.page, sizeof(SitePage))

    @property
    def confirmed_boottime_s(self) -> int:
        """CLOCK_BOOTTIME in seconds of the inventory's last confirmation; far in the past when there was none."""
        return self.page.confirmed_boottime_s

    @confirmed_boottime_s.setter
    def confirmed_boottime_s(self, int64_t seconds):
        self.page.confirmed_boottime_s = seconds

    @property
    def dated_s(self) -> int:
        """Seconds since 1970: the date of a table from disk that no inventory has confirmed since; 0 of any other.

        For control's successor, who has to go on comparing it with a clock that may be set."""
        return self.page.dated_s

    @dated_s.setter
    def dated_s(self, int64_t seconds):
        self.page.dated_s = seconds


cdef class WorkerPage:
    """One worker slot's page, for the supervisor (heartbeat) and for control (counters, events)."""
    cdef Page *page

    def __cinit__(self, int fd):
        self.page = <Page *>map_shared(fd, sizeof(Page))
        if self.page.magic != PAGE_MAGIC or self.page.version != PAGE_VERSION:
            raise ValueError(f"fd {fd} is no worker page of version {PAGE_VERSION}")

    def __dealloc__(self):
        if self.page != NULL:
            munmap(self.page, sizeof(Page))

    @property
    def slot(self) -> int:
        return self.page.slot

    @property
    def pid(self) -> int:
        """Of the process that answers for this slot; 0 between two."""
        return self.page.pid

    @pid.setter
    def pid(self, uint32_t pid):
        self.page.pid = pid

    @property
    def heartbeat_ns(self) -> int:
        """CLOCK_MONOTONIC in ns of the loop's last turn."""
        return self.page.heartbeat_ns

    @property
    def generation(self) -> int:
        """What the slot's worker answers from, or the last one did; 0: none."""
        return self.page.generation

    @generation.setter
    def generation(self, uint64_t generation):
        """For a page that no worker writes."""
        self.page.generation = generation

    def totals(self) -> dict:
        """rx, tx, recovered, frames_lost, events_lost, sightings_lost, records_left_out: counts since the service started,
        over all workers that had the slot."""
        return {"rx": self.page.rx, "tx": self.page.tx, "recovered": self.page.recovered,
                "frames_lost": self.page.frames_lost,
                "events_lost": self.page.events_lost, "sightings_lost": self.page.sightings_lost,
                "records_left_out": self.page.records_left_out}

    def verdicts(self) -> dict:
        """Verdict name -> count, all verdicts."""
        return {verdict.name: self.page.by_verdict[<int>verdict] for verdict in Verdict
                if verdict != GO_ON}

    def send_errors(self) -> dict:
        """errno name -> replies that the kernel did not take, only those that happened."""
        return {name: self.page.send_errors[i] for i, name in enumerate(SEND_ERROR_NAMES) if self.page.send_errors[i]}

    def latency(self) -> dict:
        """Each of LATENCIES -> {"sum_ns", "counts"}: how many requests waited, and replies took, at most as long as each of
        LATENCY_BOUNDS_S and longer than the bound before it; the last one: longer than all of them."""
        return {"wait": histogram_of(&self.page.waits), "answer": histogram_of(&self.page.answers)}

    def counters(self) -> dict:
        """All that is counted in this page, by names that carry() of another build's page knows: {"totals": as totals(),
        "verdicts": as verdicts(), "send_errors": as send_errors(), "latency": as latency()}."""
        return {"totals": self.totals(), "verdicts": self.verdicts(), "send_errors": self.send_errors(),
                "latency": self.latency()}

    def carry(self, told) -> None:
        """Go on from what another build's page has counted (counters()); what this build has no counter for is left out.

        For a page that no worker writes."""
        def count(group, name):
            return counted(told.get(group, {}).get(name, 0) if isinstance(told.get(group, {}), dict) else 0)
        self.page.rx, self.page.tx = count("totals", "rx"), count("totals", "tx")
        self.page.recovered = count("totals", "recovered")
        self.page.frames_lost = count("totals", "frames_lost")
        self.page.events_lost = count("totals", "events_lost")
        self.page.sightings_lost = count("totals", "sightings_lost")
        self.page.records_left_out = count("totals", "records_left_out")
        for verdict in Verdict:
            if verdict != GO_ON:
                self.page.by_verdict[<int>verdict] = count("verdicts", verdict.name)
        for i, name in enumerate(SEND_ERROR_NAMES):
            self.page.send_errors[i] = count("send_errors", name)
        latency = told.get("latency")
        carry_histogram(&self.page.waits, latency.get("wait") if isinstance(latency, dict) else None)
        carry_histogram(&self.page.answers, latency.get("answer") if isinstance(latency, dict) else None)

    def drain(self, int most=EVENTS, Sighted sighted=None, bint everything=True) -> list:
        """Take events out of the ring until `most` are to be given, oldest first; fewer mean that the next one rings.

        sighted: hears what answered machines say; "news" of an ACKED event is its answer.  Without `everything`, those
        without news that are no boot loop are not given."""
        cdef Event *events = self.page.events
        cdef Event *event
        cdef uint64_t tail = self.page.events_tail, head = tail
        taken = []
        while len(taken) < most:
            if tail == head:
                if not has_events(self.page):
                    break
                head = load_acquire(&self.page.events_head)
            event, news = &events[tail & (EVENTS - 1)], None
            if sighted is not None:
                if head - tail > FAR:
                    sighted.foresee_heads(&events[(tail + FAR) & (EVENTS - 1)])
                if head - tail > NEAR:
                    sighted.foresee_said(&events[(tail + NEAR) & (EVENTS - 1)])
                news = sighted.take(event) if event.verdict == ACKED else None
            if everything or event.verdict != ACKED or news is not None or event.repeats:
                taken.append(event_words(event, news))
            tail += 1
            store_release(&self.page.events_tail, tail)
        return taken

    @property
    def records_written(self) -> int:
        """Datagrams that the flight recorder has seen; it holds the last RECORDS_KEPT of them."""
        return load_acquire(&self.page.records_written)

    def records(self, uint64_t since=0) -> list:
        """What the flight recorder holds from record number `since` on, oldest first, as Recorded.  A record that the worker
        overwrites meanwhile is left out."""
        cdef uint64_t end = load_acquire(&self.page.records_written)
        cdef uint64_t number = max(since, end - RECORDS if end > RECORDS else 0)
        cdef Record copy
        cdef Record *place
        found = []
        while number < end:
            place = &self.page.records[number & (RECORDS - 1)]
            if load_acquire(&place.sequence) == 2 * number + 2:
                copy = place[0]
                full_fence()
                if load_acquire(&place.sequence) == 2 * number + 2:
                    found.append(recorded(number, &copy))
            number += 1
        return found


cdef inline bint has_events(Page *page) noexcept nogil:
    full_fence()                   # our tail first, then the head: or a push between the two would not ring
    return load_acquire(&page.events_head) != page.events_tail


cdef dict event_words(const Event *event, news):
    return {
        "boottime_ns": event.boottime_ns, "verdict": Verdict(event.verdict).name,
        "message_type": event.message_type, "mac": event.mac[:6].hex(":"), "xid": swap32(event.xid_be),
        "ifindex": event.ifindex, "giaddr": swap32(event.giaddr_be), "ciaddr": swap32(event.ciaddr_be),
        "requested": swap32(event.requested_be), "server_id": swap32(event.server_id_be),
        "source": swap32(event.source_be), "htype": event.htype,
        "vendor_class": PyBytes_FromStringAndSize(<char *>event.vendor, event.vendor_bytes),
        "class": ClientClass(event.client_class).name, "role": "bmc" if event.role == ROLE_BMC else "host",
        "state": state_name(event.client_state), "repeats": event.repeats,
        "client_id": PyBytes_FromStringAndSize(<char *>event.client_id, event.client_id_bytes),
        "relay_agent": PyBytes_FromStringAndSize(<char *>event.relay_agent, event.relay_agent_bytes), "news": news,
    }


cdef uint64_t counted(value):
    """0 of what is no count."""
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else 0


cdef dict histogram_of(const Histogram *histogram):
    cdef int i
    return {"sum_ns": histogram.sum_ns, "counts": [histogram.counts[i] for i in range(BOUNDS + 1)]}


cdef int carry_histogram(Histogram *histogram, told) except -1:
    """told: by a build that may have no histograms, or others."""
    cdef int i
    counts = told.get("counts") if isinstance(told, dict) else None
    known = isinstance(counts, (list, tuple)) and len(counts) == BOUNDS + 1
    histogram.sum_ns = counted(told.get("sum_ns")) if known else 0
    for i in range(BOUNDS + 1):
        histogram.counts[i] = counted(counts[i]) if known else 0
    return 0


cdef object recorded(uint64_t number, const Record *record):
    return Recorded(
        number, record.boottime_ns, record.ifindex, swap32(record.source_be), swap16(record.source_port_be),
        swap32(record.destination_be), Verdict(record.verdict).name,
        (<const char *>record.request)[:min(<int>record.request_bytes, <int>RECORDED_BYTES)], record.request_bytes,
        ROUTES[record.route] if record.reply_bytes else "", bool(record.sent),
        (<const char *>record.reply)[:min(<int>record.reply_bytes, <int>RECORDED_BYTES)], record.reply_bytes,
        swap32(record.reply_source_be), swap32(record.reply_destination_be), swap16(record.reply_port_be),
        (<const char *>record.reply_mac)[:6], bool(record.at_boot_port))
