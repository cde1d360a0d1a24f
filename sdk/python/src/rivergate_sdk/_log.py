"""Logging through the host: one JSON line per record on standard error, as hclog writes them."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import MutableMapping
from datetime import datetime, timezone
from typing import Any

ENV_LEVEL = "RIVERGATE_LOG_LEVEL"
_LEVELS = {"trace": 5, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Handler(logging.Handler):
    """Writes a line with one call: lines of two threads, or of C code, do not mix."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception as error:  # a format string that does not fit its arguments is no reason to lose the plugin
            line = f"log record of {record.name} cannot be written: {error}\n"
        data = memoryview(line.encode("utf-8", "backslashreplace"))
        try:
            sys.stderr.flush()
            while data:
                data = data[os.write(2, data) :]
        except OSError:
            pass  # the host is dead: the plugin is to close in order nevertheless


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "@level": next((name for name, level in reversed(_LEVELS.items()) if record.levelno >= level), "trace"),
            "@message": record.getMessage(),
            "@timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        }
        if record.name != "root":
            entry["@module"] = record.name
        entry.update({k: v for k, v in vars(record).items() if k not in _OWN and not k.startswith("@")})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds fields to each line; extra={"rows": 3} adds more."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def set_up(name: str, as_json: bool) -> logging.Logger:
    """Points all logging of the process at standard error. The plugin's own logger writes from the wanted level on, those of
    libraries from info on at most: what they say at debug is not for the operator of a gateway."""
    level = _LEVELS.get(os.environ.get(ENV_LEVEL, "").lower(), logging.DEBUG)
    handler: logging.Handler = _Handler() if as_json else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines() if as_json else logging.Formatter("%(asctime)s [%(levelname)s] %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    logging.captureWarnings(True)
    logging.addLevelName(5, "TRACE")
    log = logging.getLogger(name)
    log.setLevel(level)

    def died(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_type is not SystemExit:
            name = arguments.thread.name if arguments.thread else "?"
            trace = (arguments.exc_type, arguments.exc_value or arguments.exc_type(), arguments.exc_traceback)
            log.error("a thread ended with an exception", exc_info=trace, extra={"thread": name})

    threading.excepthook = died
    return log
