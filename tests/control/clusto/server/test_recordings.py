"""Differential: the original's 251 recorded answers against ours, over real HTTP, in their order, on both databases."""

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from control.clusto.server.differences import DIFFERENCES
from control.clusto.server.store import Store
from tests.control.clusto.support import RECORDINGS

COUNT = 251
# The original leaves these orders to the database (the recordings' README).
ORDER_FREE = {*range(98, 108), 110, 111, 112, 128, 129, 130, 207, 208, 210, 213, 250}
DELIBERATE = {number for difference in DIFFERENCES for number in difference.recordings}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    media_type: str
    body: str
    location: str

    def content(self, number: int) -> Any:
        if self.media_type != "application/json":
            return self.text()
        document = json.loads(self.body)
        return unordered(document) if number in ORDER_FREE else document

    def text(self) -> Any:
        """A traceback counts by its last line, JSONP by its callback and JSON."""
        if self.media_type == "text/javascript":
            callback, _, rest = self.body.partition("(")
            return callback, json.loads(rest.rstrip(")"))
        if self.media_type == "text/plain":
            return self.body.splitlines()[-1]
        return self.body


def unordered(document: Any) -> Any:
    if isinstance(document, dict) and "ports" in document:
        return {**document, "ports": sorted(document["ports"], key=lambda port: (port["type"], port["num"]))}
    if isinstance(document, list):
        return sorted(document, key=json.dumps)
    return document


def recorded(recording: dict[str, Any]) -> Answer:
    response = recording["response"]
    location = dict(response["headers"]).get("Location", "")
    return Answer(
        response["status"], response["content_type"].partition(";")[0], response["body"], urlsplit(location).path
    )


def asked(connection: http.client.HTTPConnection, request: dict[str, Any]) -> Answer:
    body = request["body"]
    connection.request(
        request["method"], request["target"], None if body is None else body.encode(), headers=request["headers"]
    )
    response = connection.getresponse()
    return Answer(
        response.status,
        response.getheader("Content-Type", "").partition(";")[0],
        response.read().decode(),
        urlsplit(response.getheader("Location", "")).path,
    )


def faults(number: int, theirs: Answer, ours: Answer) -> list[str]:
    found = [
        f"{number:03}: {what} {got!r}, recorded {wanted!r}"
        for what, got, wanted in (
            ("status", ours.status, theirs.status),
            ("media type", ours.media_type, theirs.media_type),
            ("location", ours.location, theirs.location),
        )
        if got != wanted
    ]
    if not found and ours.content(number) != theirs.content(number):
        found.append(f"{number:03}: body {ours.body[:600]!r}, recorded {theirs.body[:600]!r}")
    return found


def test_every_recording(fixture_url: str, store: Store) -> None:
    database = store.engine.dialect.name
    paths = sorted(RECORDINGS.glob("[0-9][0-9][0-9]-*.json"))
    assert len(paths) == COUNT
    connection = http.client.HTTPConnection(urlsplit(fixture_url).netloc, timeout=10)
    same, different = 0, {}
    for path in paths:
        recording = json.loads(path.read_text(encoding="utf-8"))
        number = recording["id"]
        ours = asked(connection, recording["request"])
        if found := faults(number, recorded(recording), ours):
            different[number] = found
        else:
            same += 1
    deliberate = DELIBERATE & different.keys()
    unwanted = [fault for number, found in different.items() if number not in DELIBERATE for fault in found]
    counts = f"same {same} / deliberate {len(deliberate)} / different {len(different) - len(deliberate)}"
    print(f"\n{counts} ({database})")
    assert unwanted == []
    assert deliberate == DELIBERATE, "a listed difference that is none"


def test_what_the_non_ascii_difference_changes(fixture_url: str) -> None:
    """183 differs from its recording only by the value that 182 stored, and 184 takes it away."""
    connection = http.client.HTTPConnection(urlsplit(fixture_url).netloc, timeout=10)
    by_number = {}
    for path in sorted(RECORDINGS.glob("[0-9][0-9][0-9]-*.json"))[:184]:
        recording = json.loads(path.read_text(encoding="utf-8"))
        by_number[recording["id"]] = recorded(recording), asked(connection, recording["request"])
    ours = json.loads(by_number[183][1].body)
    stored = [attr for attr in ours["attrs"] if attr["key"] == "test2"]
    assert [attr["value"] for attr in stored] == ["café"]
    ours["attrs"] = [attr for attr in ours["attrs"] if attr["key"] != "test2"]
    assert ours == json.loads(by_number[183][0].body)
