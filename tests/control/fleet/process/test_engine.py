"""control/fleet/process/engine.py without the engine: what is said, and not said, to whom."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from control.config.config import parse
from control.fleet.process.engine import Engine, EngineFault, refusal_of


@pytest.mark.parametrize("scheme, tls", [("nats", {}), ("tls", None)])
def test_nothing_is_said_to_a_plain_server_where_tls_is_asked_for(tmp_path: Path, scheme: str, tls: object) -> None:
    secret = tmp_path / "secret"
    secret.write_text("user:password")
    secret.chmod(0o600)
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1024,"auth_required":true}\r\n')
        heard.put_nowait(await reader.read(1000))
        writer.close()

    async def scene() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        text = json.dumps({"fleet": {"servers": [url], "credentials": str(secret), "tls": tls}})
        engine = Engine(parse(text.encode(), Path("services.conf")).fleet, "a", {}, lambda: None)
        with pytest.raises(EngineFault, match="it offers no TLS"):
            await engine.connect(url, asyncio.Event())
        server.close()
        async with asyncio.timeout(5):
            assert await heard.get() == b""

    asyncio.run(scene())


def test_what_tls_says_is_said_without_numbers() -> None:
    certificate = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] ... (_ssl.c:1006)")
    certificate.verify_message = "certificate has expired"
    assert refusal_of(certificate) == "its certificate is refused: certificate has expired"
    alert = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2576)")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert refusal_of(alert) == "it refuses our certificate (fleet.tls.cert): certificate required"
    assert refusal_of(OSError("gone")) == "OSError: gone"
