"""Links over gRPC streams, dialled and accepted. Messages are raw bytes: parsing happens in the session, so that a bad
frame is counted there and does not raise inside gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc.aio import EOF  # type: ignore[attr-defined]

from federation.reasons import Reason
from federation.session.link import LinkLostError

HOLDINGS, LINK = "federation.wire.v1.Holdings", "federation.wire.v1.Link"


_LOSSES = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError)
"""What gRPC raises where a stream is accepted and its end is gone: not documented; seen when the connection was cut under a
message that waited for room, and when the server stopped under a read.
"""


class DialledLink:
    """The dialling side's link: a stream call on a channel of its own, closed with it."""

    def __init__(self, channel: grpc.aio.Channel, service: str, method: str = "Open") -> None:
        self._channel = channel
        open_stream: Any = channel.stream_stream(
            f"/{service}/{method}", request_serializer=None, response_deserializer=None
        )
        self._call = open_stream()
        self._closed = False

    async def send(self, message: bytes) -> None:
        if self._closed:
            raise LinkLostError("closed")
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            raise LinkLostError(_kind(error)) from None
        except asyncio.CancelledError:
            if self._closed:
                raise LinkLostError("closed") from None
            raise

    async def receive(self) -> bytes:
        try:
            message = await self._call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            raise LinkLostError(_kind(error)) from None
        except asyncio.CancelledError:
            if self._closed:
                raise LinkLostError("closed") from None
            raise
        if message is EOF:
            raise LinkLostError("ended by the other side")
        return bytes(message)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._call.cancel()
        await self._channel.close(None)


class AcceptedLink:
    """The accepting side's link: the server end of a stream."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._closed = False
        self._reading: asyncio.Future[Any] | None = None

    async def send(self, message: bytes) -> None:
        if self._closed:
            raise LinkLostError("closed")
        try:
            await self._context.write(message)
        except (*_LOSSES, asyncio.CancelledError) as error:
            if (
                isinstance(error, asyncio.CancelledError)
                and not self._context.cancelled()
                and not self._closed
            ):
                raise
            raise LinkLostError("lost") from None

    async def receive(self) -> bytes:
        if self._closed:
            raise LinkLostError("closed")
        self._reading = reading = asyncio.ensure_future(self._context.read())
        await asyncio.wait({reading})
        try:
            message = reading.result()
        except (*_LOSSES, asyncio.CancelledError):
            raise LinkLostError("lost") from None
        if message is EOF:
            raise LinkLostError("ended by the other side")
        return bytes(message)

    async def close(self) -> None:
        self._closed = True
        if self._reading is not None:
            self._reading.cancel()  # the RPC ends with its handler: nothing is read on this stream again


def _kind(error: BaseException) -> str:
    return error.code().name.lower() if isinstance(error, grpc.aio.AioRpcError) else "closed"


Serve = Callable[[AcceptedLink, grpc.aio.ServicerContext[Any, Any]], Awaitable[None]]
"""Serves one accepted stream to its end."""


def stream_handler(serve: Serve) -> grpc.RpcMethodHandler[Any, Any]:
    """The handler of a stream of raw messages, served with a link. A fault in `serve` is told to the loop's exception
    handler and ends the stream as `internal`: gRPC would log and send what the error says, which may quote a record.
    """

    async def accept(_requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            await serve(AcceptedLink(context), context)
        except (*_LOSSES, LinkLostError):  # or gRPC's own way of turning a caller away
            raise
        except Exception as error:
            told = {"message": "an accepted stream failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
            await context.abort(grpc.StatusCode.INTERNAL, Reason.INTERNAL.value)

    return grpc.stream_stream_rpc_method_handler(accept, None, None)


def open_handler(
    service: str, serve: Serve, others: dict[str, grpc.RpcMethodHandler[Any, Any]] | None = None
) -> grpc.GenericRpcHandler[Any, Any]:
    """Handlers of `service`: its Open stream served by `serve`, beside `others`."""
    handlers: dict[str, Any] = {"Open": stream_handler(serve), **(others or {})}
    return grpc.method_handlers_generic_handler(service, handlers)
