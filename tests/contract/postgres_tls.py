"""TLS before a Postgres that was built without it, and certificates for that."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from langgraph_runtime_holdfast.local.unprivileged import give_away


def certificate(folder: Path, name: str) -> Path:
    """A certificate for localhost that is its own authority; its key is beside it."""
    made, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(made)),
        ],
        check=True,
        capture_output=True,
    )
    give_away(made)
    return made


@contextlib.contextmanager
def tls_before(host: str, port: int, made: Path) -> Iterator[int]:
    """A port on loopback where Postgres answers with that certificate, and to nobody without TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made, made.with_suffix(".key"))

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # SSLRequest of the protocol: a length, and a number that is no version.
            if await reader.readexactly(8) == b"\x00\x00\x00\x08\x04\xd2\x16\x2f":
                writer.write(b"S")
                await writer.start_tls(context)
                back, forth = await asyncio.open_connection(host, port)
                await asyncio.gather(hand_on(reader, forth), hand_on(back, writer))
        except (OSError, EOFError):
            pass
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
