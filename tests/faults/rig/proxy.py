"""A TCP proxy that fails as networks do: resets, goes deaf, forgets connections, and comes back."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

_CHUNK = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux, which the socket module does not name
_RETURN_NOTHING = struct.pack(
    "HBBI", 0x06, 0, 0, 0
)  # a filter of one instruction: take 0 bytes of any packet


class Proxy:
    """Forwards a port of its own to the first of the given ports that takes the connection, in turn."""

    def __init__(self, upstream_ports: Sequence[int]) -> None:
        """Name where to forward to; `open()` comes next."""
        self.port = 0
        self._upstream_ports = list(upstream_ports)
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._hears = asyncio.Event()
        self._hears.set()
        self._resets = False
        self._carried: dict[asyncio.Task[None], _Connection] = {}

    def forward_to(self, upstream_ports: Sequence[int]) -> None:
        """Forward new connections to these from now on; those that are open stay where they are."""
        self._upstream_ports = list(upstream_ports)

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut everything and stop listening."""
        assert self._server is not None
        self._server.close()
        for task in list(self._carried):
            task.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)

    def reset(self) -> None:
        """Reset all connections and every new one, until `heal()`."""
        self._resets = True
        for connection in self._carried.values():
            connection.reset()

    def deafen(self) -> None:
        """Take connections and data and forward nothing, until `heal()` forwards what was held back."""
        self._hears.clear()

    def swallow(self) -> None:
        """Take what comes on the connections that are open and do nothing with it, for ever; new ones work.

        To TCP they are well, as behind a middlebox that hangs: only a time limit of the program's own helps.
        """
        for connection in self._carried.values():
            connection.swallows = True

    def drop(self) -> None:
        """Drop every packet of the connections that are open, for ever, as a firewall does that forgot them.

        New ones work. Linux only.
        """
        for connection in self._carried.values():
            connection.swallows = True
            connection.drop_packets()

    def heal(self) -> None:
        """Forward again. Connections that `swallow` and `drop` met stay as they are."""
        self._resets = False
        self._hears.set()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._carried[task] = _Connection(self._hears, writer)
        try:
            if self._resets:
                connection.reset()
                return
            await self._hears.wait()
            if (upstream := await self._dial()) is not None:
                await connection.carry(reader, *upstream)
        except asyncio.CancelledError:
            return  # the proxy closes
        finally:
            del self._carried[task]
            writer.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._turn += 1
        for offset in range(len(self._upstream_ports)):
            port = self._upstream_ports[(self._turn + offset) % len(self._upstream_ports)]
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None


class _Connection:
    """A client's connection and the one that it is carried on over."""

    def __init__(self, hears: asyncio.Event, client: asyncio.StreamWriter) -> None:
        self.swallows = False
        self._hears = hears
        self._writers = [client]

    async def carry(
        self, client: asyncio.StreamReader, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Forward both ways until either side ends."""
        self._writers.append(writer)
        ways = [
            asyncio.create_task(self._pump(client, writer)),
            asyncio.create_task(self._pump(reader, self._writers[0])),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()

    def reset(self) -> None:
        """End both sides with a reset instead of an orderly end."""
        for writer in self._writers:
            raw: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    def drop_packets(self) -> None:
        """Have the kernel drop what arrives, so that not even an acknowledgement goes back."""
        code = ctypes.create_string_buffer(_RETURN_NOTHING, len(_RETURN_NOTHING))
        program = struct.pack("HxxxxxxP", 1, ctypes.addressof(code))
        for writer in self._writers:
            raw: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):  # it has been closed meanwhile
                raw.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                await self._hears.wait()
                if self.swallows:
                    break
                writer.write(data)
                await writer.drain()
        if self.swallows:
            # Not even the end of the one side reaches the other.
            await asyncio.Event().wait()
        await self._hears.wait()
