"""rivergate-pusher-pylite puts rows into an SQLite file, each row once: for tests that send rows through the real host to a
plugin in Python."""

import sqlite3
from dataclasses import dataclass

from rivergate_sdk import Batch, Env, Plugin, serve, setting


@dataclass
class Settings:
    path: str = setting(required=True, doc="SQLite file; made when it is missing.")


class Lite:
    def __init__(self, settings: Settings, env: Env) -> None:
        self._path = settings.path

    def open(self) -> None:
        # Deliver runs in another thread than this, but never beside it.
        self._rows = sqlite3.connect(self._path, timeout=10, check_same_thread=False)
        self._rows.execute("CREATE TABLE IF NOT EXISTS rivergate_rows (position INTEGER PRIMARY KEY, uuid TEXT NOT NULL, data BLOB NOT NULL)")

    def deliver(self, batch: Batch) -> None:
        with self._rows:  # one transaction, on disk when it returns: silence means delivered, durably
            self._rows.executemany(
                "INSERT OR IGNORE INTO rivergate_rows (position, uuid, data) VALUES (?, ?, ?)", ((row.position, row.uuid, row.json) for row in batch)
            )

    def close(self) -> None:
        self._rows.close()


PLUGIN = Plugin(name="pylite", version="1.0.0", author="Rivergate", summary="Puts rows into an SQLite file, each row once.", settings=Settings, pusher=Lite)


def main() -> None:
    serve(PLUGIN)


if __name__ == "__main__":
    main()
