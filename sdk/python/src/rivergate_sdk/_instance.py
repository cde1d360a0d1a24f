"""One configured pusher and the stream that feeds it."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from ._log import Log
from ._outcome import Outcome, PushError
from ._plugin import Pusher
from ._rows import Batch

T = TypeVar("T")

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Gone(Exception):
    """The instance is not configured, or is closing."""


class Stream(Protocol):
    """The host's end of one delivery stream."""

    async def receive(self) -> Batch | None:
        """The next batch; None when no more come."""

    async def acknowledge(self, seq: int, outcomes: list[tuple[int, int, Outcome]], window: int) -> None: ...


class Worker:
    """A thread for plain functions of one instance, one at a time. It is a daemon: a function that never returns does not
    keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._name = name
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[[], T], on_cancel: Callable[[], None] | None = None) -> T:
        """A thread cannot be cancelled: a cancelled call waits for its end, and then is what the function returned."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((function, future, loop))
        while True:
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                if future.done():
                    raise
                if on_cancel is not None:
                    on_cancel()

    def stop(self) -> None:
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future, loop = job
            result: Any = None
            error: BaseException | None = None
            try:
                result = function()
            except Exception as e:
                error = e
            except BaseException as e:
                crash(e)
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                return  # the loop has ended, and the process with it


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def crash(error: BaseException) -> None:
    """SystemExit and its like in the plugin's code end the process, at once: the host starts it again."""
    traceback.print_exception(error)
    sys.stderr.flush()
    code = error.code if isinstance(error, SystemExit) else 1
    os._exit(code if isinstance(code, int) else 1)


async def guarded(awaitable: Awaitable[T]) -> T:
    """Awaits the plugin's own code."""
    try:
        return await awaitable
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        crash(error)
        raise


class Instance:
    def __init__(self, name: str, pusher: Pusher, window: int, log: Log) -> None:
        self.name = name
        self.pusher = pusher
        self.log = log
        self._window = window
        self._delivering = asyncio.Lock()  # held by the one stream that delivers; kept for ever once the instance is closed
        self._retired = asyncio.Event()  # finish the batch in hand, then end the stream
        self._streams: set[asyncio.Task[None]] = set()
        self._worker = Worker(f"{name}-deliver")
        self._asker = Worker(f"{name}-health")
        self._async = inspect.iscoroutinefunction(pusher.deliver)

    async def open(self) -> None:
        await self._optional("open", self._worker)

    async def health(self) -> None:
        await self._optional("health", self._asker)

    async def _optional(self, name: str, worker: Worker) -> None:
        method = getattr(self.pusher, name, None)
        if method is None:
            return
        if inspect.iscoroutinefunction(method):
            await guarded(method())
        else:
            await worker.call(method)

    async def close(self) -> None:
        """Finishes the batch in hand and closes the pusher. When it is cancelled before that, the batch is broken off, and
        close may be called again."""
        self._retired.set()
        try:
            await self._delivering.acquire()
        except asyncio.CancelledError:
            self.abort()
            raise
        self.abort()
        try:
            await self._optional("close", self._worker)
        finally:
            self._worker.stop()
            self._asker.stop()

    def abort(self) -> None:
        """Breaks off every stream."""
        for task in self._streams:
            task.cancel()

    async def serve(self, stream: Stream) -> None:
        """Serves one stream: batch by batch, in order, each acknowledged before the next begins. One batch is received
        ahead, so that it is there when the former ends."""
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        ahead = asyncio.ensure_future(stream.receive())
        retired = asyncio.ensure_future(self._retired.wait())
        try:
            # A stream that broke may still be inside deliver when the host opens the next one.
            if not await self._take(retired):
                raise Gone(f"{self.name} is closing")
            try:
                while True:
                    await asyncio.wait((ahead, retired), return_when=asyncio.FIRST_COMPLETED)
                    if self._retired.is_set():
                        return  # what was not acknowledged is sent again, to the next instance
                    batch = ahead.result()
                    if batch is None:
                        return
                    ahead = asyncio.ensure_future(stream.receive())
                    error = await self._deliver(batch)
                    outcomes = batch._finish(error)
                    if batch.cancelled:
                        raise asyncio.CancelledError  # nobody listens any more
                    await stream.acknowledge(batch.seq, outcomes, self._window)
            finally:
                self._delivering.release()
        finally:
            self._streams.discard(task)
            retired.cancel()
            ahead.cancel()

    async def _take(self, retired: asyncio.Future[Any]) -> bool:
        taking = asyncio.ensure_future(self._delivering.acquire())
        try:
            await asyncio.wait((taking, retired), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not taking.cancel() and not taking.cancelled():
                self._delivering.release()
            raise
        if taking.done():
            return True
        taking.cancel()
        return False

    async def _deliver(self, batch: Batch) -> Exception | None:
        try:
            if self._async:
                await guarded(self.pusher.deliver(batch))  # type: ignore[arg-type]
            else:
                await self._worker.call(lambda: self.pusher.deliver(batch), batch._cancelled.set)
        except asyncio.CancelledError:
            batch._cancelled.set()
        except Exception as error:
            if not isinstance(error, PushError) and not batch.cancelled:
                self.log.error("deliver raised an exception: the rows are sent again", exc_info=error)
            return error
        return None
