"""`bench all`: its parts are commands that exist, and their records become lines beside the table."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.all import parts, summary
from bench.report import record


def test_every_part_is_a_command_with_these_options() -> None:
    for part in parts(0.01):
        command = main.commands[part.name]
        context = command.make_context(part.name, [*part.options, "--json", "a.json", "--picture", "a.svg"])
        assert context.params["file"] == Path("a.json") and context.params["picture"] == Path("a.svg")
    with pytest.raises(click.NoSuchOption):
        main.commands["core"].make_context("core", ["--no-such-option"])


def test_the_table_of_servers_is_the_last() -> None:
    assert [part.name for part in parts(1.0)][-1] == "peers"


def test_a_small_run_writes_record_and_picture_and_says_how_disturbed_it_was(tmp_path: Path) -> None:
    command = ["all", "--only", "core", "--scale", "0.01", "--results", str(tmp_path), "--pictures", str(tmp_path)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    made = record.read(tmp_path / "core.json")
    assert [point["hosts"] for point in made["points"]] == [1_000, 10_000]
    assert "<svg" in (tmp_path / "core.svg").read_text()
    assert done.stdout.splitlines()[:2] == summary(made)[:2]
    assert "of the generator's core" in summary(made)[0]


def test_a_part_that_fails_is_named_when_the_others_have_had_their_turn(tmp_path: Path) -> None:
    (tmp_path / "core.svg").mkdir()  # where the picture should be
    command = ["all", "--only", "core", "--scale", "0.01", "--results", str(tmp_path), "--pictures", str(tmp_path)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1 and "core ended with 1" in done.output


STORM = {
    "bench": "storm",
    "disturbance": {"disturbed": True, "stalled_s": 3.0, "wall_s": 10.0, "cores": {"0": {"stolen_s": 0.5}}},
    "best": {"up": 9, "hosts": 10, "last_ack_s": 12.34, "retransmissions_of_ours": 2},
}


def test_summary_of_a_storm() -> None:
    head, row = summary(STORM)
    assert head.endswith("the hypervisor 0.5 s of 10 s; DISTURBED")
    assert row.strip() == "9 of 10 hosts up, the last after 12.3 s, retransmissions of ours: 2"


def test_summary_of_curves() -> None:
    made = STORM | {"bench": "growth", "curves": {"relays": {"why": "no bend"}}}
    assert summary(made)[1].strip() == "relays: no bend"
