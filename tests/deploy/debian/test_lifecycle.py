"""`make test-deb`: the package in a clean Debian: installed, started, upgraded under load, removed, purged.

The tests are one story, in their order; the figures are printed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lab.lab import Host, Lab, Process
from bench.lab.site import many_hosts, send_signal
from tests.deploy.debian.newer import build_text, built, newer
from tests.deploy.debian.rootfs import Debian, Listing, changes, listing
from tests.netns.under_load.test_faults import FIRST_ADDRESS, HOSTS, NETWORK, RELAY, SERVER, Load

pytestmark = [pytest.mark.deb, pytest.mark.timeout(1800)]

RATE = 2000
TAIL_S = 30.0  # on a busy machine the last answers may be late; it ends when all are there
STEP_S = 120.0
UNIT = "lib/systemd/system/bootstorm.service"
USERS = ("passwd", "group", "shadow", "gshadow")  # files that have them
NEXT, LAST = "0.1.1", "0.1.2"
SYSTEMCTL = """\
#!/bin/sh
echo "$*" >>/tmp/systemctl
case "$*" in
"kill --kill-whom=main --signal=USR2 bootstorm.service") kill -USR2 "$(cat /var/lib/bootstorm/lock)" ;;
esac
"""


class Story:
    """A machine with the package, a relay that asks it, and what was there before."""

    def __init__(self, debian: Debian, client: Host, deb: Path, folder: Path) -> None:
        self.debian, self.client, self.deb, self.folder = debian, client, deb, folder
        self.before: Listing = listing(debian.root)
        self.manager: Process | None = None
        self.figures: list[str] = []

    def log(self) -> str:
        assert self.manager is not None, "it was not started"
        return self.manager.log()

    def tell(self, figure: str) -> None:
        self.figures.append(figure)

    def until(self, good: Callable[[], bool], what: str) -> None:
        """Polls /proc, the log and the status, which have no events to wait for; bounded."""
        deadline = time.monotonic() + STEP_S
        while not good():
            assert time.monotonic() < deadline, f"not within {STEP_S:.0f} s: {what}; it said:\n{self.log()[-6000:]}"
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        said = self.debian.run("bootstorm", "ctl", "status", "--json", check=False)
        return dict(json.loads(said.stdout)) if said.stdout else {}

    def pids(self, kind: str) -> list[int]:
        """As we see them: worker (and spare), run, try, supervise."""
        network = Path(f"/proc/{self.debian.host.pid}/ns/net").stat().st_ino
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                if words[-2:-1] == [kind] and (folder / "ns/net").stat().st_ino == network:
                    found.append(int(folder.name))
            except OSError:  # it ended meanwhile
                continue
        return sorted(found)

    def await_build(self, name: str, before: list[int]) -> None:
        """Every process is of it."""
        self.until(lambda: not set(before) & {*self.pids("worker"), *self.pids("run")}, f"nobody is of before {name}")
        self.until(lambda: len(self.pids("worker")) == 3, "2 workers and a spare")
        self.until(lambda: self.status().get("supervisor_build") == name, f"the supervisor is {name}")

    def everybody(self) -> list[int]:
        return [*self.pids("worker"), *self.pids("run")]


class Asked:
    """Requests all the while; every one is answered, and rightly."""

    def __init__(self, story: Story, what: str) -> None:
        self.story, self.what = story, what

    def __enter__(self) -> None:
        self.load = Load(self.story.client, 1_000_000, RATE, TAIL_S)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        figures = self.load.end()
        late = figures["late_ms"]["p100"]
        sent, lost = figures["sent"], figures["unanswered"]
        self.story.tell(f"{self.what}: {sent} requests, {lost} unanswered, longest wait {late} ms")
        if kind is None:
            assert figures["unanswered"] == 0 and figures["wrong"] == 0, (figures, self.story.log()[-6000:])
            assert figures["sent"] >= RATE, "the load ran"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    deb = built()
    if deb is None:
        pytest.skip("build/deb has no package: run make deb")
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("wants root (dpkg gives files to their owners), and debootstrap")
    if reason := Lab.available():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("debs")
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/16", b_addr=f"{RELAY}/16")
        made = Story(Debian(server, server.scratch / "debian"), client, deb, folder)
        yield made
        print("\n" + "\n".join(made.figures))


def name_of(story: Story) -> str:
    """Version and build of what is installed, as people read them."""
    version, build = build_text(story.debian.root).read_text().split()
    return f"{version}, build {build}"


def test_it_is_installed_and_starts_nothing(story: Story) -> None:
    started = time.monotonic()
    said = story.debian.dpkg("-i", story.debian.put(story.deb))
    story.tell(f"installed in {time.monotonic() - started:.1f} s, {story.deb.stat().st_size / 1e6:.1f} MB")
    assert story.debian.run("bootstorm", "--version").stdout == f"bootstorm {name_of(story)}\n", said
    assert not story.pids("supervise")
    new = changes(story.before, listing(story.debian.root))
    assert {line for line in new if line[0] != "+"} == {f"~ etc/{name}" for name in USERS}, new
    assert {line[2:].split("/")[0] for line in new} == {"etc", "opt", "usr", "var"}, new
    users = story.debian.run("getent", "passwd", "bootstorm", "bootstorm-board", "bootstorm-inventory").stdout
    assert users.count("nologin") == 3
    for path in ("usr/share/man/man1/bootstorm-serve.1.gz", "usr/share/man/man5/services.conf.5.gz", UNIT):
        assert (story.debian.root / path).exists(), path
    code = "import sys, ext.pump, control.service.service, control.board; print(sys.prefix)"
    assert story.debian.run("/opt/bootstorm/bin/python3", "-c", code).stdout == "/opt/bootstorm\n"


def test_no_file_names_the_place_of_the_build(story: Story) -> None:
    place = str(story.deb.parent).encode()
    found = [
        str(path.relative_to(story.debian.root))
        for path in (story.debian.root / "opt/bootstorm").rglob("*")
        if path.is_file() and not path.is_symlink() and place in path.read_bytes()
    ]
    assert found == []


def test_it_is_started_by_the_container_s_command(story: Story) -> None:
    clusto = story.debian.root / "etc/clusto"
    clusto.mkdir(exist_ok=True)
    first = (10 << 24) + (88 << 16) + (1 << 8)
    assert FIRST_ADDRESS == "10.88.1.0"
    (clusto / "hosts.yaml").write_text(many_hosts(HOSTS, NETWORK, first, 0x020000000000))
    dhcp = {"api_url": "file:///etc/clusto/hosts.yaml", "workers": 2, "interfaces": ["sv"]}
    (clusto / "services.conf").write_text(json.dumps({"dhcp": dhcp}))
    started = time.monotonic()
    story.manager = story.debian.start()
    story.manager.wait_for("^manager: says READY=1", STEP_S)
    story.tell(f"ready {time.monotonic() - started:.1f} s after its start")
    for pid in story.everybody():
        status = Path(f"/proc/{pid}/status").read_text()
        assert not re.search(r"^Uid:\s+0\b", status, re.MULTILINE), "never root"
    with Asked(story, "started"):
        time.sleep(1.5)


def test_it_is_upgraded_under_load_while_workers_are_killed(story: Story) -> None:
    """Between unpacking and configuration: the second takes the last spare of the old build with it."""
    deb = story.debian.put(newer(story.deb, story.folder, NEXT, "1" * 12))
    before = story.everybody()
    with Asked(story, "upgraded, 2 workers killed between unpack and configure"):
        started = time.monotonic()
        story.debian.dpkg("--unpack", deb)
        unpacked = time.monotonic()
        for _ in range(2):
            workers = story.pids("worker")
            send_signal(workers[:1])
            story.until(lambda gone=workers[0]: gone not in story.pids("worker"), "it is gone")  # type: ignore[misc]
            story.until(lambda: len(story.pids("worker")) == 3, "2 workers and a spare")
        story.debian.dpkg("--configure", "bootstorm")
        story.tell(f"unpacked in {unpacked - started:.1f} s, configured {time.monotonic() - unpacked:.1f} s later")
        story.await_build(f"{NEXT}, build {'1' * 12}", before)
    assert "is not that of this service" in story.log(), "a spare of the new build was there, and was not used"


def test_half_an_environment_is_refused_and_the_whole_one_taken(story: Story) -> None:
    """dpkg was killed in the midst: modules are missing, one is cut.  Nothing of it serves; the old one goes on."""
    deb = story.debian.put(newer(story.deb, story.folder, LAST, "2" * 12))
    before, mark = story.everybody(), len(story.log())
    supervisor = story.pids("supervise")
    packages = build_text(story.debian.root).parents[1]
    with Asked(story, "half an environment, a worker killed, then the whole one"):
        story.debian.dpkg("--unpack", deb)
        modules = sorted((packages / "control").rglob("*.py")) + sorted((packages / "fastpath").rglob("*.py"))
        for module in modules[::2]:
            module.unlink()
        (packages / "fastpath/worker.py").write_text("def half(of: an: edit\n")
        send_signal(story.pids("supervise"), signal.SIGUSR2)
        story.until(lambda: "not upgraded" in story.log()[mark:], "the log says why")
        send_signal(story.pids("worker")[:1])
        story.until(lambda: "replaced" in story.log()[mark:], "a worker has ended")
        ran = story.debian.run("bootstorm", "ctl", "status", check=False)
        assert ran.returncode != 0 and "half installed" in ran.stderr + ran.stdout, ran
        story.debian.dpkg("-i", deb)
        story.await_build(f"{LAST}, build {'2' * 12}", before)
    assert story.pids("supervise") == supervisor, "it was never started anew"


def test_etc_may_be_read_only(story: Story) -> None:
    """The package is installed again, and the service starts and is asked, where nothing can be written below /etc."""
    etc = str(story.debian.root / "etc")
    mount = story.debian.host.run
    mount(["mount", "--bind", etc, etc])
    mount(["mount", "-o", "remount,bind,ro", etc])
    try:
        before = story.everybody()
        with Asked(story, "installed again on a read-only /etc"):
            said = story.debian.dpkg("-i", f"/tmp/bootstorm_{LAST}-1.deb")
            story.await_build(f"{LAST}, build {'2' * 12}", before)
        assert f"the running service is {LAST}, build" in said
        ran = story.debian.run("bootstorm", "init", "/etc", check=False)
        assert ran.returncode == 1 and "/etc/hosts.yaml: Read-only file system; wanted a folder" in ran.stderr, ran
        assert story.manager is not None
        story.manager.send_signal(signal.SIGTERM)
        assert story.manager.wait(STEP_S) == 0
        story.manager = story.debian.start()
        story.manager.wait_for("^manager: says READY=1", STEP_S)
    finally:
        mount(["umount", etc])


def test_systemd_is_asked_where_it_is_there(story: Story) -> None:
    """A stand-in for systemctl, which only sends the signal: the unit's main process is upgraded by its name."""
    systemctl = story.debian.root / "usr/bin/systemctl"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    story.debian.run("mkdir", "-p", "/run/systemd/system")
    before = story.everybody()
    story.debian.dpkg("-i", f"/tmp/bootstorm_{LAST}-1.deb")
    story.await_build(f"{LAST}, build {'2' * 12}", before)
    asked = (story.debian.root / "tmp/systemctl").read_text().splitlines()
    assert "--system daemon-reload" in asked and not [line for line in asked if line.startswith(("stop", "restart"))]
    assert asked.index("--system daemon-reload") < asked.index("kill --kill-whom=main --signal=USR2 bootstorm.service")
    systemctl.unlink()
    shutil.rmtree(story.debian.root / "run/systemd")


def test_it_is_removed_and_its_state_stays(story: Story) -> None:
    story.debian.dpkg("-r", "bootstorm")
    assert story.manager is not None
    assert story.manager.wait(STEP_S) == 0, "it was asked to stop"
    assert not story.everybody()
    shutil.rmtree(story.debian.root / "etc/clusto")  # the site's
    new = changes(story.before, listing(story.debian.root))
    story.tell(f"left after the removal: {', '.join(line[2:] for line in new)}")
    assert (story.debian.root / "var/lib/bootstorm/table.base").exists()
    kept_by_tools = ("+ var/lib/dpkg/info/bootstorm.", "+ var/lib/systemd/deb-systemd-helper-enabled/bootstorm")
    others = {line for line in new if not line.startswith(kept_by_tools)}
    assert others == {"+ var/lib/bootstorm", *(f"~ etc/{name}" for name in USERS)}


def test_it_is_purged_and_nothing_stays(story: Story) -> None:
    story.debian.dpkg("-P", "bootstorm")
    left = changes(story.before, listing(story.debian.root))
    story.tell(f"left after the purge: {', '.join(left) or 'nothing'}")
    assert left == []


def test_the_machine_s_own_files_are_as_they_were(story: Story) -> None:
    """Everything above happened in there."""
    asked = ["dpkg-query", "-W", "-f", "${db:Status-Status}", "bootstorm"]
    assert subprocess.run(asked, capture_output=True, text=True, check=False).stdout in ("", "not-installed")
