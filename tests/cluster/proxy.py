"""A TCP proxy that can be cut or made slow, to take a server away from its clients for a while."""

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Passes connections on as long as its ``with`` block and as long as it is not cut.

    Attributes:
        delay_s: Seconds that each piece of data is held up, for now.
    """

    def __init__(self, port: int, *, bind: str = "127.0.0.1") -> None:
        """Prepare to listen.

        Args:
            port: Where the server listens on the loopback interface.
            bind: Address to listen at.
        """
        self._target = port
        self._bind = bind
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.delay_s = 0.0

    @property
    def port(self) -> int:
        """Where clients connect to."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, self._bind, 0), self._loop
        ).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Close all connections, and every new one at once."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def mend(self) -> None:
        """Pass new connections on again."""
        self._is_cut = False

    async def _cut(self) -> None:
        self._is_cut = True
        ended = list(self._connections)
        for connection in ended:
            connection.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._is_cut:
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            # A connection that breaks is what this is for.
            pass
        finally:
            writer.close()
            self._connections.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, back))
                both.create_task(self._copy(there, writer))
        except* OSError:
            pass
        finally:
            back.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self.delay_s)
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()
