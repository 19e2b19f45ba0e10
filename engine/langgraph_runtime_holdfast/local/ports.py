"""Ports on this machine: which are free."""

import errno
import socket
from collections.abc import Collection

from langgraph_runtime_holdfast.local.errors import LocalStackError

HOST = "127.0.0.1"
# How many ports after a default one are tried when it is taken.
NEXT_PORTS = 50


def choose_ports(wanted: dict[str, int], defaults: Collection[str] = ()) -> dict[str, int]:
    """Check the wanted ports and choose free ones where any will do.

    Args:
        wanted: the port by the name of its setting; 0 is any free port.
        defaults: the settings that nobody has made; the next free port does as well for them.

    Returns:
        A port by the same names, no two alike.

    Raises:
        LocalStackError: a port is taken; names it and its setting.
    """
    held: list[socket.socket] = []
    try:
        chosen = {}
        for setting, port in wanted.items():
            held.append(_take(setting, port, NEXT_PORTS if setting in defaults else 1))
            chosen[setting] = held[-1].getsockname()[1]
        return chosen
    finally:
        for probe in held:
            probe.close()


def _take(setting: str, port: int, tries: int) -> socket.socket:
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As servers do, so that connections of a server that has just ended are no obstacle.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((HOST, port))
        probe.listen()  # two sockets may share a port until one of them listens
    except OSError as error:
        probe.close()
        if tries > 1 and error.errno == errno.EADDRINUSE:
            return _take(setting, port + 1, tries - 1)
        raise LocalStackError(
            f"port {port} is taken ({error.strerror}). "
            f"End what uses it, or set {setting} to another port (0 is any free one)."
        ) from error
    return probe
