"""A TCP proxy on loopback that spoils what passes: holds it back, drips it, delays it, cuts it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator


class Proxy:
    """Passes everything until `mode` says otherwise, on open connections too.

    "pass", "hole" (nothing goes either way, connections stay open), "drip" (a byte at a time), "slow" (each piece 0.4 s
    late), "refuse" (new connections are reset).
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.mode = "pass"
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()

    def turn(self, mode: str) -> None:
        self.mode = mode
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self) -> None:
        """Reset every connection, in the middle of whatever it carries."""
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        if self.mode == "refuse":
            self.cut()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(there_writer)
        both = [
            asyncio.ensure_future(self._pump(reader, there_writer)),
            asyncio.ensure_future(self._pump(there_reader, writer)),
        ]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for one in both:
            one.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for end in (writer, there_writer):
            end.transport.abort()
            self._writers.discard(end)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while data := await reader.read(65536):
                await self._passed(data, writer)

    async def _passed(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        while self.mode == "hole":
            await self._changed.wait()
        if self.mode == "slow":
            await asyncio.sleep(0.4)
        if self.mode == "drip":
            for place in range(len(data)):
                writer.write(data[place : place + 1])
                await writer.drain()
                await asyncio.sleep(0.05)
                if self.mode != "drip":
                    writer.write(data[place + 1 :])
                    break
        else:
            writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def before(port: int) -> AsyncIterator[Proxy]:
    """A proxy in front of a port on loopback."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.turn("pass")
        proxy.cut()
