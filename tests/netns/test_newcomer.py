"""`make test-newcomer`: from a clone to a machine that has booted, by README's words alone.

What a site has anyway is there: the wire, a machine with the address of the example, and the boot files that the
example names, under TFTP on the server.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.lab.boot_files import BootFiles
from bench.lab.emulated import BIOS_IPXE, Machine, lacking
from bench.lab.lab import Lab
from tests.fences import ROOT, Fence, fences

pytestmark = [pytest.mark.netns, pytest.mark.newcomer, pytest.mark.timeout(3600)]

SETUP_S, PASTE_S, BOOT_S = 2400.0, 120.0, 300.0
MAC, ADDRESS, SERVER = "02:00:00:00:00:01", "10.20.0.11", "10.20.0.2"
# It says its words and switches the machine off.
PXELINUX = "DEFAULT run\nPROMPT 0\nSAY BOOTED by README\nLABEL run\n  COM32 reboot.c32\n"
NEEDED = ("pxelinux.0", "ldlinux.c32", "reboot.c32")


def readme(words: str) -> Fence:
    (found,) = [fence for fence in fences() if fence.file == "README.md" and words in fence.text]
    return found


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What was committed, set up by README's first command; `sudo` is there, as on a newcomer's machine."""
    folder = tmp_path / "bootstorm"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, folder], check=True)
    command = readme("make demo").first.partition("#")[0]
    environment = {name: said for name, said in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    started = time.monotonic()
    shell = ["sh", "-ec", command]
    ran = subprocess.run(
        shell, cwd=folder, env=environment, capture_output=True, text=True, timeout=SETUP_S, check=False
    )
    print(f"{command.strip()}: {time.monotonic() - started:.0f} s\n{ran.stdout}")
    assert ran.returncode == 0 and "stopped cleanly" in ran.stdout, ran.stdout[-4000:] + ran.stderr[-4000:]
    return folder


@pytest.fixture
def lab() -> Iterator[Lab]:
    for reason in (Lab.available(), lacking(BIOS_IPXE)):
        if reason:
            pytest.skip(reason)
    if Path("/etc/clusto/services.conf").exists():
        pytest.skip("this machine has a services.conf of its own, which commands without -c would find")
    with Lab() as made:
        yield made


def test_a_clone_a_block_and_a_machine_boots(lab: Lab, clone: Path) -> None:
    segment = lab.bridge()
    server = lab.host("server")
    segment.plug(server, "eth1", f"{SERVER}/24")
    server.run(["mount", "-t", "tmpfs", "none", "/var/lib"])
    tools = server.scratch / "tools"
    tools.mkdir()
    (tools / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (tools / "sudo").chmod(0o755)
    block = readme("bootstorm init")
    begin = f"cd {shlex.quote(str(clone))}; PATH={shlex.quote(str(tools))}:$PATH; export PATH"
    shell = server.popen(["sh", "-ec", f"{begin}\n{block.text}\necho pasted\nwait"])
    shell.wait_for("^pasted", PASTE_S)
    print(shell.log())
    with BootFiles(server, "eth1", SERVER, {"pxelinux.cfg/default": PXELINUX}) as files:
        files.needs(*NEEDED)
        machine = Machine(segment, MAC, BIOS_IPXE)
        try:
            took = machine.ends(BOOT_S)
            console = machine.console()
        finally:
            machine.close()
        files.await_tftp("pxelinux.0", ADDRESS)
    assert "BOOTED by README" in console, console
    print(f"the machine booted {took:.1f} s after its power was on")
    status = server.run(["sh", "-c", f"{begin}; .venv/bin/bootstorm ctl status"], timeout=30.0).stdout
    assert "ACKED" in status and "1 answered" in status, status
