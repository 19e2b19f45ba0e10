"""Ports on this machine: which are free."""

import socket

from langgraph_runtime_holdfast.local.errors import LocalStackError

HOST = "127.0.0.1"


def choose_ports(wanted: dict[str, int]) -> dict[str, int]:
    """Check the wanted ports and choose free ones where any will do.

    Args:
        wanted: the port by the name of its setting; 0 is any free port.

    Returns:
        A port by the same names, no two alike.

    Raises:
        LocalStackError: a port is taken; names it and its setting.
    """
    held: list[socket.socket] = []
    try:
        chosen = {}
        for setting, port in wanted.items():
            held.append(probe := socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            # As servers do, so that connections of a server that has just ended are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                probe.listen()  # two sockets may share a port until one of them listens
            except OSError as error:
                raise LocalStackError(
                    f"port {port} is taken ({error.strerror}). "
                    f"End what uses it, or set {setting} to another port (0 is any free one)."
                ) from error
            chosen[setting] = probe.getsockname()[1]
        return chosen
    finally:
        for probe in held:
            probe.close()
