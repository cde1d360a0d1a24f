"""Runs a plugin under test as the host would, over real gRPC, in the test's own process:

    with testing.start(PLUGIN, {"url": server.url}) as host:
        assert host.deliver(testing.frame("a1", b'{"key":1}')) == []  # silence means delivered
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import grpc
import grpc.aio

from ._outcome import OutcomeClass
from ._plugin import Plugin
from ._server import Server
from ._settings import Problem
from ._wire import OPTIONS, register
from .proto.v1 import base_pb2, pusher_pb2
from .proto.v2 import pusher_pb2 as pusher2_pb2

TIMEOUT = 30.0
"""Bounds every call, seconds."""
INSTANCE = "test"

_positions = itertools.count(1)
_lock = threading.Lock()


@dataclass(frozen=True)
class Result:
    """What became of one row that was not simply delivered."""

    position: int  # of the row
    outcome: OutcomeClass
    code: str
    message: str
    retry_after_ms: int


def frame(uuid: str, *rows: bytes, index: list[int] | None = None, position: int = 0, org_id: int = 1) -> pusher_pb2.Frame:
    """A frame of JSON rows: no user, the next free position, -1 in index for a row without one."""
    with _lock:
        first = next(_positions)
        for _ in rows[1:]:
            next(_positions)
    return pusher_pb2.Frame(
        org_id=org_id, uuid=uuid, position=position or first, received_at=1767323045678000000, data=b"".join(rows),
        ends=itertools.accumulate(len(row) for row in rows), index=index or [], request_id="req-test",
    )


class Host:
    """One plugin, its instance and the stream to it. It belongs to one thread."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self._config: dict[str, Any] = {}
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        self._answers: Any = None
        self._seq = 0

    def _call(self, method: str, request: Any, answer: Any) -> Any:
        call = self.channel.unary_unary(f"/rivergate.plugin.v1.Base/{method}", type(request).SerializeToString, answer.FromString)
        return call(request, timeout=TIMEOUT)

    def handshake(self, *versions: int) -> Any:
        return self._call("Handshake", base_pb2.HandshakeRequest(protocol_versions=versions or (1, 2)), base_pb2.HandshakeResponse)

    def describe(self) -> Any:
        return self._call("Describe", base_pb2.DescribeRequest(), base_pb2.DescribeResponse)

    def configure(self, config: dict[str, Any], instance: str = INSTANCE) -> list[Problem]:
        """Makes or replaces an instance; returns what the plugin finds wrong with config."""
        self._config = config
        request = base_pb2.ConfigureRequest(instance_id=instance, config=json.dumps(config).encode())
        answer = self._call("Configure", request, base_pb2.ConfigureResponse)
        return [Problem(p.field, p.reason) for p in answer.problems]

    def health(self) -> str:
        """Why the instance cannot work now; empty when it can."""
        answer = self._call("Health", base_pb2.HealthRequest(instance_id=INSTANCE), base_pb2.HealthResponse)
        return "" if answer.healthy else str(answer.reason or "no reason given")

    def drain(self) -> None:
        self._call("Drain", base_pb2.DrainRequest(instance_id=INSTANCE), base_pb2.DrainResponse)

    def open(self) -> None:
        """Opens the stream."""
        self._requests, self._seq = SimpleQueue(), 0
        deliver: Any = self.channel.stream_stream("/rivergate.plugin.v2.Pusher/Deliver", None, pusher2_pb2.PluginMessage.FromString)
        self._answers = deliver(iter(self._requests.get, None), timeout=10 * TIMEOUT)
        self._requests.put(pusher2_pb2.HostMessage(open=pusher2_pb2.Open(instance_id=INSTANCE)).SerializeToString())
        message = next(self._answers)
        if message.WhichOneof("message") != "opened":
            raise AssertionError(f"the plugin's first message is {message}, not Opened")

    def deliver(self, *frames: pusher_pb2.Frame, ordered: bool = False) -> list[Result]:
        """Sends one batch and waits for its acknowledgement: what was not simply delivered, by position."""
        self._seq += 1
        batch = pusher_pb2.Batch(seq=self._seq, frames=frames, ordered=ordered)
        self._requests.put(pusher2_pb2.HostMessage(batch=batch).SerializeToString())
        timer = threading.Timer(TIMEOUT, self._answers.cancel)  # a plugin that says nothing is cut off
        timer.start()
        try:
            message = next(m for m in self._answers if m.WhichOneof("message") == "ack")
        finally:
            timer.cancel()
        if message.ack.through_seq != self._seq:
            raise AssertionError(f"batch {message.ack.through_seq} was acknowledged, {self._seq} was sent")
        results = [
            Result(o.position + o.row, OutcomeClass(getattr(o, "class")), o.code, o.message, o.retry_after_ms) for o in message.ack.outcomes
        ]
        return sorted(results, key=lambda r: r.position)

    def finish(self) -> None:
        """Says that no more batches come, and waits for the end of the stream."""
        self._requests.put(None)
        for _ in self._answers:
            pass

    def cut(self) -> None:
        """Cuts the stream off, as a dying host would."""
        if self._answers is not None:
            self._answers.cancel()
            self._requests.put(None)

    def reopen(self) -> None:
        """Cuts the stream off, configures again and opens a new stream, as the host does after a crash."""
        self.cut()
        if problems := self.configure(self._config):
            raise AssertionError(problems)
        self.open()


@contextmanager
def connect(plugin: Plugin) -> Iterator[Host]:
    """Runs a plugin without an instance."""
    folder = tempfile.mkdtemp(prefix="rvg")  # short: the path of a socket has room for a hundred bytes
    target = f"unix:{os.path.join(folder, 's')}"
    ready: SimpleQueue[BaseException | asyncio.AbstractEventLoop] = SimpleQueue()
    end = asyncio.Event()

    async def run() -> None:
        server = Server(plugin, logging.getLogger(plugin.name))
        grpc_server = grpc.aio.server(options=OPTIONS)
        register(grpc_server, server)
        grpc_server.add_insecure_port(target)
        await grpc_server.start()
        ready.put(asyncio.get_running_loop())
        await end.wait()
        server.stop()
        await server.drain("")
        await grpc_server.stop(0)

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            ready.put(error)
            raise

    thread = threading.Thread(target=work, name="plugin-under-test", daemon=True)
    thread.start()
    loop = ready.get(timeout=TIMEOUT)
    if isinstance(loop, BaseException):
        raise loop
    try:
        with grpc.insecure_channel(target, options=OPTIONS) as channel:
            host = Host(channel)
            try:
                yield host
            finally:
                host.cut()
                loop.call_soon_threadsafe(end.set)
                thread.join(TIMEOUT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def start(plugin: Plugin, config: dict[str, Any] | None = None) -> Iterator[Host]:
    """Runs a plugin with one instance and an open stream. A problem of the configuration is an AssertionError."""
    with connect(plugin) as host:
        host.handshake()
        if problems := host.configure(config or {}):
            raise AssertionError(problems)
        host.open()
        yield host
