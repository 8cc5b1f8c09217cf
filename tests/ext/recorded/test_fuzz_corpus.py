"""Every input of the fuzzer's corpus through the packet path, with the fuzzer's invariants: needs no clang."""

import re
from pathlib import Path

import pytest
from ext.verdict import Verdict

from tests.fuzz.invariants import NEVER, check
from tests.fuzz.population import CORPUS, ask, sites

CASES = sorted(CORPUS.iterdir())
CORPUS_BYTES_MAX = 1_000_000


@pytest.mark.parametrize("path", CASES, ids=[path.name for path in CASES])
def test_invariants(path: Path) -> None:
    check(path.read_bytes())


def test_every_verdict_route_and_site_is_reached() -> None:
    """Without that the corpus would decay unseen when the sites or the Place change."""
    cases = [path.read_bytes() for path in CASES]
    replies = [ask(case) for case in cases]
    assert {reply.verdict for reply in replies} == set(Verdict) - NEVER
    assert {reply.route for reply in replies} == {"", "udp", "frame", "broadcast"}
    assert {case[0] for case in cases} == set(range(len(sites())))


def test_names_say_what_happens_and_files_are_small() -> None:
    assert [path.name for path in CASES if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{2,100}", path.name)] == []
    assert sum(path.stat().st_size for path in CASES) < CORPUS_BYTES_MAX
