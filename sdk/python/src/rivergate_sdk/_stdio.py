"""Standard output belongs to the handshake: importing this module takes it away from everybody else.

It comes first of all imports, so that a print in whatever library, or in C code, reaches the host's log and not the
handshake. It touches nothing unless a host started the process.
"""

import os
import sys

ENV_COOKIE = "RIVERGATE_PLUGIN"
COOKIE_VALUE = "c9f1d3a0-rows-in-kept-safe-out"


def _take() -> int | None:
    if os.environ.get(ENV_COOKIE) != COOKIE_VALUE:
        return None
    # Not inherited: a child of the plugin must not hold the host's pipe open, nor take itself for a plugin.
    handshake = os.dup(1)
    os.set_inheritable(handshake, False)
    os.dup2(2, 1)
    del os.environ[ENV_COOKIE]
    sys.stdout = sys.stderr  # one buffer, flushed with each line: a print does not land inside a log line
    return handshake


HANDSHAKE: int | None = _take()
"""The standard output with which the process was started; None when no host started it."""
