"""control/fleet/process/keyfiles.py, and what `bootstorm check` says of section `fleet`."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nkeys
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from control.cli.command_line import main
from control.config.fleet import Tls
from control.explain import named
from control.fleet.process import keyfiles
from control.fleet.process.keyfiles import KeyFault, make_key, read_credentials, read_signing_key
from control.fleet.process.nkeys import user_key
from control.fleet.setup.certificates import new_authority, new_certificate, pem_of
from control.fleet.signing import Ed25519Keys, opened, sealed

CREDS = f"""-----BEGIN NATS USER JWT-----
eyJ0.eyJq_-.Lq8
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.

-----BEGIN USER NKEY SEED-----
{user_key(bytes(32))[0]}
------END USER NKEY SEED------

*************************************************************
"""


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


def test_credentials_are_a_line_a_seed_or_a_file_of_nats(tmp_path: Path) -> None:
    assert read_credentials(secret(tmp_path / "a", "dhcp1:pass:word\n")) == {"user": "dhcp1", "password": "pass:word"}
    creds = secret(tmp_path / "b", CREDS)
    assert read_credentials(creds) == {"user_credentials": str(creds)}
    with pytest.raises(KeyFault, match="no token and seed; wanted what nsc writes"):
        read_credentials(secret(creds, CREDS[:200]))
    for text in ("", "user", ":password", "user:", "two words:x"):
        with pytest.raises(KeyFault, match="wanted a line USER:PASSWORD"):
            read_credentials(secret(tmp_path / "c", text))
    seed, _public = user_key(bytes(range(32)))
    assert read_credentials(secret(tmp_path / "c", f"{seed}\n")) == {"nkeys_seed_str": seed}
    for text in (seed[:-1], seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:], "SU", "SUx" + seed[3:]):
        with pytest.raises(KeyFault, match="an nkey's seed with a mistake in it"):
            read_credentials(secret(tmp_path / "c", text))
    assert read_credentials(secret(tmp_path / "c", "SU:perb"))["user"] == "SU"


def test_an_nkey_is_what_nats_makes_of_it() -> None:
    """The library of NATS reads the seed, and has the same public key."""
    for secret_bytes in (bytes(32), bytes(range(32)), b"\xff" * 32):
        seed, public = user_key(secret_bytes)
        pair = nkeys.from_seed(bytearray(seed.encode()))
        assert pair.public_key.decode() == public


def test_tls_needs_certificates_and_a_key_that_nobody_else_reads(tmp_path: Path) -> None:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    authority = new_authority("ours", now)
    cert, key = new_certificate(authority, "dhcp1", now)
    ca = tmp_path / "ca.pem"
    ca.write_text(pem_of(authority.cert))
    (tmp_path / "own.pem").write_text(cert)
    tls = Tls(ca=ca, cert=tmp_path / "own.pem", key=secret(tmp_path / "own.key", key))
    assert keyfiles.tls_context(tls).check_hostname
    other = secret(tmp_path / "other.key", new_certificate(authority, "dhcp1", now)[1])
    sealed_key = load_pem_private_key(key.encode(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    locked = secret(tmp_path / "locked.key", sealed_key.decode())
    for wrong, says in (
        (replace(tls, ca=tmp_path / "gone"), "gone: cannot be used .No such file"),
        (replace(tls, ca=other), "other.key: cannot be used .* wanted certificates of authorities"),
        (replace(tls, key=other), "cannot be used .*wanted a certificate and its key"),
        (replace(tls, key=locked), "wanted a certificate and its key without a password"),
        (replace(tls, key=secret(tmp_path / "own.key", key, 0o640)), "found mode 0640; wanted 0600"),
    ):
        with pytest.raises(KeyFault, match=says):
            keyfiles.tls_context(wrong)
    ran = checked(tmp_path, tls={"ca": str(other)})
    assert ran.exit_code == 2 and "fleet.tls: " in ran.stderr


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
