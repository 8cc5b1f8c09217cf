"""Faults that are planted to prove the checks: a text of the sources, what stands in its place, and who has to notice.

A place may have moved between versions of the code: `spots` are tried in order, one of them has to be there, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EVERY = "tests/netns/under_load/test_every_fault.py::test_fault"


class Moved(Exception):
    """No spot of a fault is in the sources as it was: the fault has to follow the code."""


@dataclass(frozen=True, slots=True)
class Spot:
    """old stands exactly once in the file of that path; new takes its place.

    more: the same in other places at once, where a second net would hold what falls through the first."""

    path: str
    old: str
    new: str
    more: tuple[Spot, ...] = ()

    def found(self, root: Path) -> bool:
        file = root / self.path
        here = file.exists() and file.read_text().count(self.old) == 1
        return here and all(spot.found(root) for spot in self.more)


@dataclass(frozen=True, slots=True)
class Planted:
    """test: a test's id, or the words of a soak; says: what its output has to match, so that no other failure counts.

    modules: extensions to compile anew; environment: of the test; wants: a file without which the sources do not have
    yet what the fault spoils."""

    name: str
    spots: tuple[Spot, ...]
    test: str
    says: str
    modules: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    soak: bool = False
    wants: str = ""

    def spot(self, root: Path) -> Spot:
        """The one that fits these sources.  Moved."""
        for spot in self.spots:
            if spot.found(root):
                return spot
        places = "; ".join(f"{spot.path}: {spot.old.strip().splitlines()[0]!r}" for spot in self.spots)
        raise Moved(f"{self.name}: no place for it any more, looked for {places}; write one in tests/planted/faults.py")


def fault(name: str) -> str:
    return f"{EVERY}[{name}]"


PLANTED: tuple[Planted, ...] = (
    Planted(
        "tombstone forgotten",
        (
            Spot(
                "ext/builder.pyx",
                "    for mac, role in changes.removed:\n        builder.add_tombstone(mac, role)\n",
                "",
            ),
        ),
        # Not by the service: there the new card's own DISCOVER makes a look-up, which removes the old one's row.
        "tests/ext/table/test_table.py::test_delta_of_two_tables_gives_the_new_one",
        r"AssertionError|assert ",
        ("ext.builder",),
    ),
    Planted(
        "batch not recovered",
        (Spot("ext/pump.pyx", "                WAYS[way].recover(&self.loop)\n", "                pass\n"),),
        fault("worker killed amid a batch"),
        r"\d+ lost",
        ("ext.pump",),
    ),
    Planted(
        "stale field: the address is not compared",
        (
            Spot(
                "ext/table.pyx",
                "            if mine.host_hash(first) != theirs.host_hash(host.lease):",
                "            if first.address_be == host.lease.address_be and mine.host_hash(first) != "
                "theirs.host_hash(host.lease):",
            ),
            Spot(
                "ext/table.pyx",
                "            if mine.host_hash(first, both) != theirs.host_hash(host.lease, both):",
                "            if first.address_be == host.lease.address_be and mine.host_hash(first, both) != "
                "theirs.host_hash(host.lease, both):",
            ),
        ),
        fault("addresses exchanged"),
        r"\d+ wrong",
        ("ext.table",),
    ),
    Planted(
        "a part that changed is taken for the one before",
        (
            Spot(
                "control/plan/compile.py",
                "if known is not None and known.digest == digest and batch.digest:",
                "if known is not None and batch.digest:",
            ),
        ),
        "tests/control/plan/test_compile.py::test_any_split_says_what_the_whole_says",
        r"AssertionError|assert ",
    ),
    Planted(
        "conflict not released",
        (Spot("control/plan/compile.py", "if self.lost and served is not None:", "if served is not None:"),),
        fault("one address for two"),
        r"\d+ lost",
    ),
    Planted(
        "conflict of addresses not seen",
        (
            Spot("control/plan/compile.py", "        if macs or addresses:\n", "        if macs:\n"),
            Spot(
                "control/plan/compile.py",
                "        losers = conflicts(contested, faults)\n",
                "        losers: dict[int, Row] = {}\n",
                more=(
                    Spot(
                        "control/planner/served.py",
                        "        contested = read_contested(view.crossed(), view.twice())\n",
                        "        contested = Contested()\n",
                    ),
                ),
            ),
        ),
        fault("one address for two"),
        r"\d+ wrong",
    ),
    Planted(
        "NAK from a stale table",
        (
            Spot(
                "ext/judge.pxd",
                "    if site.age_s > site.own.max_nak_age_s:\n",
                "    if site.age_s > site.own.max_nak_age_s and site.age_s < 0:\n",
            ),
        ),
        "tests/ext/answering/test_properties.py::test_nobody_is_refused_by_a_stale_table",
        r"a NAK from a table of",
        ("ext.codec",),
    ),
    Planted(
        "wrong steering",
        (
            Spot(
                "fastpath/sockets/sockets.py",
                "        (_MOD, 0, 0, workers),\n    ]",
                "        (_MOD, 0, 0, max(1, workers - 1)),\n    ]",
            ),
        ),
        "tests/netns/under_load/test_every_fault.py::test_calm",
        r"of the requests went to worker",
    ),
    Planted(
        "counters lost when a worker is replaced",
        (
            Spot(
                "ext/pump.pyx",
                "        self.loop.page.pid = os.getpid()\n        self.running = True\n",
                "        self.loop.page.pid = os.getpid()\n        self.running = True\n"
                "        memset(<void *>self.loop.page.by_verdict, 0, sizeof(self.loop.page.by_verdict))\n",
            ),
        ),
        fault("upgrade, same build"),
        r"counters went back",
        ("ext.pump",),
    ),
    Planted(
        "journal line dropped: a commit takes all of the queue",
        (Spot("control/discovery/traps/queue.py", "        self.tail = self.at\n", "        self.tail = self.head\n"),),
        "tests/control/discovery/traps/test_queue.py::test_against_a_list",
        r"AssertionError|assert ",
    ),
    Planted(
        "off by one in the delta",
        (
            Spot(
                "control/planner/served.py",
                "for mac, role in list(delta.keys()) if delta is not None else []:",
                "for mac, role in list(delta.keys())[1:] if delta is not None else []:",
            ),
        ),
        fault("addresses come and go"),
        r"\d+ wrong",
    ),
    Planted(
        "a relink forgets what was changed since the base",
        (
            Spot(
                "control/planner/planner.py",
                "        top = self.served.pair.top\n        self.served.delta(self.served.rows_of_delta(set()),",
                "        top = self.served.pair.top\n        self.served.delta(Builder(self.served.pair.base),",
            ),
            Spot(
                "control/planner/planner.py",
                "            silenced = self.served.delta(self.served.rows_of_delta(gone), around,",
                "            from ext.builder import Builder\n\n"
                "            silenced = self.served.delta(Builder(self.served.pair.base), around,",
            ),
        ),
        fault("addresses come and go"),
        r"\d+ wrong",
    ),
    Planted(
        "a rollback forgets what was changed since the base",
        (
            Spot(
                "control/planner/served.py",
                "self.adopt(base_fd, delta_fd[0] if delta_fd else -1)",
                "self.adopt(base_fd, -1)",
            ),
            Spot(
                "control/planner/served.py",
                "        fd, silenced = self.sealed(former.base, rows_of_delta(former), self.number + 1,",
                "        fd, silenced = self.sealed(former.base, Builder(former.base), self.number + 1,",
            ),
        ),
        fault("rolled back"),
        r"\d+ wrong",
    ),
    Planted(
        "a refresh overwrites a younger look-up",
        (Spot("control/planner/planner.py", "        carried = set(self.touched)\n", "        carried = set()\n"),),
        fault("look-up amid a refresh"),
        r"\d+ (wrong|lost)",
    ),
    Planted(
        "max_shrink is not asked",
        (
            Spot(
                "control/plan/guards.py",
                "    if before == 0 or total <= limit * before:\n",
                "    if before >= 0:\n",
            ),
            Spot(
                "control/plan/guards.py",
                "    if total <= limit * before or (total == 1 < before and limit > 0):\n",
                "    if total >= 0:\n",
            ),
        ),
        fault("inventory, half lists"),
        r"\d+ lost",
    ),
    Planted(
        "a worker is left behind at a publish",
        (
            Spot(
                "fastpath/supervisor/supervisor.py",
                '            if child.kind != "control" and listens and not child.stopping_s:\n',
                "            late = child.slot == 1 and message.generation > 1\n"
                '            if child.kind != "control" and listens and not child.stopping_s and not late:\n',
            ),
            Spot(
                "fastpath/supervisor/supervisor.py",
                '            if child.kind not in ("control", TRIAL) and listens and not child.stopping_s:\n',
                "            if child.slot == 1 and message.generation > 1:\n                continue\n"
                '            if child.kind not in ("control", TRIAL) and listens and not child.stopping_s:\n',
            ),
        ),
        fault("addresses exchanged"),
        r"do not answer from generation|TimeoutError|timed out",
    ),
    Planted(
        "a hung worker is seen late",
        (Spot("fastpath/supervisor/supervisor.py", "HUNG_S = 0.2 ", "HUNG_S = 2.0 "),),
        fault("worker stopped"),
        r"waited \d",
    ),
    Planted(
        "no spare stands by",
        (
            Spot(
                "fastpath/supervisor/supervisor.py",
                "wanted = len(self.free_slots()) + 1\n",
                "wanted = len(self.free_slots())\n",
            ),
            Spot(
                "fastpath/supervisor/supervisor.py",
                "        for _ in range(len(self.free_slots()) + 1 - spares):\n",
                "        for _ in range(len(self.free_slots()) - spares):\n",
            ),
        ),
        fault("worker killed"),
        r"not within",
    ),
    Planted(
        "the table on disk is not written",
        (
            Spot(
                "control/planner/planner.py",
                "if origin in SAVED:",
                'if origin == "hosts":',
            ),
        ),
        fault("supervisor killed"),
        r"waited [2-9]\.\d+ s, limit",
    ),
    Planted(
        "descriptors of former tables are kept",
        (
            Spot(
                "control/planner/served.py",
                "for old in {self.base_fd, self.delta_fd} - {base_fd, delta_fd, -1}:",
                "for old in {-1} - {base_fd, delta_fd, -1}:",
            ),
        ),
        "--seconds 50 --calm 2 --rate 2000 --hosts 500 --only exchanged --without look-up",
        r"planner .*GROWS",
        soak=True,
    ),
    Planted(
        "option 82 is not sent back",
        (
            Spot(
                "ext/encode.pxd",
                "    if request.relay_agent.length:                               # RFC 3046 section 2.2: last\n",
                "    if request.relay_agent.length > 255:\n",
            ),
        ),
        "tests/ext/answering/test_properties.py::test_well_formed_and_nearly",
        r"AssertionError|assert ",
        ("ext.codec",),
        (("BOOTSTORM_EXAMPLES", "3000"),),
    ),
    Planted(
        "closure left out",
        (
            Spot(
                "control/planner/closure.py",
                "    keys, more_names = close_over(view, disputes, plan, rows, paths, asked)\n",
                "    keys, more_names = asked | rows.keys(), set[str]()\n",
            ),
        ),
        fault("addresses exchanged, look-up"),
        r"\d+ (lost|wrong)",
        wants="control/planner/closure.py",
    ),
    Planted(
        "other rows of the same object stay",
        (
            Spot(
                "control/planner/closure.py",
                "    keys |= rows.keys() | view.of_objects(identities(paths))\n",
                "    keys |= rows.keys()\n",
                more=(
                    Spot("control/planner/closure.py", "    keys |= view.with_addresses(addresses)\n", ""),
                    Spot(
                        "control/planner/closure.py",
                        '    keys |= view.of_objects(things | {row["identity"] for row in served_rows(pair, keys)})\n',
                        "",
                    ),
                ),
            ),
        ),
        fault("new card, look-up"),
        r"\d+ wrong",
        wants="control/planner/closure.py",
    ),
    Planted(
        "neither closure nor invariant",
        (
            Spot(
                "control/planner/served.py",
                "        contested = read_contested(view.crossed(), view.twice())\n",
                "        contested = Contested()\n",
                more=(
                    Spot(
                        "control/planner/closure.py",
                        "    keys, more_names = close_over(view, disputes, plan, rows, paths, asked)\n",
                        "    keys, more_names = asked | rows.keys(), set[str]()\n",
                    ),
                ),
            ),
        ),
        fault("addresses exchanged, look-up"),
        r"\d+ twice",
        wants="control/planner/closure.py",
    ),
    Planted(
        "a conflict outlives its cause",
        (
            Spot(
                "control/planner/closure.py",
                "    touched = disputes.touching(keys, map(name_of, read), addresses)\n",
                "    touched: list[Dispute] = []\n",
            ),
        ),
        fault("one address for two, look-up"),
        r"\d+ lost",
        wants="control/planner/closure.py",
    ),
    Planted(
        "counters lost over an upgrade to another layout",
        (
            Spot(
                "fastpath/supervisor/upgrade.py",
                "                WorkerPage(fd).carry(state.counters[slot])\n",
                "                pass\n",
                more=(
                    Spot(
                        "fastpath/supervisor/supervisor.py",
                        "                self.pages[child.slot].carry(message.counters)\n",
                        "                pass\n",
                    ),
                ),
            ),
        ),
        fault("upgrade, other layout"),
        r"counters went back",
        wants="fastpath/supervisor/upgrade.py",
    ),
    Planted(
        "a stopped control is not noticed",
        (Spot("fastpath/supervisor/supervisor.py", "STUCK_S = 3.0 ", "STUCK_S = 300.0 "),),
        fault("control stopped"),
        r"not within",
        wants="fastpath/process/turns.py",
    ),
)
