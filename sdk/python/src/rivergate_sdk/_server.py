"""The plugin's side of the protocol without the process around it: the instances of one process."""

from __future__ import annotations

import asyncio
import logging

from ._instance import Gone, Instance, Stream
from ._outcome import FieldError, text_of
from ._plugin import Env, Plugin, log_of
from ._settings import Problem


class Unhealthy(Exception):
    """The plugin answered, and the answer was no."""


class _Slot:
    """The place of one instance: empty before configure and after drain."""

    def __init__(self) -> None:
        self.change = asyncio.Lock()  # held while the instance is being made, replaced or released
        self.current: Instance | None = None


class Server:
    def __init__(self, plugin: Plugin, log: logging.Logger) -> None:
        self.plugin = plugin
        self.spec = plugin.check()
        self.schema = self.spec.schema().encode()
        self.log = log
        self._slots: dict[str, _Slot] = {}

    async def configure(self, name: str, config: bytes) -> list[Problem]:
        """Makes a new pusher and opens it. An instance of that name is closed first, after its stream has finished the batch
        in hand, so that two never hold the same file or connection."""
        slot = self._slots.setdefault(name, _Slot())
        async with slot.change:
            settings, problems = self.spec.decode(config)
            if problems:
                return problems
            await self._retire(slot)
            log = log_of(self.log, name)
            try:
                instance = Instance(name, self.plugin.pusher(settings, Env(name, log)), self.plugin.window, log)
                await instance.open()
            except Exception as error:
                problems = _problems_of(error)
                if any(not p.field for p in problems):
                    log.error("open raised an exception", exc_info=error)
                return problems
            slot.current = instance
            return []

    async def health(self, name: str) -> None:
        if not name:
            return
        instance = self._current(name)
        try:
            await instance.health()
        except Exception as error:
            raise Unhealthy(text_of(error)) from error

    async def drain(self, name: str) -> None:
        """Idempotent: an instance that is not there has nothing left to finish."""

        async def one(slot: _Slot) -> None:
            async with slot.change:
                await self._retire(slot)

        slots = [slot for n, slot in self._slots.items() if name in ("", n)]
        results = await asyncio.gather(*(one(slot) for slot in slots), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def deliver(self, name: str, stream: Stream) -> None:
        await self._current(name).serve(stream)

    def known(self, name: str) -> bool:
        slot = self._slots.get(name)
        return slot is not None and slot.current is not None

    def stop(self) -> None:
        """Breaks off every deliver that still runs."""
        for slot in self._slots.values():
            if slot.current is not None:
                slot.current.abort()

    def _current(self, name: str) -> Instance:
        slot = self._slots.get(name)
        if slot is None or slot.current is None:
            raise Gone(f"instance is not configured: {name}")
        return slot.current

    async def _retire(self, slot: _Slot) -> None:
        if slot.current is None:
            return
        instance = slot.current
        try:
            await instance.close()
        except asyncio.CancelledError:
            raise  # it keeps its place: the next attempt goes on from here
        except Exception:
            slot.current = None
            raise
        slot.current = None


def _problems_of(error: BaseException) -> list[Problem]:
    """A FieldError names its setting; a group of exceptions has one problem for each."""
    parts = getattr(error, "exceptions", None)
    if parts:
        return [problem for part in parts for problem in _problems_of(part)]
    seen: BaseException | None = error
    for _ in range(64):
        if seen is None or isinstance(seen, FieldError):
            break
        seen = seen.__cause__
    return [Problem(seen.field if isinstance(seen, FieldError) else "", text_of(error))]
