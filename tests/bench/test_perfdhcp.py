"""The perfdhcp bench without perfdhcp: reads its report, ends its search where it should, has no figure for a liar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench import perfdhcp
from bench.lab.lab import LabError
from bench.lab.site import many_hosts
from bench.perfdhcp import Found, Report, Result, Trial, parse_report, remarks, search, table, write
from bench.report import machine

# perfdhcp 2.2.0, -g single -r 2000 -p 3, as it came; the machine was busy.
SAMPLE = """\
Running: perfdhcp -4 -l cl -g single -r 2000 -p 3 -R 10000 -b mac=02:00:00:00:00:00 -W 300000 10.96.0.1
Scenario: basic.
Single-thread mode enabled.
***Rate statistics***
Rate: 944.772 4-way exchanges/second, expected rate: 2000

***Malformed Packets***
Malformed packets: 0
***Statistics for: DISCOVER-OFFER***
sent packets: 5567
received packets: 4211
drops: 1356
drops ratio: 24.3578 %
orphans: 3
rejected leases: 0
non unique addresses: 0

min delay: 0.019 ms
avg delay: 78.105 ms
max delay: 871.506 ms
std deviation: 219.889 ms
collected packets: 504

***Statistics for: REQUEST-ACK***
sent packets: 4211
received packets: 3905
drops: 306
drops ratio: 7.267 %
orphans: 2
rejected leases: 0
non unique addresses: 0

min delay: 0.016 ms
avg delay: 1.873 ms
max delay: 170.897 ms
std deviation: 4.516 ms
collected packets: 33

Interrupted
"""


def trial(
    asked: int, most_sent: float = 1e9, most_answered: float = 1e9, cpu_each_s: float = 20e-6, **more: Any
) -> Trial:
    """A run of 5 s against a server that answers `most_answered` exchanges/s, by a perfdhcp that sends `most_sent`."""
    sent = round(5 * min(asked, most_sent))
    done = min(sent, round(5 * most_answered))
    report = Report(discovers=sent, offers=done, requests=done, acks=done, orphans=0, malformed=0, delay_ms=0.5)
    times = {"server_cpu_s": 2 * done * cpu_each_s, "perfdhcp_cpu_s": 5.0, "idle_s": (5.5 - 2 * done * cpu_each_s, 0.5)}
    return Trial(**({"asked": asked, "seconds": 5.0, "wall_s": 5.5, "report": report} | times | more))


def result(found: Found, name: str = "bootstorm", wrong: str = "") -> Result:
    return Result(name, found, {"hosts": 600, "answers": 1200}, 1 << 24, wrong)


def test_report() -> None:
    assert parse_report(SAMPLE) == Report(
        discovers=5567, offers=4211, requests=4211, acks=3905, orphans=5, malformed=0, delay_ms=1.873
    )


def test_report_without_delays() -> None:
    """It prints other words when it got no packet at all."""
    silent = SAMPLE.replace("avg delay: 1.873 ms", "Delay summary unavailable! No packets received.")
    assert parse_report(silent).delay_ms is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("perfdhcp: Failed to bind socket", id="an-error"),
        pytest.param(SAMPLE[: SAMPLE.index("***Statistics for: REQUEST-ACK")], id="cut-short"),
    ],
)
def test_report_that_is_none(text: str) -> None:
    with pytest.raises(LabError, match="it said"):
        parse_report(text)


def test_figures_of_a_trial() -> None:
    one = trial(1000, most_answered=800)
    assert (one.sent, one.answered) == (9000, 8000)
    assert one.loss == pytest.approx(1 / 9)
    assert one.replies_s == 1600
    assert one.replies_cpu_s == pytest.approx(50_000)
    assert one.others_s == pytest.approx((0.0, 0.0))
    assert not one.good and one.kept_up and not one.disturbed


def test_nothing_sent_is_all_lost() -> None:
    assert trial(0).loss == 1.0 and not trial(0).good


@pytest.mark.parametrize("most", [300, 2000, 2500, 7777, 15_999, 16_000, 31_000])
def test_search_finds_the_servers_limit(most: int) -> None:
    found = search(lambda rate: trial(rate, most_answered=most), steps_max=40)
    assert found.best is not None
    assert most * (1 - perfdhcp.PRECISION) - 1 <= found.best.asked <= most * 1.001


@pytest.mark.parametrize("most", [3000, 9000])
def test_search_ends_at_perfdhcps_limit(most: int) -> None:
    found = search(lambda rate: trial(rate, most_sent=most))
    assert found.best is not None and found.best.replies_s == 2 * most
    assert found.limit == "perfdhcp"
    assert len(found.trials) <= 5


def test_search_is_bounded() -> None:
    assert len(search(trial).trials) == perfdhcp.STEPS_MAX
    assert search(trial).limit == "steps"


def test_search_against_a_dead_server_ends_without_a_figure() -> None:
    found = search(lambda rate: trial(rate, most_answered=0), steps_max=100)
    assert found.best is None and len(found.trials) < 30


def test_one_failure_is_forgiven() -> None:
    seen: list[int] = []

    def measure(rate: int) -> Trial:
        seen.append(rate)
        return trial(rate, most_answered=1 if seen.count(4000) == 1 and rate == 4000 else 10_000)

    found = search(measure)
    assert seen[:4] == [2000, 4000, 4000, 8000]
    assert found.best is not None and found.best.asked > 9000


@pytest.mark.parametrize(
    "last, want",
    [
        pytest.param({"server_dropped": 7}, "server", id="its-queue-ran-over"),
        pytest.param({"server_cpu_s": 4.9}, "server", id="its-core-is-full"),
        pytest.param({"idle_s": (0.0, 0.0)}, "others", id="others-on-the-cores"),
        pytest.param({}, "perfdhcp", id="perfdhcp-is-slow"),
    ],
)
def test_who_was_the_limit(last: dict[str, Any], want: str) -> None:
    assert Found([trial(2000), trial(4000, most_sent=3000, **last)]).limit == want


def test_table_has_a_ratio() -> None:
    ours = result(search(lambda rate: trial(rate, most_sent=12_000, cpu_each_s=5e-6)))
    kea = result(search(lambda rate: trial(rate, most_answered=4000, cpu_each_s=40e-6)), "kea")
    rows = {line.split("  ")[0]: line.split() for line in table([ours, kea]).splitlines()}
    assert rows["replies/s (2 an exchange)"][-3:] == ["24,000", "8,000", "3.0"]
    assert rows["replies per CPU-second"][-3:] == ["200,000", "25,000", "8.0"]
    assert any("perfdhcp's own limit: asked for" in remark for remark in remarks([ours, kea]))


def test_a_wrong_answer_has_no_figure() -> None:
    found = search(lambda rate: trial(rate, most_answered=4000))
    wrong = result(found, wrong="1 wrong answer")
    assert "8,000" in table([result(found)]) and not any(figure in table([wrong]) for figure in ("8,000", "50,000"))
    assert "trials" not in wrong.record() and "best" not in wrong.record()


def test_disturbance_is_said() -> None:
    calm, busy = trial(2000), trial(2000, idle_s=(0.0, 0.5))
    assert not any("DISTURBED" in remark for remark in remarks([result(Found([calm]))]))
    assert any("DISTURBED: in 1 of 2 runs" in remark for remark in remarks([result(Found([calm, busy]))]))


def test_a_disturbed_run_shows_no_limit_of_perfdhcp() -> None:
    found = Found([trial(2000), trial(4000, most_sent=3000, idle_s=(0.0, 0.0))])
    assert remarks([result(found)])[0] == "perfdhcp's own limit: not seen in this run."


def test_record_is_json(tmp_path: Path) -> None:
    record = result(search(lambda rate: trial(rate, most_answered=4000))).record()
    target = write(tmp_path / "new" / "one.json", {"machine": machine.machine_record(), "ours": record})
    best = json.loads(target.read_text())["ours"]["best"]
    assert best["answered"] == best["offered"] == 40_000 and best["loss"] == 0


def test_bare_name_goes_to_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perfdhcp, "RESULTS", tmp_path)
    assert write(Path("one.json"), {}) == tmp_path / "one.json"


def test_command_counts_up_from_the_first_host() -> None:
    """The base that makes perfdhcp's counter without carry plain counting, and the hosts that the servers know."""
    stage = perfdhcp.Stage(None, None, (0, 1), 10_000, 2.5)  # type: ignore[arg-type]
    command = " ".join(stage.command(3000))
    assert "-r 3000 -p 2.5 -R 10000 -b mac=02:00:00:00:00:00" in command
    hosts = json.loads(many_hosts(10_000, "10.96.0.0/255.240.0.0/10.96.0.1", 0, perfdhcp.FIRST_MAC))["hosts"]
    assert (hosts[0]["mac"], hosts[-1]["mac"]) == ("02:00:00:00:00:00", "02:00:00:00:27:0f")


@pytest.mark.parametrize(
    "note, want",
    [
        pytest.param(b"GNU C17 12.2.0 -march=x86-64 -g -O3 -O3 -fPIC\0", "release", id="release"),
        pytest.param(b"GNU C17 12.2.0 -march=x86-64 -g -O3 -O1 -fPIC\0", "debug", id="debug"),
        pytest.param(b"GNU C17 12.2.0 -O3 -O1 -fsanitize=address\0", "asan", id="asan"),
        pytest.param(b"GNU C17 12.2.0 -g -O3 -O0\0", "trace", id="trace"),
        pytest.param(b"GNU C17 12.2.0 -O3\0GNU C17 12.2.0 -O0\0", "unknown", id="mixed"),
        pytest.param(b"clang version 14", "unknown", id="no-note"),
    ],
)
def test_build_mode_is_read_from_the_binary(note: bytes, want: str) -> None:
    assert machine.mode_of(b"\x7fELF\0" + note + b"\0more") == want


def test_commit_without_git_is_unknown(tmp_path: Path) -> None:
    assert machine.commit(tmp_path) == "unknown"


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perfdhcp, "which", lambda program: None)
    monkeypatch.setattr(perfdhcp.os, "geteuid", lambda: 0)
    done = CliRunner().invoke(perfdhcp.main, [])
    assert done.exit_code == 1
    assert done.output.strip() == "Error: perfdhcp is not installed (Debian package kea-admin)"
    monkeypatch.setattr(perfdhcp.os, "geteuid", lambda: 1000)
    assert "needs root" in CliRunner().invoke(perfdhcp.main, []).output
