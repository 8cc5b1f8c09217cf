"""control/clusto/answers.py and bulk.py: whatever an inventory sends costs one part, and little time and memory."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from control.clusto import answers
from control.clusto.answers import AnswerSpoiled, Unpacking
from control.clusto.errors import InventoryDown
from control.sources import asking, fetch
from control.sources.bulk import scan_members
from control.sources.fetch import Fetcher
from control.sources.model import InventoryMalformed, PartLost, parse_members
from tests.borrowed import beside

MEMORY_BYTES_MAX = 1_500 << 20
CHILD = f"""
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES_MAX}, {MEMORY_BYTES_MAX}))
from control.clusto.errors import InventoryDown
from control.sources.fetch import Fetcher
from control.sources.model import PartLost
came = []
try:
    for batch in Fetcher(sys.argv[1]).read().batches:
        came += [thing.name for thing in batch.things()]
    said = "everything"
except InventoryDown as down:
    said = f"down: {{down}}"
except PartLost as lost:
    said = f"lost: {{lost}}"
with open("/proc/self/status") as status:  # ru_maxrss would be that of who started us, when that is more
    mib = int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1]) >> 10
sys.stdout.write(json.dumps([said, mib, came[:5]]))
"""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    say: Callable[[str], Iterator[bytes]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        try:
            for block in self.server.say(self.path):
                self.wfile.write(block)
                self.wfile.flush()
        except OSError:
            return  # the client has heard enough

    def log_message(self, *_: Any) -> None:
        """Nothing: a failed test says what came."""


@contextmanager
def saying(say: Callable[[str], Iterator[bytes]]) -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Handler)
    server.say = say
    with beside(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def body(text: str) -> Iterator[bytes]:
    yield HEAD + f"Content-Length: {len(text)}\r\n\r\n".encode() + text.encode()


def small(target: str) -> Iterator[bytes]:
    """A pool of three hosts."""
    members = [f"/server/h{number}" for number in range(3)]
    if "prefetch_attrs" in target:
        return body(json.dumps({"contents": [{path: {"attrs": []}} for path in members], "object": "/pool/p"}))
    if "get_by_name" in target:
        return body(json.dumps({"attrs": [], "contents": members, "object": "/pool/p", "parents": []}))
    if "_contains" in target:
        return body('["/pool/p"]')
    return body("[]" if "ipmanager" in target else json.dumps(members))


def bulk(attack: Callable[[], Iterator[bytes]]) -> Callable[[str], Iterator[bytes]]:
    return lambda target: attack() if "prefetch_attrs" in target else small(target)


# --- attacks on memory, each in a child that has a limit -------------------------------------------------------------


def endless() -> Iterator[bytes]:
    yield HEAD + b'\r\n{"contents": ["'
    while True:
        yield b"x" * (1 << 20)


def bomb() -> Iterator[bytes]:
    """3 GB of blanks in 3 MB."""
    yield HEAD + b"Content-Encoding: gzip\r\n\r\n"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield packer.compress(b'{"contents": [')
    for _ in range(3_000):
        yield packer.compress(b" " * (1 << 20))
    yield packer.flush()


def dense() -> Iterator[bytes]:
    """80 MB that would be 30 million lists."""
    yield HEAD + b'\r\n{"contents": [{"/server/h0": {"attrs": ['
    for _ in range(80):
        yield b"[],[],[]," * (1 << 17)
    yield b"[]]}}]}"


def crowd() -> Iterator[bytes]:
    """80,000 members that are wanted by nobody, of 1.2 kB each, as the original writes them."""
    row = {"datatype": "string", "key": "dhcp", "number": None, "subkey": "domain", "value": "example.org"}
    text = json.dumps([row] * 8, indent=2)
    yield HEAD + b'\r\n{"attrs": [], "contents": ['
    for number in range(80_000):
        yield f'{{"/server/c{number}": {{"attrs": {text}}}}},'.encode()
    yield b'{"/server/h0": {"attrs": []}}], "object": "/pool/p"}'


@pytest.mark.parametrize(
    "attack, said",
    [
        pytest.param(endless, "more than 256 MiB", id="endless-body"),
        pytest.param(bomb, "no inventory is packed that densely", id="gzip-of-3-MB"),
        pytest.param(dense, "too many for an inventory's answer", id="lists-of-nothing"),
        pytest.param(lambda: body("[" * 100_000), "no usable JSON", id="brackets"),
        pytest.param(lambda: body('{"contents": [' * 100_000), "no usable JSON", id="objects-in-lists"),
    ],
)
@pytest.mark.parametrize("whole", [False, True], ids=["of-a-part", "of-the-frame"])
def test_an_answer_without_end_costs_its_part_and_little_memory(
    attack: Callable[[], Iterator[bytes]], said: str, whole: bool
) -> None:
    with saying((lambda _target: attack()) if whole else bulk(attack)) as url:
        found, mib, _came = in_a_child(url)
    said = said.replace("256", "128") if whole else said
    assert found.startswith("down: " if whole else "lost: ") and said in found and "GET http" in found
    assert mib < 900


def test_a_true_answer_of_100_megabytes_is_read_member_by_member() -> None:
    with saying(bulk(crowd)) as url:
        found, mib, came = in_a_child(url)
    assert (found, came[-1]) == ("everything", "c4") and mib < 500


def in_a_child(url: str) -> tuple[str, int, list[str]]:
    child = subprocess.run([sys.executable, "-c", CHILD, url], capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    said, mib, came = json.loads(child.stdout)
    return said, mib, came


# --- time ------------------------------------------------------------------------------------------------------------


def members_of(url: str) -> list[str]:
    return [thing.name for batch in Fetcher(url).read().batches for thing in batch.things()]


def test_a_larger_pool_may_be_silent_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real daemon makes the whole answer first: 120 s were not enough for a pool of 80,000."""
    monkeypatch.setattr(asking, "FIRST_S", 0.3)
    monkeypatch.setattr(fetch, "FIRST_S", 0.3)
    monkeypatch.setattr(fetch, "FIRST_PER_MEMBER_S", 1.0)
    done = threading.Event()

    def late() -> Iterator[bytes]:
        done.wait(0.8)
        return small("prefetch_attrs")

    with saying(bulk(late)) as url:
        assert members_of(url) == ["h0", "h1", "h2"]
        monkeypatch.setattr(fetch, "FIRST_PER_MEMBER_S", 0.01)
        with pytest.raises(InventoryDown, match="get_by_name: no answer within 0 s"):
            members_of(url)


def test_an_answer_that_drips_is_given_up_and_one_that_comes_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_S", 0.3)
    monkeypatch.setattr(fetch, "FIRST_S", 0.3)
    monkeypatch.setattr(answers, "BYTES_PER_S_MIN", 1000)
    done = threading.Event()

    def drip(block: bytes) -> Iterator[bytes]:
        yield HEAD + b"\r\n[ "
        for _ in range(20):
            if done.wait(0.05):
                return
            yield block
        yield b"]"

    with saying(lambda target: drip(b" " * 100) if "_contains" in target else small(target)) as url:
        began = time.monotonic()
        Fetcher(url).read()
        assert time.monotonic() - began > 3 * 0.3, "it took longer than the limit for an answer that does not come"
    with saying(lambda target: drip(b" ")) as url:
        with pytest.raises(InventoryDown, match=r"get_entities: not complete after 0 s and \d+ bytes"):
            Fetcher(url).read()
        done.set()


def test_a_head_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte would have begun requests' own time limit anew."""
    monkeypatch.setattr(asking, "FIRST_S", 0.3)
    monkeypatch.setattr(fetch, "FIRST_S", 0.3)
    done = threading.Event()

    def drip(_target: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nX: "
        while not done.wait(0.05):
            yield b"x"

    with saying(drip) as url:
        with pytest.raises(InventoryDown, match="get_entities: not complete after 0 s"):
            Fetcher(url).read()
        done.set()


def again(head: bytes, nothing: bytes) -> Callable[[str], Iterator[bytes]]:
    def say(_target: str) -> Iterator[bytes]:
        yield head
        while True:
            yield nothing

    return say


CHUNKED, GZIP, DEFLATE = (HEAD + line + b"\r\n\r\n" for line in (
    b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Content-Encoding: deflate"
))  # fmt: skip
NOTHING = [
    pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0, id="interim-answers"),
    pytest.param(HEAD, b"X: " + b"x" * 8000 + b"\r\n", 0, id="head"),
    pytest.param(GZIP, gzip.compress(b"") * 300, 0, id="members-of-gzip"),
    pytest.param(DEFLATE + b"\x78\x9c", b"\x00\x00\x00\xff\xff" * 1500, 0, id="blocks-of-deflate"),
    pytest.param(CHUNKED, b"1;" + b"x" * 8000 + b"\r\n \r\n", 100, id="names-of-chunks"),
    pytest.param(CHUNKED + b"2\r\n[]\r\n0\r\n", b"X: " + b"x" * 8000 + b"\r\n", 2, id="trailers"),
]


@pytest.mark.parametrize("head, nothing, body_max", NOTHING)
def test_an_answer_that_goes_on_without_growing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, head: bytes, nothing: bytes, body_max: int
) -> None:
    """It would hold the planner for ever, and keep who watches it content."""
    monkeypatch.setattr(answers, "WIRE_BYTES_MARGIN", 1 << 17)
    with saying(again(head, nothing)) as url, pytest.raises(InventoryDown) as told:
        Fetcher(url).read()
    found = re.search(r"get_entities: (\d+) bytes came and (\d+) of them are its body", str(told.value))
    if found is None:
        assert "more than 100 headers" in str(told.value), "http.client's own limit"
    else:
        assert int(found[1]) < (1 << 18) and int(found[2]) <= body_max


@pytest.mark.parametrize("head, nothing, body_max", NOTHING)
def test_what_is_no_body_wins_no_time(
    monkeypatch: pytest.MonkeyPatch, head: bytes, nothing: bytes, body_max: int
) -> None:
    monkeypatch.setattr(asking, "FIRST_S", 0.2)
    monkeypatch.setattr(answers, "SILENCE_S", 0.2)
    monkeypatch.setattr(answers, "TELL_EVERY_S", 0.02)
    done = threading.Event()
    told: list[int] = []

    def drip(_target: str) -> Iterator[bytes]:
        yield head
        while not done.wait(0.05):
            yield nothing

    with saying(drip) as url:
        fetcher = Fetcher(url, None, lambda stage, count, _total: told.append(count) if stage == "bytes" else None)
        with pytest.raises(InventoryDown, match=r"(not complete after|silent for) 0 s (and|after) \d+ bytes"):
            fetcher.read()
        done.set()
    assert told and max(told) <= body_max, "progress is what came of the body"


def test_chunks_of_a_byte_are_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may write as its JSON encoder speaks."""
    monkeypatch.setattr(answers, "WIRE_BYTES_MARGIN", 1 << 17)

    def by_letter(text: str) -> Iterator[bytes]:
        yield CHUNKED + b"".join(b"1\r\n%c\r\n" % letter for letter in text.encode()) + b"0\r\n\r\n"

    names = json.dumps([f"/server/h{number}" for number in range(3_000)])
    with saying(lambda _target: by_letter(names)) as url:
        assert len(asking.Asker(url).entities()) == 3_000


def test_silence_in_the_middle_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SILENCE_S", 0.2)
    done = threading.Event()

    def stop(_target: str) -> Iterator[bytes]:
        yield HEAD + b"\r\n["
        done.wait(30)

    with saying(stop) as url:
        with pytest.raises(InventoryDown, match=r"get_entities: silent for 0 s after \d+ bytes"):
            Fetcher(url).read()
        done.set()


def test_who_watches_hears_of_every_long_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nothing has come: that the daemon is waited for is said by who waits."""
    monkeypatch.setattr(answers, "SLICE_S", 0.01)
    monkeypatch.setattr(answers, "TELL_EVERY_S", 0.05)
    pause = threading.Event()
    told: list[tuple[str, int, int]] = []

    def slow() -> Iterator[bytes]:
        pause.wait(0.3)
        yield HEAD + b"\r\n"
        for _ in range(5):
            pause.wait(0.1)
            yield b" " * 100_000
        yield from next(small("prefetch_attrs")).split(b"\r\n\r\n")[1:]

    with saying(bulk(slow)) as url:
        for batch in Fetcher(url, None, lambda *step: told.append(step)).read().batches:
            assert list(batch.things())
    counts = [done for stage, done, total in told if stage == "bytes" and total == 0]
    counts = counts[counts.index(0) :]  # of the slow one; short answers came before it
    assert counts.count(0) >= 2 and len({count for count in counts if count}) >= 3 and counts == sorted(counts)


# --- encodings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "deflate", "identity", ""])
def test_what_a_proxy_may_pack_is_unpacked(encoding: str) -> None:
    text = b"[" + b",".join(b'"/server/%d"' % number for number in range(10_000)) + b"]"
    pack = {"deflate": zlib.compress, "identity": bytes, "": bytes}.get(encoding, gzip.compress)
    unpacking = Unpacking(encoding, 1 << 20)
    packed = pack(text)
    for at in range(0, len(packed), 999):
        unpacking.add(packed[at : at + 999])
    assert unpacking.done() == text


def test_gzip_may_have_several_members() -> None:
    unpacking = Unpacking("gzip", 100)
    unpacking.add(gzip.compress(b"[1,") + gzip.compress(b"2]"))
    assert unpacking.done() == b"[1,2]"


@pytest.mark.parametrize(
    "encoding, packed, said",
    [
        pytest.param("br", b"x", "Content-Encoding 'br'; wanted gzip, deflate or none", id="another"),
        pytest.param("gzip", b"hello there", "no gzip: ", id="none"),
        pytest.param("gzip", gzip.compress(b"[1]" * 999)[:20], "cut off in the middle of gzip", id="cut-off"),
    ],
)
def test_what_cannot_be_unpacked_is_named(encoding: str, packed: bytes, said: str) -> None:
    with pytest.raises(AnswerSpoiled, match=said):
        unpacking = Unpacking(encoding, 1 << 20)
        unpacking.add(packed)
        unpacking.done()


# --- member by member ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"contents": [], "object": "/pool/p"}',
        '{}',
        ' {"attrs" : [1, {"contents": 5}], "contents" : [ {"/server/a": {"attrs": []}} , {"/s/b":{"attrs":[]}} ] }\n',
        '{"contents": [{"/s/\\u00e9": {"attrs": [{"key":"a","subkey":null,"number":1,"value":[1],"datatype":"x"}]}}]}',
    ],
)  # fmt: skip
def test_the_same_things_as_of_the_whole_document(text: str) -> None:
    assert list(scan_members(text.encode(), "w")) == list(parse_members(json.loads(text), "w"))


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"contents": [}', '{"contents": [],}', '{"contents": [{"/a/b": {"attrs": []}},]}', '{"a" 1}', "{1: 2}",
     '{"contents": []} x', '{"contents": [] "a": 1}', '{"contents": [{"/a/b": {"attrs": []}} {}]}', "nul",
     '{"contents"'],
)  # fmt: skip
def test_no_json_is_none_here_either(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    with pytest.raises(json.JSONDecodeError):
        list(scan_members(text.encode(), "w"))


@pytest.mark.parametrize(
    "text", ["[]", "null", "5", '"x"', '{"contents": 5}', '{"contents": [5]}', '{"contents": [{"/s/a": []}]}',
             '{"contents": [{"/s/a": {"attrs": [' + '{"key":[],"subkey":1}' + "]}}]}",
             '{"contents": [{"/s/a": {"attrs": [[' + "[" * 200 + "]" * 200 + "]]}}]}"],
)  # fmt: skip
def test_wrong_shapes_are_named(text: str) -> None:
    with pytest.raises(InventoryMalformed, match=r"^pool p") as told:
        list(scan_members(text.encode(), "pool p"))
    assert len(str(told.value)) < 200


def test_a_part_that_is_cut_off_gives_each_member_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before the cut comes again; nobody is lost."""
    cut = iter([True, False, True, True])

    def once() -> Iterator[bytes]:
        whole = next(small("prefetch_attrs"))
        text = whole.partition(b"\r\n\r\n")[2]
        return body(text[:60].decode()) if next(cut) else iter([whole])

    with saying(bulk(once)) as url:
        assert list(dict.fromkeys(members_of(url))) == ["h0", "h1", "h2"]
        with pytest.raises(PartLost, match="no JSON"):
            members_of(url)
