"""What the author of a Rivergate plugin imports.

A pusher is a class with one method, its settings are a dataclass. The host starts the plugin, fills the dataclass from the
operator's PLUGIN_<NAME>_… variables, and has batches of rows delivered until it tells the plugin to stop:

    @dataclass
    class Settings:
        url: str = setting(required=True, format="uri", doc="Where rows go.")
        token: Secret = setting(doc="Bearer token.")

    class Acme:
        def __init__(self, settings: Settings, env: Env) -> None:
            self.settings, self.log = settings, env.log

        async def deliver(self, batch: Batch) -> None:
            for row in batch:
                try:
                    await self.post(row.json)
                except ConnectionError as error:
                    batch.fail(row, error)  # sent again later; the other rows are done

    if __name__ == "__main__":
        serve(Plugin(name="acme", version="1.0.0", summary="Posts rows to Acme.", settings=Settings, pusher=Acme))
"""

from . import _stdio  # noqa: F401  # first: it takes standard output away before anything can print
from ._log import Log
from ._outcome import BadCredentials, FieldError, Outcome, OutcomeClass, Permanent, PushError, RetryIn, Throttle
from ._plugin import Env, Plugin, Pusher
from ._process import serve
from ._rows import Batch, Frame, Row
from ._settings import Secret, SettingsError, Size, setting
from ._value import Value
from ._version import VERSION as __version__

__all__ = [
    "BadCredentials", "Batch", "Env", "FieldError", "Frame", "Log", "Outcome", "OutcomeClass", "Permanent", "Plugin", "PushError",
    "Pusher", "RetryIn", "Row", "Secret", "SettingsError", "Size", "Throttle", "Value", "__version__", "serve", "setting",
]
