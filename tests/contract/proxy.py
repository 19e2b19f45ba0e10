"""A TCP proxy that cuts connections, so that faults happen where they do in life: between two bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class CuttingProxy:
    """Forwards to one port and cuts a connection once it has carried so many bytes of answer."""

    def __init__(self, upstream_port: int) -> None:
        """Forward to the port; cut nothing until told to."""
        self.port = 0
        self.cuts = 0
        self.cut_after_bytes: list[int] = []
        """One entry for each connection to be cut; connections after the last entry are left alone."""
        self.only_paths_with = b""
        """Leave requests alone whose first bytes do not hold this."""
        self._upstream_port = upstream_port
        self._carried = 0
        self._swallow_up_to = 0
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def close(self) -> None:
        """Cut what is open and wait until it is gone."""
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)

    def swallow(self) -> None:
        """From now on take what is sent on the connections that are open, and forward nothing of it."""
        self._swallow_up_to = self._carried

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            await self._carry(reader, writer)
        finally:
            del self._open[task]

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            writer.close()
            return
        budget: list[int | None] = [None]
        self._carried += 1
        number = self._carried

        async def ask() -> None:
            while data := await reader.read(65536):
                if number <= self._swallow_up_to:
                    continue
                request_line = data.split(b"\r\n", 1)[0]
                if self.only_paths_with in request_line and b" HTTP/1.1" in request_line:
                    budget[0] = self.cut_after_bytes.pop(0) if self.cut_after_bytes else None
                up_writer.write(data)
                await up_writer.drain()

        async def answer() -> None:
            while data := await up_reader.read(1024):
                left = budget[0]
                if left is not None:
                    if len(data) >= left:
                        writer.write(data[:left])
                        with contextlib.suppress(ConnectionError):
                            await writer.drain()
                        self.cuts += 1
                        return
                    budget[0] = left - len(data)
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(ask()), asyncio.create_task(answer())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.transport.abort()
            up_writer.transport.abort()


@contextlib.asynccontextmanager
async def cutting_proxy(upstream_port: int) -> AsyncIterator[CuttingProxy]:
    """Run a proxy on a free port."""
    proxy = CuttingProxy(upstream_port)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
