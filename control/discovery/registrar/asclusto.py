"""clusto's own module names, for a rack factory that was written for clusto and is loaded as it is.

`import clusto` and `from clusto.drivers import *` give such a module our client, which speaks HTTP.  What that has not,
such as transactions, is an AttributeError that names it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

from control.clusto import client

PACKAGES: Final = (
    "clusto",
    "clusto.drivers",
    "clusto.scripthelpers",
    "clusto.exceptions",
    "diggext",
    "diggext.drivers",
)


def install() -> None:
    """In this process alone, which reads no database: clusto's own code, where it is installed, would need one."""
    made = {name: ModuleType(name, __doc__) for name in PACKAGES}
    for name in ("clusto", "clusto.drivers", "diggext.drivers"):
        for each in client.__all__:
            setattr(made[name], each, getattr(client, each))
        made[name].__dict__["__all__"] = list(client.__all__)
    made["clusto.scripthelpers"].__dict__["init_script"] = lambda *_arguments, **_named: None
    made["clusto.exceptions"].__dict__["ConnectionException"] = client.ClustoError
    for name, module in made.items():
        if name in ("clusto", "diggext"):
            module.__dict__["__path__"] = []
        else:
            parent, _, leaf = name.partition(".")
            setattr(made[parent], leaf, module)
    sys.modules.update(made)
