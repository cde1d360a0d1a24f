"""What a plugin is, and what its author writes."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ._log import Log
from ._rows import Batch
from ._settings import SettingsError, Spec
from ._version import VERSION

SDK = f"rivergate-sdk-python/{VERSION}"
PROTOCOL_VERSIONS = (2, 1)
CAP_INSTANCES = "instances"

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_VERSION = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?")
_RESERVED = ("client", "unix", "multiplex", "min", "max", "protocol", "pusher", "connector", "storage", "engine")


@dataclass(frozen=True)
class Env:
    """What an instance gets beside its settings."""

    instance: str
    """Its name, as the operator sees it."""
    log: Log


class Pusher(Protocol):
    """Takes rows to a destination. The SDK makes one per instance, by Plugin.pusher(settings, env).

    deliver takes one batch, and is called once at a time per instance, in the order in which the host sent the batches. It
    is async, or a plain function: then it runs in a thread of its own and may block. It has no deadline: bound what you wait
    for, well below the host's PLUGIN_<NAME>_TIMEOUT, and fail the rows. A plugin that acknowledges nothing for so long is
    killed as stuck, and a row on which that happens three times, alone, goes to the dead letters.

    A row about which nothing is said was delivered, durably: after deliver has returned the host never sends it again. Say
    otherwise with the methods of Batch. An exception applies to each row about which nothing was said: a PushError by its
    class, any other as RETRY. The host may send a row twice (after a crash, or a lost acknowledgement): use Row.position to
    recognise it.

    Three more methods are optional, async or plain:
      open()    once, before the first deliver: connections, files. An exception is shown to the operator as a problem of
                the configuration, and the host tries again with backoff; FieldError names the setting. After one nothing
                else is called: release what was opened.
      health()  every few seconds, also while deliver runs: raises when this instance cannot work now. Within a second,
                without side effects.
      close()   once, after the last deliver.
    """

    def deliver(self, batch: Batch, /) -> Awaitable[None] | None: ...


@dataclass(frozen=True)
class Plugin:
    """A plugin file: what it is, and how to make an instance of what it does."""

    name: str
    """[a-z][a-z0-9-]*; the file is rivergate-pusher-<name>."""
    version: str
    """A semantic version."""
    pusher: Callable[[Any, Env], Pusher]
    """Makes one instance of its settings and its env: a class with such a constructor."""
    settings: type | None = None
    """A dataclass whose fields are declared with setting(); None: nothing can be set."""
    summary: str = ""
    author: str = ""
    needs_trigger: bool = False
    """Asks the host to look up the trigger of each uuid and hand it along with the rows."""
    instances: bool = False
    """One process may serve many instances: nothing is shared between them but what is safe to share."""
    max_batch_rows: int = 0
    """Limits that the destination imposes; 0 leaves them to the host and the operator."""
    max_batch_bytes: int = 0
    window: int = 0
    """Batches in flight."""

    def check(self) -> Spec:
        """The settings, or a ValueError that says all that is wrong with the declaration."""
        wrong = []
        if not _NAME.fullmatch(self.name):
            wrong.append(f"name {self.name!r} is not of the form [a-z][a-z0-9-]*")
        if self.name in _RESERVED:
            wrong.append(f"name {self.name!r} is reserved")
        if not _VERSION.fullmatch(self.version):
            wrong.append(f"version {self.version!r} is not a semantic version such as 1.0.0")
        if not (0 <= self.max_batch_rows < 2**31 and 0 <= self.max_batch_bytes < 2**63 and 0 <= self.window < 2**31):
            wrong.append("a limit is out of range")
        spec = None
        try:
            spec = Spec(self.settings or _NoSettings)
        except SettingsError as error:
            wrong.append(str(error))
        if wrong or spec is None:
            raise ValueError(f"plugin {self.name!r} cannot be served: " + "; ".join(wrong))
        return spec

    @property
    def binary(self) -> str:
        return f"rivergate-pusher-{self.name}"

    @property
    def prefix(self) -> str:
        """The beginning of the variables of the plugin's own instance."""
        return "PLUGIN_" + self.name.upper().replace("-", "_") + "_"


@dataclass
class _NoSettings:
    pass


def log_of(logger: logging.Logger, instance: str) -> Log:
    return Log(logger, {"instance": instance})
