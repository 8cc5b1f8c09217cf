"""clusto's classes over HTTP, for people's scripts: `from control.clusto.client import BasicServer, connect`."""

from control.clusto.client.classes import *  # noqa: F403
from control.clusto.client.classes import __all__ as __all__
from control.clusto.client.objects import object_of as object_of
