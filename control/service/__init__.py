"""The control process, one asyncio loop: when to refresh and look up, interfaces, what is served, warnings.

service.py builds and wires it; what comes in by sockets is in doors/."""
