"""control/fleet/process/keyfiles.py, and what `bootstorm check` says of section `fleet`."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from control.cli.command_line import main
from control.explain import named
from control.fleet.process.keyfiles import KeyFault, make_key, read_credentials, read_signing_key
from control.fleet.signing import Ed25519Keys, opened, sealed


def secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def checked(folder: Path, **fleet: Any) -> Result:
    conf = folder / "services.conf"
    hosts = folder / "hosts.yaml"
    hosts.write_text("hosts: []\n")
    conf.write_text(json.dumps({"dhcp": {"state_dir": str(folder), "api_url": f"file://{hosts}"}, "fleet": fleet}))
    return CliRunner().invoke(main, ["check", "-c", str(conf)])


def test_a_key_is_made_once_and_signs_what_its_public_half_believes(tmp_path: Path) -> None:
    path = tmp_path / "fleet.key"
    ran = CliRunner().invoke(main, ["fleet-key", str(path)])
    assert ran.exit_code == 0 and stat.S_IMODE(path.stat().st_mode) == 0o600
    signer, keys = read_signing_key(path), Ed25519Keys([bytes.fromhex(ran.stdout.strip())])
    assert opened(sealed(b"said", signer), keys, 1000) == b"said"
    again = CliRunner().invoke(main, ["fleet-key", str(path)])
    assert again.exit_code == 1 and "File exists" in again.stderr
    assert read_signing_key(path).public == signer.public


@pytest.mark.parametrize(
    "text, mode, says",
    [
        pytest.param("a" * 64, 0o640, "found mode 0640; wanted 0600; chmod 0600", id="group"),
        pytest.param("a" * 63, 0o600, "found no key; wanted what `bootstorm fleet-key FILE` writes", id="short"),
        pytest.param("", 0o600, "found no key", id="empty"),
    ],
)
def test_a_key_that_is_none_or_that_others_may_read(tmp_path: Path, text: str, mode: int, says: str) -> None:
    with pytest.raises(KeyFault, match=says):
        read_signing_key(secret(tmp_path / "key", text, mode))


def test_neither_a_folder_nor_a_pipe_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, says in ((".", "Is a directory|no plain file"), ("pipe", "no plain file"), ("gone", "No such file")):
        with pytest.raises(KeyFault, match=says):
            read_signing_key(tmp_path / name)


def test_credentials_are_a_line_or_a_file_of_nats(tmp_path: Path) -> None:
    assert read_credentials(secret(tmp_path / "a", "dhcp1:pass:word\n")) == ("dhcp1", "pass:word")
    assert read_credentials(secret(tmp_path / "b", "-----BEGIN NATS USER JWT-----\n...")) is None
    for text in ("", "user", ":password", "user:", "two words:x"):
        with pytest.raises(KeyFault, match="wanted one line USER:PASSWORD"):
            read_credentials(secret(tmp_path / "c", text))


def test_check_says_what_of_it_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = checked(tmp_path)
    assert ran.exit_code == 0 and "warning: fleet.trusted_keys: none: whatever the engine has is believed" in ran.stderr
    public = make_key(tmp_path / "fleet.key")
    assert checked(tmp_path, trusted_keys=[public], signing_key=str(tmp_path / "fleet.key")).stderr == ""
    ran = checked(tmp_path, trusted_keys=[public])
    assert ran.exit_code == 0 and "warning: fleet.signing_key: none, so that this machine never leads" in ran.stderr
    assert checked(tmp_path, trusted_keys=[public], lead=False).stderr == ""
    ran = checked(tmp_path, trusted_keys=["00" * 32], signing_key=str(tmp_path / "fleet.key"))
    assert ran.exit_code == 2 and f"its public key {public} is none of fleet.trusted_keys" in ran.stderr
    ran = checked(tmp_path, credentials=str(tmp_path / "gone"), tls={"ca": str(tmp_path / "ca")})
    assert ran.exit_code == 2 and "fleet.credentials: " in ran.stderr and "fleet.tls.ca: " in ran.stderr
    monkeypatch.setattr(named, "find_spec", lambda _name: None)
    ran = checked(tmp_path)
    assert ran.exit_code == 2 and "nats-py is not installed; wanted: pip install 'bootstorm[fleet]'" in ran.stderr
