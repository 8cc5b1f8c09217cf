"""Machines that are switched on: each goes through the stages of its boot with the real timers of its firmware.

Runs without the GIL.  A host has one timer, kept in a wheel of milliseconds; a retransmission is sent only after what had
arrived until its time has been read, and each is put down to somebody: to the server, to the client's own habit, to this
generator, or to a machine that stood still.  A host may be made to end its way earlier (set_ends): it hangs there.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from bench.engine.wire cimport *
from ext.net cimport load_acquire_int
from ext.rfc2131 cimport DHCPACK, DHCPOFFER

STEPS = ("DISCOVER", "OFFER", "REQUEST", "ACK")
BLAMED = ("ours", "client", "generator", "machine")

cdef enum:
    TICK_NS = 1000000
    SLOTS = 65536                  # of the wheel: 65 s; what is due later is put in again
    TIMERS = 8
    STAGES = 8                     # a host's transaction ids: number x STAGES + stage
    STEP_COUNT = 4
    TURN_NS = 4000000              # a turn of the loop takes a fraction of that
    STALL_SHARE = 4                # a wait of which the machine stood still for a quarter says nothing of the server
    GRACE_NS = 100000000           # after the last ACK: late and double replies come right behind
    TAIL_NS = 2000000000           # after the last host, for replies to those that hang and asked again at the end
    NOBODY = -1
    UP_AT_LAST = 255               # Host.end of who goes through all stages
    OFF_HOST = 255                 # of where(): it never had power


cdef enum Phase:
    OFF
    BETWEEN                        # on its way to the next stage
    DISCOVERING
    COLLECTING                     # has an offer and waits for better ones
    REQUESTING
    UP
    DARK                           # its firmware gave up


cdef enum Reached:                 # STEPS, of which the numbers stand in set_ends(), steps and where()
    ASKED
    OFFERED
    TAKEN
    ACKED


cdef enum Blame:
    OURS
    CLIENT
    GENERATOR
    MACHINE
    BLAME_COUNT


cdef struct Firmware:
    uint32_t discover              # templates
    uint32_t request
    int64_t discover_ns[TIMERS]
    int64_t request_ns[TIMERS]
    int discover_count
    int request_count
    int64_t collect_ns             # offers are collected for so long
    bint insists                   # goes on with DISCOVERs while it collects
    int64_t wait_min_ns            # from the last ACK (or power-on) to this stage
    int64_t wait_max_ns
    bint last


cdef struct Host:
    int64_t due_ns                 # of its timer, absolute
    int64_t phase_due_ns           # when the first copy of this phase was due
    int64_t phase_sent_ns          # when it left
    int64_t timer_ns               # when the first retransmission of this phase was due; 0: there was none
    int64_t stalled_ns             # of the machine, when the last copy left
    int32_t before                 # neighbours in its slot of the wheel
    int32_t after
    int32_t slot
    uint8_t stage
    uint8_t phase
    uint8_t tries
    uint8_t unexplained            # retransmissions of this phase that are put down to the server so far
    uint8_t discovers
    uint8_t offers
    uint8_t requests
    uint8_t acks
    uint8_t end                    # stage x STEP_COUNT + step where it hangs, or UP_AT_LAST
    bint hangs                     # it got there
    uint32_t asked                 # requests of all stages
    uint32_t heard                 # and replies


@cython.final
cdef class Storm(Wire):
    """Hosts, their stages, run() in a thread of its own, then the figures.

    peers must be set first; first_stage, starts: for each host, the stage that it begins with and ns from the start."""
    cdef Host *hosts
    cdef Firmware firmwares[STAGES]
    cdef int firmware_count
    cdef int32_t wheel[SLOTS]
    cdef int64_t start_ns, tick, limit_ns, moment_ns, last_ack_ns, stalled_ns, last_reply_ns
    cdef uint64_t noise
    cdef int64_t ended_ns          # when the last host was up, dark or hung; 0: not yet
    cdef uint32_t first_xid, up_count, dark_count, hung_count, moment_count
    cdef uint64_t sent_count, answered_count, wasted_count, duplicate_count, stray_count, wrong_count
    cdef uint64_t heard_count, hopeless_count          # replies to what was asked; requests that get none
    cdef uint64_t steps[STAGES][STEP_COUNT]            # datagrams, repeated ones too
    cdef uint64_t blamed[STAGES][BLAME_COUNT]
    cdef int64_t last_ns[STAGES]
    cdef uint64_t latency[BUCKETS]
    cdef uint64_t service[BUCKETS]
    cdef uint64_t lateness[BUCKETS]
    cdef uint64_t boot[BUCKETS]
    cdef uint32_t *funnel          # [stage][step][moment]: hosts that got there first in that moment

    def __cinit__(self, int fd, *, uint32_t first_xid=1, uint64_t seed=1, int64_t limit_ns=300000000000,
                  int64_t moment_ns=50000000, **_rest):
        cdef int i
        self.first_xid, self.noise = first_xid, seed * 2 + 1
        self.limit_ns, self.moment_ns = limit_ns, moment_ns
        self.moment_count = <uint32_t>(limit_ns // moment_ns + 2)
        self.funnel = <uint32_t *>calloc(<size_t>STAGES * STEP_COUNT * self.moment_count, sizeof(uint32_t))
        if self.funnel == NULL:
            raise MemoryError(f"{self.moment_count} moments")
        for i in range(SLOTS):
            self.wheel[i] = NOBODY

    def __dealloc__(self):
        free(self.hosts)
        free(self.funnel)

    def add_stage(self, *, int discover, int request, discover_s, request_s, double collect_s=0.0, bint insists=False,
                  wait_s=(0.0, 0.0), bint last=False) -> int:
        """One firmware as a stage of a boot; index.  discover, request: templates; *_s: its timers, one after the other;
        wait_s: the spread of what lies between the stage before and this one.  last: the host is up after its ACK."""
        cdef Firmware *firmware
        cdef int i
        if self.firmware_count == STAGES:
            raise ValueError(f"more than {STAGES} stages")
        if not (0 < len(discover_s) <= TIMERS and 0 < len(request_s) <= TIMERS):
            raise ValueError(f"{len(discover_s)} and {len(request_s)} timers, wanted 1 to {TIMERS} of each")
        if not (0 <= discover < <int>self.template_count and 0 <= request < <int>self.template_count):
            raise ValueError(f"templates {discover} and {request}, there are {self.template_count}")
        firmware = &self.firmwares[self.firmware_count]
        firmware.discover, firmware.request = discover, request
        firmware.discover_count, firmware.request_count = len(discover_s), len(request_s)
        for i in range(firmware.discover_count):
            firmware.discover_ns[i] = <int64_t>(discover_s[i] * 1e9)
        for i in range(firmware.request_count):
            firmware.request_ns[i] = <int64_t>(request_s[i] * 1e9)
        firmware.collect_ns, firmware.insists = <int64_t>(collect_s * 1e9), insists
        firmware.wait_min_ns, firmware.wait_max_ns = <int64_t>(wait_s[0] * 1e9), <int64_t>(wait_s[1] * 1e9)
        firmware.last = last
        self.firmware_count += 1
        return self.firmware_count - 1

    def set_hosts(self, first_stage, starts):
        """The stage that each host begins with, and when, in ns after the start; below 0: never, it has no power.
        ValueError for unknown stages."""
        cdef uint32_t i
        if len(first_stage) != self.peer_count or len(starts) != self.peer_count or self.peer_count == 0:
            raise ValueError(f"{len(first_stage)} stages, {len(starts)} starts for {self.peer_count} hosts")
        if self.firmware_count == 0 or not self.firmwares[self.firmware_count - 1].last:
            raise ValueError(f"{self.firmware_count} stages: wanted at least one, and the last one marked so")
        if <uint64_t>self.peer_count * STAGES > 0x7fffffff:
            raise ValueError(f"{self.peer_count} hosts: their transaction ids would meet")
        free(self.hosts)
        self.hosts = <Host *>calloc(self.peer_count, sizeof(Host))
        if self.hosts == NULL:
            raise MemoryError(f"{self.peer_count} hosts")
        for i in range(self.peer_count):
            if not 0 <= first_stage[i] < self.firmware_count:
                raise ValueError(f"host {i}: stage {first_stage[i]} of {self.firmware_count}")
            self.hosts[i].stage, self.hosts[i].due_ns = first_stage[i], starts[i]
            self.hosts[i].slot, self.hosts[i].end = NOBODY, UP_AT_LAST

    def set_ends(self, bytes ends not None):
        """Where each host hangs: stage x len(STEPS) + step, or 255: nowhere.  At DISCOVER: it has no answer to get, and
        any is wrong.  At OFFER: it takes none, and asks on as its firmware does.  At ACK: what it was told to load does
        not load.  After set_hosts(); ValueError for other ends."""
        cdef uint32_t i
        cdef const uint8_t *end = <const uint8_t *><const char *>ends
        if self.hosts == NULL or len(ends) != self.peer_count:
            raise ValueError(f"{len(ends)} ends, {self.peer_count} hosts: wanted as many, and set_hosts() before")
        for i in range(self.peer_count):
            if end[i] != UP_AT_LAST and (end[i] // STEP_COUNT >= self.firmware_count or end[i] % STEP_COUNT == TAKEN):
                raise ValueError(
                    f"host {i} ends at {end[i]}: wanted DISCOVER, OFFER or ACK of one of {self.firmware_count} stages")
            self.hosts[i].end = end[i]

    def run(self):
        """Until every host is up, dark or where it hangs, at most limit_ns."""
        cdef uint32_t i
        if self.hosts == NULL:
            raise ValueError("no hosts: set_hosts() comes first")
        with nogil:
            wake_on_time()
            self.start_ns = now_ns() + 1000000
            self.tick = self.start_ns // TICK_NS
            for i in range(self.peer_count):
                if self.hosts[i].due_ns < 0:
                    self.hang(&self.hosts[i])
                else:
                    self.arm(i, self.start_ns + self.hosts[i].due_ns)
            self.play()

    cdef void play(self) noexcept nogil:
        cdef int64_t now, before = now_ns(), allowed = TURN_NS, wake
        cdef int64_t end = self.start_ns + self.limit_ns
        while not load_acquire_int(&self.stopping):
            now = now_ns()
            if now - before > allowed:
                self.stalled_ns += now - before - (allowed - TURN_NS)
            before, allowed = now, TURN_NS
            if self.ended_ns == 0 and self.up_count + self.dark_count + self.hung_count == self.peer_count:
                self.ended_ns = now
            if now > end or (self.ended_ns != 0 and self.has_heard_all(now)):
                return
            self.drain()
            if self.ended_ns != 0:
                self.pause(now + TICK_NS)
                allowed += TICK_NS
                continue
            if self.fire_due(now):
                continue
            wake = min((self.tick + 1) * TICK_NS, end)
            allowed += max(wake - now_ns(), 0)
            self.pause(wake)

    cdef bint has_heard_all(self, int64_t now) noexcept nogil:
        """Nobody sends any more.  Who hangs may have asked again just now, and then a reply is on its way."""
        if (self.hung_count != 0 and self.heard_count + self.hopeless_count < self.sent_count
                and now < self.ended_ns + TAIL_NS):
            return False
        return now > self.last_reply_ns + GRACE_NS

    cdef void drain(self) noexcept nogil:
        """Read until nothing is there, at most a moment's worth; then what the replies made due goes out."""
        for _ in range(64):
            if self.receive() == 0:
                break
        self.flush()

    cdef bint fire_due(self, int64_t now) noexcept nogil:
        """Fire the timers of at most a batch of hosts; True when there may be more."""
        cdef int32_t host
        cdef int fired = 0
        while self.tick * TICK_NS <= now:
            host = self.wheel[self.tick % SLOTS]
            if host == NOBODY:
                self.tick += 1
                continue
            self.disarm(host)
            if self.hosts[host].due_ns > now:
                self.arm(host, self.hosts[host].due_ns)      # beyond the wheel's horizon, or later in this tick
                if self.hosts[host].due_ns < (self.tick + 1) * TICK_NS:
                    break
                continue
            self.fire(host, now)
            fired += 1
            if self.out_count == BATCH or fired == BATCH:
                self.flush()
                return True
        self.flush()
        return False

    cdef void arm(self, int32_t at, int64_t due_ns) noexcept nogil:
        cdef Host *host = &self.hosts[at]
        cdef int64_t tick = max(due_ns // TICK_NS, self.tick)
        host.due_ns = due_ns
        host.slot = <int32_t>(min(tick, self.tick + SLOTS - 1) % SLOTS)
        host.before, host.after = NOBODY, self.wheel[host.slot]
        if host.after != NOBODY:
            self.hosts[host.after].before = at
        self.wheel[host.slot] = at

    cdef void disarm(self, int32_t at) noexcept nogil:
        cdef Host *host = &self.hosts[at]
        if host.slot == NOBODY:
            return
        if host.before != NOBODY:
            self.hosts[host.before].after = host.after
        else:
            self.wheel[host.slot] = host.after
        if host.after != NOBODY:
            self.hosts[host.after].before = host.before
        host.slot = NOBODY

    cdef void fire(self, int32_t at, int64_t now) noexcept nogil:
        cdef Host *host = &self.hosts[at]
        cdef const Firmware *firmware = &self.firmwares[host.stage]
        if host.phase == OFF or host.phase == BETWEEN:
            host.stage += host.phase == BETWEEN
            host.phase, host.tries = DISCOVERING, 0
            host.discovers = host.offers = host.requests = host.acks = 0
            self.send(at, now)
        elif host.phase == COLLECTING and now - host.phase_sent_ns >= firmware.collect_ns - TICK_NS:
            self.begin_request(at, host.due_ns, now)
        elif host.phase == REQUESTING and host.tries >= firmware.request_count:
            self.give_up(host)
        elif host.phase != REQUESTING and host.tries >= firmware.discover_count:
            self.give_up(host)
        else:
            self.blame(host, now)
            self.send(at, now)

    cdef void give_up(self, Host *host) noexcept nogil:
        host.phase = DARK
        self.dark_count += not host.hangs

    cdef void hang(self, Host *host) noexcept nogil:
        self.hung_count += not host.hangs
        host.hangs = True

    cdef bint ends_at(self, const Host *host, Reached step) noexcept nogil:
        return host.end == host.stage * STEP_COUNT + <int>step

    cdef void blame(self, Host *host, int64_t now) noexcept nogil:
        """Whose is the retransmission that goes out now?  The server's, until something else shows."""
        cdef int64_t stalled = self.stalled_ns - host.stalled_ns
        cdef int64_t waited = (self.firmwares[host.stage].request_ns[host.tries - 1] if host.phase == REQUESTING
                               else self.firmwares[host.stage].discover_ns[host.tries - 1])
        if host.timer_ns == 0:
            host.timer_ns = host.due_ns
        if host.phase == COLLECTING or host.hangs:
            self.blamed[host.stage][<int>CLIENT] += 1
        elif stalled * STALL_SHARE > waited:
            self.blamed[host.stage][<int>MACHINE] += 1
        else:
            self.blamed[host.stage][<int>OURS] += 1
            host.unexplained += 1

    cdef void send(self, int32_t at, int64_t now) noexcept nogil:
        """A copy of what the host's phase asks; its timer starts when it leaves, as a client's does."""
        cdef Host *host = &self.hosts[at]
        cdef const Firmware *firmware = &self.firmwares[host.stage]
        cdef bint request = host.phase == REQUESTING
        cdef uint16_t secs
        if self.out_count == BATCH:
            self.flush()
        if host.tries == 0:
            host.phase_due_ns, host.phase_sent_ns, host.timer_ns, host.unexplained = host.due_ns, now, 0, 0
            self.pass_step(host.stage, 2 if request else 0, now)
            count_ns(self.lateness, now - host.due_ns)
        secs = <uint16_t>((now - host.phase_sent_ns) // 1000000000)
        self.put(at, firmware.request if request else firmware.discover, self.first_xid + at * STAGES + host.stage, secs)
        self.sent_count += 1
        host.asked += 1
        self.steps[host.stage][<int>TAKEN if request else <int>ASKED] += 1
        if self.ends_at(host, ASKED):
            self.hopeless_count += 1
            self.hang(host)
        if request:
            host.requests += 1
            self.arm(at, now + firmware.request_ns[host.tries])
        else:
            host.discovers += 1
            self.arm(at, now + firmware.discover_ns[host.tries])
        host.tries += 1
        host.stalled_ns = self.stalled_ns

    cdef void begin_request(self, int32_t at, int64_t due_ns, int64_t now) noexcept nogil:
        cdef Host *host = &self.hosts[at]
        self.disarm(at)
        host.phase, host.tries, host.due_ns = REQUESTING, 0, due_ns
        self.send(at, now)

    cdef void pass_step(self, int stage, int step, int64_t now) noexcept nogil:
        cdef int64_t moment = max(now - self.start_ns, 0) // self.moment_ns
        self.funnel[(stage * STEP_COUNT + step) * self.moment_count + min(moment, self.moment_count - 1)] += 1

    cdef void take(self, const uint8_t *data, size_t length, int64_t when_ns) noexcept nogil:
        cdef Answer answer
        cdef uint32_t number
        cdef int32_t at
        cdef Host *host
        cdef const Firmware *firmware
        cdef Fault fault
        self.last_reply_ns = when_ns
        if not read_answer(data, length, &answer):
            self.stray_count += 1
            self.keep(data, length, 0xffffffff, MALFORMED)
            return
        number = answer.xid - self.first_xid
        if number >= self.peer_count * STAGES:
            self.stray_count += 1
            return
        at = number // STAGES
        host = &self.hosts[at]
        firmware = &self.firmwares[number % STAGES]
        if number % STAGES != host.stage or host.phase == OFF:
            self.wasted_count += 1             # of a stage that it has left
            self.count_reply(host, number % STAGES, answer.kind)
            return
        fault = self.check(&answer, &self.peers[at],
                           &self.templates[firmware.discover if answer.kind == DHCPOFFER else firmware.request])
        if self.ends_at(host, ASKED):
            fault = UNEXPECTED
        self.faults[<int>fault] += 1
        if fault != RIGHT:
            self.wrong_count += 1
            self.keep(data, length, at, fault)
            return
        self.count_reply(host, host.stage, answer.kind)
        if answer.kind == DHCPOFFER:
            self.take_offer(at, firmware, when_ns)
        else:
            self.take_ack(at, when_ns)

    cdef void count_reply(self, Host *host, int stage, uint8_t kind) noexcept nogil:
        if kind == DHCPOFFER or kind == DHCPACK:
            self.steps[stage][<int>OFFERED if kind == DHCPOFFER else <int>ACKED] += 1
            self.heard_count += 1
            host.heard += 1

    cdef void take_offer(self, int32_t at, const Firmware *firmware, int64_t when_ns) noexcept nogil:
        cdef Host *host = &self.hosts[at]
        host.offers += 1
        if host.offers > 1 or host.phase != DISCOVERING:
            self.count_extra(host.offers > host.discovers)
            return
        self.time_reply(host, when_ns)
        self.pass_step(host.stage, 1, when_ns)
        if self.ends_at(host, OFFERED):
            self.hang(host)        # and is DISCOVERING still
            return
        if firmware.collect_ns == 0:
            self.begin_request(at, when_ns, now_ns())
            return
        host.phase = COLLECTING
        if not firmware.insists:
            self.disarm(at)
            self.arm(at, host.phase_sent_ns + firmware.collect_ns)

    cdef void take_ack(self, int32_t at, int64_t when_ns) noexcept nogil:
        cdef Host *host = &self.hosts[at]
        cdef const Firmware *firmware = &self.firmwares[host.stage]
        host.acks += 1
        if host.acks > 1 or host.phase != REQUESTING:
            self.count_extra(host.acks > host.requests)
            return
        self.time_reply(host, when_ns)
        self.pass_step(host.stage, 3, when_ns)
        self.last_ns[host.stage] = max(self.last_ns[host.stage], when_ns - self.start_ns)
        self.last_ack_ns = max(self.last_ack_ns, when_ns - self.start_ns)
        self.disarm(at)
        if self.ends_at(host, ACKED):
            host.phase = BETWEEN   # and nothing follows
            self.hang(host)
            return
        if firmware.last:
            host.phase = UP
            self.up_count += 1
            count_ns(self.boot, when_ns - self.start_ns)
            return
        host.phase = BETWEEN           # still of this stage: a second ACK is recognised as one
        self.arm(at, when_ns + self.between(&self.firmwares[host.stage + 1]))

    cdef int64_t between(self, const Firmware *firmware) noexcept nogil:
        """Evenly spread, reproducible by the seed (xorshift64)."""
        self.noise ^= self.noise << 13
        self.noise ^= self.noise >> 7
        self.noise ^= self.noise << 17
        return firmware.wait_min_ns + <int64_t>(
            <double>(self.noise >> 11) / <double>(<uint64_t>1 << 53) * (firmware.wait_max_ns - firmware.wait_min_ns))

    cdef void count_extra(self, bint more_than_asked) noexcept nogil:
        if more_than_asked:
            self.duplicate_count += 1
        else:
            self.wasted_count += 1

    cdef void time_reply(self, Host *host, int64_t when_ns) noexcept nogil:
        cdef Blame whose = GENERATOR
        self.answered_count += 1
        count_ns(self.latency, when_ns - host.phase_due_ns)
        count_ns(self.service, when_ns - host.phase_sent_ns)
        # It was there before the timer, and we had not read it.
        if host.unexplained and when_ns <= host.timer_ns:
            self.blamed[host.stage][<int>OURS] -= host.unexplained
            self.blamed[host.stage][<int>whose] += host.unexplained
            host.unexplained = 0

    @property
    def done(self) -> int:
        """Hosts that are up, dark or where they hang; may be read while it runs."""
        return self.up_count + self.dark_count + self.hung_count

    def tally(self) -> dict:
        cdef int i, j
        blamed = []
        for i in range(self.firmware_count):
            blamed.append({BLAMED[j]: self.blamed[i][j] for j in range(<int>BLAME_COUNT)})
        return {
            "up": self.up_count, "dark": self.dark_count, "hung": self.hung_count, "sent": self.sent_count,
            "answered": self.answered_count, "heard": self.heard_count,
            "wrong": self.wrong_count, "wasted": self.wasted_count, "duplicate": self.duplicate_count,
            "stray": self.stray_count, "blamed": blamed, "last_ack_ns": self.last_ack_ns,
            "stage_last_ack_ns": [self.last_ns[i] for i in range(self.firmware_count)], "stalled_ns": self.stalled_ns,
        }

    def histograms(self) -> dict:
        """As blast's; boot: from the start to a host's last ACK."""
        return {"latency": counts(self.latency), "service": counts(self.service), "lateness": counts(self.lateness),
                "boot": counts(self.boot)}

    def funnel_counts(self) -> list:
        """For each stage and step: [(ns, hosts that got there in the moment that begins then)], where there are any."""
        cdef uint32_t stage, step, moment, count
        found = []
        for stage in range(self.firmware_count):
            for step in range(STEP_COUNT):
                rows = []
                for moment in range(self.moment_count):
                    count = self.funnel[(stage * STEP_COUNT + step) * self.moment_count + moment]
                    if count:
                        rows.append((moment * self.moment_ns, count))
                found.append(rows)
        return found

    def dark(self, int most=10) -> list:
        """(MAC, stage) of the first hosts that are not up, and were to be."""
        cdef uint32_t i
        found = []
        for i in range(self.peer_count):
            if len(found) == most:
                break
            if self.hosts[i].phase != UP and not self.hosts[i].hangs:
                found.append((<bytes>(<const char *>self.peers[i].mac)[:6], self.hosts[i].stage))
        return found

    def datagrams(self) -> list:
        """For each stage, how many of each of STEPS were sent or came, repeated ones too."""
        return [[self.steps[stage][step] for step in range(STEP_COUNT)] for stage in range(self.firmware_count)]

    def where(self) -> bytes:
        """For each host the furthest that it knows of itself: stage x len(STEPS) + step; 255: it never had power."""
        cdef uint32_t i
        cdef Host *host
        cdef Reached step
        found = bytearray(self.peer_count)
        for i in range(self.peer_count):
            host = &self.hosts[i]
            step = ACKED if host.acks else TAKEN if host.requests else OFFERED if host.offers else ASKED
            found[i] = OFF_HOST if host.phase == OFF else host.stage * STEP_COUNT + <int>step
        return bytes(found)

    def asked(self) -> list:
        """(requests, replies) of each host, in all stages."""
        return [(self.hosts[i].asked, self.hosts[i].heard) for i in range(self.peer_count)]
