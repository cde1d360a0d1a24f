"""rivergate-pusher-pynull counts rows and throws them away: the null pusher (plugins/testdata/null) in Python, for
benchmarks. It takes each row into its hands, as an author's loop does."""

import mmap
import os
import struct
from dataclasses import dataclass

from rivergate_sdk import Batch, Env, Plugin, Pusher, serve, setting

_COUNTS = struct.Struct("=5Q")  # rows, bytes, batches, through, pid: the page of plugins/testdata/null/page.go


@dataclass
class Settings:
    count_file: str = setting(required=True, doc="File that holds the counts, one page, shared with the measurer.")
    blocking: bool = setting(default=False, doc="Deliver in a thread, as a plain function.")


class Null:
    """Counts batch by batch, on the event loop."""

    def __init__(self, settings: Settings, env: Env) -> None:
        self._path = settings.count_file

    async def open(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, mmap.PAGESIZE)
            self._page = mmap.mmap(descriptor, mmap.PAGESIZE)
        finally:
            os.close(descriptor)

    async def deliver(self, batch: Batch) -> None:
        self.count(batch)

    async def close(self) -> None:
        self._page.close()

    def count(self, batch: Batch) -> None:
        rows, size, batches, through, _ = _COUNTS.unpack_from(self._page)
        for row in batch:
            rows += 1
            size += len(row.json)
            through = max(through, row.position + 1)
        _COUNTS.pack_into(self._page, 0, rows, size, batches + 1, through, os.getpid())


class Blocking(Null):
    """The same as a plain function."""

    def deliver(self, batch: Batch) -> None:  # type: ignore[override]
        self.count(batch)


def pusher(settings: Settings, env: Env) -> Pusher:
    return Blocking(settings, env) if settings.blocking else Null(settings, env)


def main() -> None:
    serve(Plugin(
        name="pynull", version="1.0.0", author="Rivergate", summary="Counts rows in a shared page and discards them.",
        settings=Settings, pusher=pusher, instances=True,
    ))


if __name__ == "__main__":
    main()
