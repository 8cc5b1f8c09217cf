"""What tests of several rooms need of Python itself: a program loaded by its path, a server that runs beside a test."""

from __future__ import annotations

import importlib.util
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar

LOOK_S = 0.01  # so late a server sees that it is to end

AnyServer = TypeVar("AnyServer", bound=socketserver.BaseServer)


def loaded(program: Path) -> ModuleType:
    """A file that is in no package."""
    spec = importlib.util.spec_from_file_location(program.stem, program)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def beside(server: AnyServer) -> Iterator[AnyServer]:
    """Serves in a thread of its own, and is closed in the end."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": LOOK_S}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
