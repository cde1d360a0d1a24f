"""The plugin protocol over gRPC: the only module that sees protobuf messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from ._instance import Gone
from ._outcome import Outcome
from ._plugin import CAP_INSTANCES, PROTOCOL_VERSIONS, SDK
from ._rows import Batch, Frame
from ._server import Server, Unhealthy
from .proto.v1 import base_pb2, pusher_pb2
from .proto.v2 import pusher_pb2 as pusher2_pb2

MAX_MESSAGE = 64 << 20
"""Bounds one gRPC message in either direction: a batch of one 16 MiB row with its frame fits."""
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # With gRPC's 64 KiB of flow-control window a unix socket carries a third of what it can.
    ("grpc.http2.lookahead_bytes", 8 << 20),
    ("grpc.http2.max_frame_size", 1 << 20),
    ("grpc.so_reuseport", 0),
]

_INSTANCE = "rivergate-instance"
_MAX_MESSAGES = 16 << 20  # text of one acknowledgement: a hundred thousand rows with the same long text must still be acknowledged
_OPENED = pusher2_pb2.PluginMessage(opened=pusher2_pb2.Opened()).SerializeToString()
_WORKING = pusher2_pb2.PluginMessage(working=pusher2_pb2.Working()).SerializeToString()

Context = grpc.aio.ServicerContext[Any, Any]
Request = TypeVar("Request")


class Malformed(Exception):
    """The host sent something that the protocol does not allow."""


def register(grpc_server: grpc.aio.Server, server: Server) -> None:
    """Serves a pusher in every version of the protocol side by side."""
    base = _Base(server)

    def unary(call: Callable[[Any], Awaitable[Any]], request: Any, response: Any) -> Any:
        async def handle(message: Any, context: Context) -> Any:
            try:
                return await call(message)
            except Exception as error:
                await _abort(context, error)

        return grpc.unary_unary_rpc_method_handler(handle, request.FromString, response.SerializeToString)

    grpc_server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "rivergate.plugin.v1.Base",
                {
                    "Handshake": unary(base.handshake, base_pb2.HandshakeRequest, base_pb2.HandshakeResponse),
                    "Describe": unary(base.describe, base_pb2.DescribeRequest, base_pb2.DescribeResponse),
                    "Configure": unary(base.configure, base_pb2.ConfigureRequest, base_pb2.ConfigureResponse),
                    "Health": unary(base.health, base_pb2.HealthRequest, base_pb2.HealthResponse),
                    "Drain": unary(base.drain, base_pb2.DrainRequest, base_pb2.DrainResponse),
                },
            ),
            # Without a codec: messages come and go as bytes.
            grpc.method_handlers_generic_handler("rivergate.plugin.v1.Pusher", {"Deliver": grpc.stream_stream_rpc_method_handler(_deliver(server, 1))}),
            grpc.method_handlers_generic_handler("rivergate.plugin.v2.Pusher", {"Deliver": grpc.stream_stream_rpc_method_handler(_deliver(server, 2))}),
        )
    )


async def _abort(context: Context, error: Exception) -> None:
    if isinstance(error, Gone):
        code = grpc.StatusCode.NOT_FOUND
    elif isinstance(error, Malformed):
        code = grpc.StatusCode.INVALID_ARGUMENT
    else:
        code = grpc.StatusCode.UNKNOWN
    await context.abort(code, _text(_cut(str(error) or type(error).__name__, 4 << 10)))


class _Base:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def handshake(self, request: base_pb2.HandshakeRequest) -> base_pb2.HandshakeResponse:
        version = next((v for v in PROTOCOL_VERSIONS if v in request.protocol_versions), None)
        if version is None:
            raise Malformed(f"the host speaks protocol versions {list(request.protocol_versions)}, this plugin {list(PROTOCOL_VERSIONS)}")
        plugin = self._server.plugin
        return base_pb2.HandshakeResponse(
            protocol_version=version, capabilities=[CAP_INSTANCES] if plugin.instances else [], sdk=SDK,
            limits=base_pb2.Limits(max_batch_rows=plugin.max_batch_rows, max_batch_bytes=plugin.max_batch_bytes),
        )

    async def describe(self, _: base_pb2.DescribeRequest) -> base_pb2.DescribeResponse:
        plugin = self._server.plugin
        return base_pb2.DescribeResponse(
            name=plugin.name, version=plugin.version, kind=base_pb2.KIND_PUSHER, config_schema=self._server.schema,
            author=_text(plugin.author), summary=_text(plugin.summary), needs_trigger=plugin.needs_trigger,
        )

    async def configure(self, request: base_pb2.ConfigureRequest) -> base_pb2.ConfigureResponse:
        if not request.instance_id:
            raise Malformed("configure without an instance")
        problems = await self._server.configure(request.instance_id, request.config)
        return base_pb2.ConfigureResponse(
            problems=[base_pb2.ConfigProblem(field=_text(p.field), reason=_text(_cut(p.reason, 4 << 10))) for p in problems]
        )

    async def health(self, request: base_pb2.HealthRequest) -> base_pb2.HealthResponse:
        try:
            await self._server.health(request.instance_id)
        except Unhealthy as error:
            return base_pb2.HealthResponse(reason=_text(_cut(str(error), 4 << 10)))
        return base_pb2.HealthResponse(healthy=True)

    async def drain(self, request: base_pb2.DrainRequest) -> base_pb2.DrainResponse:
        await self._server.drain(request.instance_id)
        return base_pb2.DrainResponse()


def _deliver(server: Server, version: int) -> Callable[[Any, Context], Awaitable[None]]:
    async def handle(_: Any, context: Context) -> None:
        try:
            if version == 1:
                named = [value for key, value in context.invocation_metadata() or () if key == _INSTANCE]
                if len(named) != 1 or not named[0]:
                    raise Malformed(f"deliver without the metadata {_INSTANCE}")
                name = named[0] if isinstance(named[0], str) else named[0].decode()
            else:
                first = await context.read()
                if first is grpc.aio.EOF:
                    return
                name = _parse(pusher2_pb2.HostMessage, first).open.instance_id
                if not name:
                    raise Malformed("the stream does not begin with Open and an instance")
                if not server.known(name):
                    raise Gone(f"instance is not configured: {name}")
                await context.write(_OPENED)
            await server.deliver(name, _Stream(context, version))
        except Exception as error:
            await _abort(context, error)

    return handle


class _Stream:
    def __init__(self, context: Context, version: int) -> None:
        self._context = context
        self._version = version
        self._seq = 0
        self._sending = asyncio.Lock()  # gRPC takes one message at a time
        self._loop = asyncio.get_running_loop()
        self._says: set[asyncio.Task[None]] = set()

    async def receive(self) -> Batch | None:
        raw = await self._context.read()
        if raw is grpc.aio.EOF:
            return None
        if self._version == 1:
            message = _parse(pusher_pb2.Batch, raw)
        else:
            host = _parse(pusher2_pb2.HostMessage, raw)
            if host.WhichOneof("message") != "batch":
                raise Malformed("a message after Open is no batch")
            message = host.batch
        if message.seq != self._seq + 1:
            raise Malformed(f"batch {message.seq} follows batch {self._seq}")
        self._seq = message.seq
        return Batch(message.seq, _frames(message), message.ordered, self._working if self._version >= 2 else None)

    async def acknowledge(self, seq: int, outcomes: list[tuple[int, int, Outcome]], window: int) -> None:
        ack = pusher_pb2.Ack(through_seq=seq, window=window)
        if outcomes:
            room = min(4 << 10, max(64, _MAX_MESSAGES // len(outcomes)))
            for position, row, outcome in outcomes:
                ack.outcomes.add(
                    position=position, row=row, **{"class": int(outcome.outcome)}, code=_text(_cut(outcome.code, 64)),
                    message=_text(_cut(outcome.message, room)), retry_after_ms=outcome.retry_after_ms,
                )
        if self._version == 1:
            await self._say(ack.SerializeToString())
        else:
            await self._say(pusher2_pb2.PluginMessage(ack=ack).SerializeToString())

    async def _say(self, message: bytes) -> None:
        async with self._sending:
            await self._context.write(message)

    def _working(self) -> None:
        """Called from any thread."""
        self._loop.call_soon_threadsafe(self._say_working)

    def _say_working(self) -> None:
        task = self._loop.create_task(self._say(_WORKING))
        self._says.add(task)
        task.add_done_callback(self._said)

    def _said(self, task: asyncio.Task[None]) -> None:
        self._says.discard(task)
        if not task.cancelled():
            task.exception()  # a stream that broke ends deliver by itself


def _parse(kind: Any, raw: bytes) -> Any:
    try:
        return kind.FromString(raw)
    except Exception as error:
        raise Malformed(f"a message is no {kind.__name__}: {error}") from error


def _frames(message: pusher_pb2.Batch) -> list[Frame]:
    """Refuses frames whose ends do not describe their data, so that no row can be read out of bounds later."""
    frames: list[Frame] = []
    for m in message.frames:
        frame = Frame(
            m.org_id, m.user_id, m.uuid, m.position, m.received_at, m.data, list(m.ends), list(m.index), m.trigger,
            m.request_id, m.trace_parent,
        )
        ends = frame.ends
        if ends and (ends[-1] > len(frame.data) or len(ends) > 1 and ends != sorted(ends)):
            raise Malformed(f"batch {message.seq}, frame {len(frames)}: the ends of the rows do not describe its data")
        if frame.index and (len(frame.index) != len(ends) or min(frame.index) < -1):
            raise Malformed(f"batch {message.seq}, frame {len(frames)}: {len(frame.index)} indices for {len(ends)} rows, or one below -1")
        frames.append(frame)
    return frames


def _text(text: str) -> str:
    """What protobuf accepts: error texts of destinations hold anything, and one of them must not break the stream."""
    return text.encode("utf-8", "replace").decode()


def _cut(text: str, size: int) -> str:
    """Shortens to about size bytes, and says so."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= size else raw[:size].decode("utf-8", "ignore") + "…"
