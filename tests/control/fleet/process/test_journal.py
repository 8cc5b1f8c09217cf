"""control/fleet/process/journal.py: in order, again until it is stored, told when it is, nothing after the lead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from control.fleet.process import jobs
from control.fleet.process import journal as journal_module
from control.fleet.process.engine import EngineFault
from control.fleet.process.journal import EngineJournal, mac_of, word_of

MAC = "00:11:22:33:44:55"


class Store:
    """What the journal needs of an engine."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.fault = ""
        self.requests = 0

    async def asked(self) -> None:
        await asyncio.sleep(0)
        self.requests += 1
        if self.fault:
            raise EngineFault(self.fault)

    async def keep_record(self, word: str, record: bytes) -> None:
        await self.asked()
        self.records[word] = record

    async def forget_record(self, word: str) -> None:
        await self.asked()
        self.records.pop(word, None)

    async def record_words(self) -> list[str]:
        await self.asked()
        return list(self.records)

    async def record(self, word: str) -> bytes:
        await self.asked()
        return self.records.get(word, b"")


class Scene:
    def __init__(self) -> None:
        self.store, self.sent, self.leads = Store(), list[Any](), True
        self.journal = EngineJournal(self.store, self.send, lambda: self.leads)  # type: ignore[arg-type]

    def send(self, message: Any) -> bool:
        self.sent.append(message)
        return True

    async def told(self, number: int) -> jobs.Told:
        self.journal.sync(number)
        async with asyncio.timeout(5):
            while not (found := [each for each in self.sent if isinstance(each, jobs.Told) and each.number == number]):
                await asyncio.sleep(0.001)
        return found[0]


def played(scenario: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        scene = Scene()
        task = asyncio.create_task(scene.journal.run())
        try:
            await scenario(scene)
        finally:
            task.cancel()

    asyncio.run(run())


def test_the_last_record_of_a_machine_stays_and_is_told_when_it_is_stored() -> None:
    async def scenario(scene: Scene) -> None:
        for number in range(50):
            scene.journal.keep(MAC, b"%d" % number)
            scene.journal.keep(f"02:00:00:00:00:{number:02x}", b"other")
        assert (await scene.told(1)).fault == ""
        assert scene.store.records[word_of(MAC)] == b"49" and len(scene.store.records) == 51
        scene.journal.keep(MAC, b"")
        await scene.told(2)
        assert word_of(MAC) not in scene.store.records

    played(scenario)


def test_it_is_tried_again_until_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "AGAIN_S", 0.001)

    async def scenario(scene: Scene) -> None:
        scene.store.fault = "no connection"
        scene.journal.keep(MAC, b"one")
        scene.journal.sync(1)
        while scene.store.requests < 3:
            await asyncio.sleep(0.001)
        assert not scene.sent and scene.journal.fault == "no connection"
        scene.store.fault = ""
        await scene.told(2)
        assert [each.number for each in scene.sent] == [1, 2]
        assert scene.store.records == {word_of(MAC): b"one"} and scene.journal.fault == ""

    played(scenario)


def test_who_does_not_lead_any_more_stores_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        scene.leads = False
        scene.journal.keep(MAC, b"one")
        assert "does not lead" in (await scene.told(1)).fault
        assert not scene.store.records and not scene.journal.queue

    played(scenario)


def test_who_takes_the_lead_reads_it_once_whole() -> None:
    async def scenario(scene: Scene) -> None:
        records = {word_of(f"02:00:00:00:01:{n:02x}"): b"r%d" % n for n in range(40)}
        scene.store.records = records | {"whatever": b"no machine's", word_of(MAC): b"x" * (1 << 20)}
        await scene.journal.recall()
        *some, last = scene.sent
        assert {word_of(each.mac): each.record for each in some} == records
        assert last == jobs.Recall(mac="", record=b"")
        scene.store.fault = "no connection"
        with pytest.raises(EngineFault):
            await scene.journal.recall()
        assert scene.journal.fault == "it cannot be read: no connection"

    played(scenario)


def test_what_finds_no_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "QUEUE_MAX", 1)

    async def scenario(scene: Scene) -> None:
        scene.journal.keep(MAC, b"x" * (1 << 20))
        scene.journal.keep(MAC, b"one")
        scene.journal.keep(MAC, b"two")
        assert scene.journal.lost == 2

    played(scenario)


def test_a_machine_s_word_is_its_mac() -> None:
    assert mac_of(word_of(MAC)) == MAC
    assert [mac_of(word) for word in ("", "00", "zz1122334455", "001122334455aa", "00112233445")] == [""] * 5
