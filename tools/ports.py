"""Ports of this machine for servers that are started on it."""

import contextlib
import random
import socket

_PORTS = range(15_000, 32_000)
"""Below those that systems give to clients, so that no connection takes one before its server."""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; another server may still take one before ours does."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if len(ports) == count:
                break
            with contextlib.suppress(OSError):
                one = stack.enter_context(socket.socket())
                one.bind(("127.0.0.1", port))
                ports.append(port)
        return ports
