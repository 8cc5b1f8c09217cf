"""`bootstorm fleet init`, and deploy/nats: what is written is whole, secret where it is one, and what check accepts."""

from __future__ import annotations

import json
import re
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from control.cli.command_line import main
from control.config.config import parse
from control.explain import named
from control.fleet.process.keyfiles import read_credentials, read_signing_key
from control.fleet.setup import permissions
from control.fleet.setup.permissions import Role
from tests.control.fleet.setup.examples import FOLDER, files
from tests.house import ROOT

ONE = ["--machine", "a", "--machine", "b", "--server", "nats.example.org"]
THREE = [*ONE, "--server", "nats2.example.org", "--server", "10.0.0.3", "--follower", "c", "--canary", "c"]


def init(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["fleet", "init", "-o", str(folder), "--etc", str(folder / "etc"), *words])


def section(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"machines/{name}/fleet.json").read_text())
    return found


def test_each_machine_has_what_its_section_names(tmp_path: Path) -> None:
    ran = init(tmp_path / "f", "--engine", "three", "--shard", "dc1", *THREE)
    assert ran.exit_code == 0, ran.output
    for name in "abc":
        place = tmp_path / f"f/machines/{name}"
        text = json.dumps(section(tmp_path / "f", name)).replace(str(tmp_path / "f/etc"), str(place))
        config = parse(text.encode(), Path("services.conf"))
        assert named.fleet(config, None) == []
        assert config.fleet.name == name and config.fleet.shard == "dc1" and config.fleet.canary == ("c",)
        assert config.fleet.servers[2] == "tls://10.0.0.3:4222"
        assert config.fleet.lead == (place / "fleet.key").exists() == (name != "c")
    assert section(tmp_path / "f", "a")["fleet"]["replicas"] == 3
    assert len({read_signing_key(tmp_path / f"f/machines/{name}/fleet.key").public for name in "ab"}) == 2


def test_secrets_are_their_owner_s_alone_and_on_no_screen(tmp_path: Path) -> None:
    servers = ["--server", "hub.example.org", "--server", "leaf.example.org"]
    ran = init(tmp_path / "f", "--engine", "hub-leaf", *ONE[:2], "--follower", "c", *servers)
    assert ran.exit_code == 0, ran.output
    paths = [path for path in (tmp_path / "f").rglob("*") if path.is_file()]
    secrets = [path for path in paths if path.suffix in (".key", ".secret")]
    secrets += (tmp_path / "f/engine").glob("*/nats-server.conf")
    assert len(secrets) == 8 and stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o700
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert not [line for line in path.read_text().splitlines() if len(line) > 30 and line in ran.output]
    urls = [
        found for path in secrets for found in re.findall(r"leaf-main:(\w{48})@hub.example.org:7422", path.read_text())
    ]
    assert len(urls) == 1 and urls[0] not in ran.output
    holders = {str(path.relative_to(tmp_path / "f/engine")) for path in paths if urls[0] in path.read_text()}
    assert holders == {"leaf.example.org/nats-server.conf", "hub.example.org/nats/accounts.conf"}
    leaf = section(tmp_path / "f", "c")["fleet"]
    assert leaf["servers"] == ["tls://leaf.example.org:4222"] and leaf["hub"] == "hub" and leaf["lead"] is False


def test_certificates_are_of_one_authority_and_name_their_node(tmp_path: Path) -> None:
    assert init(tmp_path / "f", *ONE).exit_code == 0
    node = tmp_path / "f/engine/nats.example.org/nats"
    context = ssl.create_default_context(cafile=str(tmp_path / "f/machines/a/fleet-ca.pem"))
    assert [each["subject"] for each in context.get_ca_certs()] == [((("commonName", "bootstorm fleet main"),),)]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(node / "server.pem", node / "server.key")
    for host, says in (("nats.example.org", ""), ("other.example.org", "Hostname mismatch")):
        assert says in shaken(context, server, host) and bool(says) == bool(shaken(context, server, host))


def shaken(context: ssl.SSLContext, server: ssl.SSLContext, host: str) -> str:
    """What a client says of a server's certificate, without a network; nothing where it is content."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=host)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return ""


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    ran = init(tmp_path / "f", *ONE)
    assert ran.exit_code == 1 and "there already, and left as it is" in ran.stderr
    ran = init(tmp_path / "no/f", *ONE)
    assert ran.exit_code == 1 and "nothing was written" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    "words, says",
    [
        (["--server", "n"], "--machine: found none"),
        (["--machine", "a"], "--server: found 0; --engine one wants one"),
        ([*ONE, "--engine", "three"], "--server: found 1; --engine three wants three"),
        ([*ONE, "--engine", "hub-leaf"], "wanted the machines behind the leaf node"),
        ([*ONE, "--machine", "a"], "a: found it twice"),
        ([*ONE, "--follower", "a"], "a: found it twice"),
        ([*ONE, "--machine", "a.b"], "a: would hear what is said to a.b"),
        ([*ONE, "--machine", "../a"], "--machine: found '../a'; wanted a machine's name"),
        ([*ONE, "--canary", "x"], "--canary: found x; wanted one of a, b"),
        ([*ONE, "--shard", "a b"], "--shard: found 'a b'"),
        (["--machine", "a", "--server", "n:4222"], "--server: found 'n:4222'; wanted a host name"),
        (["--machine", "a", "--server", "10.0.0"], "--server: found '10.0.0'"),
        (["--machine", "a", "--server", "n", "--server", "n", "--server", "m", "--engine", "three"], "found n twice"),
    ],
)
def test_what_makes_no_fleet_is_named(tmp_path: Path, words: list[str], says: str) -> None:
    ran = init(tmp_path / "f", *words)
    assert ran.exit_code == 2 and says in ran.stderr and not (tmp_path / "f").exists()


# --- deploy/nats -----------------------------------------------------------------------------------------------------


def test_the_ready_made_engines_are_those_that_init_writes() -> None:
    """python -m tests.control.fleet.setup.examples writes them anew."""
    found = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.glob("*/**/*.conf")}
    assert found == files()


def subjects(role: Role) -> tuple[set[str], set[str]]:
    publish, subscribe = ({each for _why, some in part for each in some} for part in role)
    return publish, subscribe


def test_one_node_has_the_same_permissions() -> None:
    text = (ROOT / "deploy/nats/one-node.conf").read_text()
    users = re.findall(
        r'user: "(\w+)".*?publish: \{ allow: \[(.*?)\] \}.*?subscribe: \{ allow: \[(.*?)\] \}', text, re.S
    )
    found = {name: (set(re.findall('"(.*?)"', said)), set(re.findall('"(.*?)"', heard))) for name, said, heard in users}
    assert found == {
        "dhcp1": subjects(permissions.leader("main", "dhcp1")),
        "dhcp2": subjects(permissions.leader("main", "dhcp2")),
        "dhcp3": subjects(permissions.follower("main", "dhcp3")),
    }


def test_credentials_of_init_are_an_nkey(tmp_path: Path) -> None:
    assert init(tmp_path / "f", *ONE).exit_code == 0
    assert list(read_credentials(tmp_path / "f/machines/a/fleet.secret")) == ["nkeys_seed_str"]
