"""What becomes of a row, and how exceptions say it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum


class OutcomeClass(IntEnum):
    """What the host does with a row that was not simply delivered. The numbers are those of the protocol."""

    RETRY = 1
    """Sent again, after the host's backoff or after retry_after."""
    THROTTLED = 2
    """Sent again, and no attempt is counted: the destination is well but busy."""
    REJECTED = 3
    """Never sent again: to the dead letters, with code and message."""
    UNAUTHENTICATED = 4
    """The credentials are wrong: the host holds the whole destination and counts no attempt."""
    DUPLICATE = 5
    """The destination had the row already: done."""
    SKIPPED = 6
    """Not meant for this destination: done, and counted apart."""


SENT_AGAIN = frozenset((OutcomeClass.RETRY, OutcomeClass.THROTTLED, OutcomeClass.UNAUTHENTICATED))


@dataclass(frozen=True)
class Outcome:
    outcome: OutcomeClass
    code: str
    message: str
    retry_after_ms: int = 0


class PushError(Exception):
    """An exception with a class of outcome. Raise one of its four kinds from deliver, for the rows about which nothing was
    said, or hand one to Batch.fail for a row. It also counts as the cause of another exception: raise X from Permanent(...)."""

    outcome = OutcomeClass.RETRY

    def __init__(self, code: str, message: object, retry_after: timedelta | float | None = None) -> None:
        super().__init__(str(message))
        self.code = code
        self.retry_after = _milliseconds(retry_after)


class Permanent(PushError):
    """No retry can mend it: the rows go to the dead letters under code, short and stable ("http_422")."""

    outcome = OutcomeClass.REJECTED

    def __init__(self, code: str, message: object) -> None:
        super().__init__(code, message)


class Throttle(PushError):
    """The destination is busy: again, not before after (seconds or a timedelta; None: the host decides)."""

    outcome = OutcomeClass.THROTTLED

    def __init__(self, after: timedelta | float | None, message: object) -> None:
        super().__init__("throttled", message, after)


class RetryIn(PushError):
    """It passes: again, not before after (seconds or a timedelta; None: the host's backoff)."""

    outcome = OutcomeClass.RETRY

    def __init__(self, after: timedelta | float | None, code: str, message: object) -> None:
        super().__init__(code, message, after)


class BadCredentials(PushError):
    """A matter of credentials: the host holds the destination until it accepts again."""

    outcome = OutcomeClass.UNAUTHENTICATED

    def __init__(self, code: str, message: object) -> None:
        super().__init__(code, message)


class FieldError(Exception):
    """Raised from open: the setting of this name is wrong. Several at once: an ExceptionGroup of them."""

    def __init__(self, field: str, reason: object) -> None:
        super().__init__(str(reason))
        self.field = field


def _milliseconds(after: timedelta | float | None) -> int:
    if after is None:
        return 0
    seconds = after.total_seconds() if isinstance(after, timedelta) else after
    if not seconds > 0:
        return 0
    return min(-int(-seconds * 1000 // 1), 2**32 - 1)  # rounded up: "not before 1.2 ms" is never sent as 1 ms


def text_of(error: BaseException) -> str:
    """The text of an exception for a person. That of a foreign one begins with its type: many say nothing without."""
    text = str(error)
    if isinstance(error, (PushError, FieldError)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def outcome_of(error: BaseException) -> Outcome:
    """The class of the PushError that error is, or that caused it; otherwise RETRY."""
    typed: BaseException | None = error
    seen = 0
    while typed is not None and not isinstance(typed, PushError) and seen < 64:
        typed, seen = typed.__cause__, seen + 1
    if isinstance(typed, PushError):
        return Outcome(typed.outcome, typed.code or "error", text_of(error), typed.retry_after)
    timeout = isinstance(error, (TimeoutError, asyncio.TimeoutError))
    return Outcome(OutcomeClass.RETRY, "timeout" if timeout else "error", text_of(error))
