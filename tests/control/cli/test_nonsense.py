"""Every command with nonsense: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from control.cli.command_line import main
from control.cli.ctl_commands import ctl
from tests.control.cli.test_ctl import abandoned

ARGUMENTS = {
    "lookup": ["x"], "explain": ["00"], "adopt": ["x"], "ignore": ["x"], "unignore": ["x"], "health": ["--wait", "0"],
}  # fmt: skip
NOT_UTF8 = os.fsdecode(b"h\xffsts")
# {} is a folder in which `made` has put what it says.
WORDS: list[list[str]] = [
    ["nonsense"], ["--nonsense"], ["ctl"], ["inventory", "nonsense"],
    ["init", "{}/nowhere"], ["init", "{}/binary"], ["init", "{}", "--interface", "nosuch0"], ["init", NOT_UTF8],
    ["init", "/proc"], ["init", "{}/taken"], ["serve", "--try", "-c", "{}/binary"], ["serve", "--try", "-c", NOT_UTF8],
    *(
        ["check", *more, "-c", path]
        for more in ([], ["--file-only"])
        for path in ("{}", "{}/nowhere", "{}/binary", "{}/faulty.conf", "{}/pipe", "/dev/zero", NOT_UTF8, "")
    ),
    ["check", "-c", "{}/gone.conf"], ["check", "-c", "{}/folder.conf"],
    ["explain", "nonsense"], ["explain", "{}"], ["explain", "{}/binary"], ["explain", "{}/empty"],
    ["explain", NOT_UTF8], ["explain", ""], ["explain", "02:00:00:00:00:01", "-c", "{}/binary"],
    ["explain", "02:00:00:00:00:01", "--hosts", "{}/binary"],
    ["explain", "02:00:00:00:00:01", "--hosts", "{}"], ["explain", "00", "--interface", "nonsense"],
    ["explain", "00", "--hosts", "{}/hosts.yaml", "--interface", "10.0.0.1/99"],
    ["lint", "{}"], ["lint", "{}/binary"], ["lint", "{}/nowhere"], ["lint", "{}/pipe"], ["lint", "/dev/zero"],
    ["lint", "http://127.0.0.1:1"], ["lint", "http://["], ["lint", "ftp://x"], ["lint", "file:///"], ["lint", ""],
    ["lint", "file://{}/nowhere.yaml"], ["lint", "file://{}"], ["lint", NOT_UTF8], ["lint", "http://\N{BOMB}"],
    ["lint", "{}/hosts.yaml", "-c", "{}/binary"], ["lint", "-c", "{}/gone.conf"], ["lint", "-c", "{}/folder.conf"],
    *(
        ["inventory", "--dsn", dsn, *command]
        for dsn in ("bogus", "", "sqlite:////nosuch/x.db", "sqlite:///{}", "sqlite:///{}/binary", "://", "nosuch://h/x",
                    "postgresql://u:p@127.0.0.1:1/x", "mysql://127.0.0.1:1/x")
        for command in (["load", "{}/hosts.yaml"], ["dump", "{}/dump.yaml"])
    ),
    *(
        ["inventory", "--dsn", "sqlite:///{}/x.db", "load", path]
        for path in ("{}", "{}/binary", "{}/nowhere", "{}/faulty.conf", "{}/binary.csv")
    ),
    ["inventory", "--dsn", "sqlite:///{}/x.db", "dump", "{}"],
    ["inventory", "--dsn", "sqlite:///{}/x.db", "dump", "{}/nowhere/x"],
    ["inventory", "--dsn", "sqlite:///{}/x.db", "dump", "/dev/full"],
    *(
        ["ctl", name, *ARGUMENTS.get(name, []), "--socket", path]
        for name in sorted(ctl.commands)
        for path in ("{}/nowhere", "{}", "{}/binary", "{}/abandoned")
    ),
    ["ctl", "status", "--socket", "{}/" + "x" * 200], ["ctl", "status", "--socket", NOT_UTF8],
    ["ctl", "explain", "{}/binary", "--socket", "{}/nowhere"], ["ctl", "explain", "{}", "--socket", "{}/nowhere"],
    ["ctl", "explain", NOT_UTF8, "--socket", "{}/nowhere"],
    ["ctl", "status", "-c", "{}/binary"], ["ctl", "status", "-c", "{}"], ["ctl", "status", "--wait", "-1"],
    ["ctl", "lookup", NOT_UTF8, "--socket", "{}/nowhere"], ["ctl", "recent", "--most", "9" * 40],
    ["ctl", "recent", "--last", "9" * 40], ["ctl", "recent", "--pcap", "{}"], ["ctl", "events", "--since", "9" * 40],
    ["ctl", "health", "--max-age", "nan", "--socket", "{}/nowhere", "--wait", "0"],
    ["ctl", "recent", "--pcap", "{}/nowhere/x", "--socket", "{}/nowhere"],
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nonsense")
    (folder / "binary").write_bytes(bytes(range(256)) * 8)
    (folder / "binary.csv").write_bytes(bytes(range(256)) * 8)
    (folder / "empty").touch()
    (folder / "faulty.conf").write_text('{"dhcp": {"port": 0}, "nonsense": [')
    (folder / "gone.conf").write_text('{"dhcp": {"api_url": "file:///nosuch/hosts.yaml"}}')
    (folder / "folder.conf").write_text(f'{{"dhcp": {{"api_url": "file://{folder}"}}}}')
    (folder / "hosts.yaml").write_text("networks: [{base: 10.1.0.0, mask: 255.255.255.0}]\n")
    os.mkfifo(folder / "pipe")
    (folder / "taken").mkdir()
    (folder / "taken" / "services.conf").write_text("{}")
    abandoned(folder / "abandoned")
    return folder


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words).encode("ascii", "replace").decode()[:70])
def test_nonsense_is_answered_by_a_sentence(words: Sequence[str], made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    ran = CliRunner().invoke(main, [word.replace("{}", str(made)) for word in words])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exc_info
    said = ran.stderr.strip() or ran.stdout.strip()  # what lint finds is its result
    assert ran.exit_code in (1, 2) and said and "Traceback" not in said, (ran.exit_code, ran.stdout)
    assert said.splitlines()[-1].isprintable()
    assert not (made / "dump.yaml").exists() and sorted(path.name for path in (made / "taken").iterdir()) == [
        "services.conf"
    ]


# What only a process of its own shows: descriptors that are closed, full or nobody's.
SHELL = [
    pytest.param("{} inventory --dsn bogus", 1, id="no-database"),
    pytest.param("{} inventory --dsn sqlite:///x.db --bind 192.0.2.1:0", 1, id="somebody-else's-address"),
    pytest.param("{} serve -c {hosts}", 2, id="no-configuration"),
    pytest.param("{} --help | head -1", 0, id="head-of-the-help"),
    pytest.param("{} lint {hosts} --json | true", 0, id="nobody-reads-json"),
    pytest.param("{} lint {hosts} --json >&- 2>&-", 0, id="both-closed"),
    pytest.param("{} lint {hosts} <&-", 0, id="stdin-closed"),
    pytest.param("{} lint {hosts} > /dev/full", 1, id="a-full-disk"),
    pytest.param("{} ctl --socket {hosts} status 2> /dev/full", 1, id="a-full-log"),
    pytest.param("mkdir gone && cd gone && rmdir ../gone && {} lint hosts.yaml", 2, id="its-folder-is-gone"),
    pytest.param("PYTHONIOENCODING=ascii {} lint {hosts}; PYTHONIOENCODING=ascii {} lint {umlaut}", 1, id="ascii"),
]


@pytest.mark.parametrize("line, code", SHELL)
def test_closed_and_full_descriptors(line: str, code: int, tmp_path: Path, made: Path) -> None:
    umlaut = tmp_path / "m\N{LATIN SMALL LETTER U WITH DIAERESIS}.yaml"
    umlaut.write_text("hosts: [{name: \N{LATIN SMALL LETTER U WITH DIAERESIS}, mac: x}]\n", encoding="utf-8")
    command = f"{sys.executable} -P -m control"
    script = line.replace("{}", command).replace("{hosts}", str(made / "hosts.yaml")).replace("{umlaut}", str(umlaut))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr


def test_a_socket_that_somebody_else_has(tmp_path: Path) -> None:
    """It takes the connection, and says what is no answer of ours."""
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        ran = CliRunner().invoke(main, ["ctl", "health", "--socket", str(path), "--wait", "0"])
    assert ran.exit_code == 2 and "timed out" in ran.stderr
