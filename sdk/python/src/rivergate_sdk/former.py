"""Runs the former gateway's in-process pushers unchanged: class Pusher, made with a logger, whose push(uuid, rows) is called
with the rows of one request. rivergate plugin wrap-python makes a plugin of such a folder."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from ._outcome import text_of
from ._plugin import Env, Plugin
from ._process import serve
from ._rows import Batch, Row
from ._settings import Secret, setting

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL")


class FormerRow(dict[str, Any]):
    """A row as the former gateway's model had it: row.index and row.data, and as a dict."""

    @property
    def index(self) -> int | None:
        """The client's index; None when it gave none."""
        return self["index"]  # type: ignore[no-any-return]

    @property
    def data(self) -> Any:
        """The row's members, in the client's order."""
        return self["data"]

    def dict(self) -> dict[str, Any]:
        """As the model's own method."""
        return {"index": self.index, "data": self.data}

    model_dump = dict


class Former:
    """A Pusher of the former gateway behind deliver."""

    def __init__(self, folder: str, variables: dict[str, str], settings: Any, env: Env) -> None:
        self._folder = folder
        self._variables = variables
        self._settings = settings
        self._env = env

    def open(self) -> None:
        # The code reads its variables where it always did. A process serves one instance, so they are nobody else's.
        for name, variable in self._variables.items():
            value = getattr(self._settings, name)
            os.environ.pop(variable, None)
            if value:
                os.environ[variable] = value.reveal() if isinstance(value, Secret) else value
        # Read once more, with the settings of now: the code may keep them in variables of its modules.
        package_name = f"plugins.{self._folder}"
        for loaded in [m for m in sys.modules if m == package_name or m.startswith(package_name + ".")]:
            del sys.modules[loaded]
        # Its neighbours were imported as plugins.<folder>.x, as .x, or as x.
        package = importlib.import_module(package_name)
        sys.path.extend(path for path in package.__path__ if path not in sys.path)
        module = importlib.import_module(f"{package_name}.pusher")
        pusher = module.Pusher(logging.getLogger(self._env.log.logger.name))
        self._push = pusher.push

    def deliver(self, batch: Batch) -> None:
        for f, frame in enumerate(batch.frames):
            rows, models = [], []
            for n in range(len(frame)):
                if batch._behind(f, n):
                    continue
                row = Row(frame, f, n)
                try:
                    models.append(FormerRow(index=row.index, data=row.decode()))
                except (ValueError, RecursionError) as error:  # a number of thousands of digits, and other oddities
                    batch.reject(row, "undecodable", text_of(error))
                    continue
                rows.append(row)
            if not rows:
                continue
            try:
                done = self._push(frame.uuid, models)
                if inspect.isawaitable(done):
                    asyncio.run(_awaited(done))
            except Exception as error:
                self._env.log.error("push raised an exception: its rows are sent again", exc_info=error, extra={"uuid": frame.uuid})
                for row in rows:
                    batch.fail(row, error)
            if batch.cancelled:
                return
            batch.working()


async def _awaited(awaitable: Any) -> None:
    await awaitable


def plugin(name: str, folder: str, version: str, variables: Sequence[str]) -> Plugin:
    """variables are the former names, such as PLUGIN_RIFFYN_API_KEY; each becomes a setting of the same variable."""
    prefix = "PLUGIN_" + name.upper().replace("-", "_") + "_"
    names = {variable[len(prefix) :].lower(): variable for variable in variables}
    fields = [
        (n, Secret if _SECRET.search(variable) else str, setting(doc=f"Handed to the wrapped code as {variable}.")) for n, variable in names.items()
    ]
    return Plugin(
        name=name, version=version, summary=f"The former gateway's pusher {folder}, wrapped.", settings=dataclasses.make_dataclass("Settings", fields),
        pusher=lambda settings, env: Former(folder, names, settings, env),
    )


def run(name: str, folder: str, version: str, variables: Sequence[str]) -> None:
    serve(plugin(name, folder, version, variables))
