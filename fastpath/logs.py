"""How every process of the service logs: lines on standard error, for journald or whoever started it."""

from __future__ import annotations

import logging
import sys

from fastpath.escape import LineFormatter

FORMAT = "%(asctime)s %(name)s: %(message)s"


def configure_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
