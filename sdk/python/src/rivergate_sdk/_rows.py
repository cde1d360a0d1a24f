"""Frames, rows and batches: what deliver gets, and the place where the outcomes of its rows are noted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from ._outcome import SENT_AGAIN, Outcome, OutcomeClass, outcome_of
from ._value import Value, members, text_of

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_WORKING_PAUSE = 0.25  # seconds; the shortest time between two messages of working


class Frame:
    """Rows of one accepted request: one org, one uuid, one instant."""

    __slots__ = ("org_id", "user_id", "uuid", "position", "received_at_ns", "data", "ends", "index", "trigger", "request_id", "trace_parent")

    def __init__(
        self, org_id: int, user_id: int, uuid: str, position: int, received_at_ns: int, data: bytes, ends: list[int],
        index: list[int], trigger: bytes, request_id: str, trace_parent: str,
    ) -> None:
        self.org_id = org_id
        self.user_id = user_id
        """0: no user."""
        self.uuid = uuid
        self.position = position
        """That of row 0; row i has position + i."""
        self.received_at_ns = received_at_ns
        self.data = data
        """The rows' own JSON bytes, one after another."""
        self.ends = ends
        """Row i is data[ends[i-1]:ends[i]]."""
        self.index = index
        """The client's index of each row, -1 where it gave none; empty: no row has one."""
        self.trigger = trigger
        self.request_id = request_id
        self.trace_parent = trace_parent

    def __len__(self) -> int:
        return len(self.ends)


class Row:
    """A view of one row of a batch. Its bytes stay valid for as long as somebody holds it."""

    __slots__ = ("_frame", "_f", "_n")

    def __init__(self, frame: Frame, f: int, n: int) -> None:
        self._frame = frame
        self._f = f
        self._n = n

    @property
    def json(self) -> bytes:
        """The client's own bytes of the row: valid JSON, members in the client's order, numbers as it wrote them."""
        ends, n = self._frame.ends, self._n
        return self._frame.data[ends[n - 1] if n else 0 : ends[n]]

    @property
    def uuid(self) -> str:
        """The opaque id under which the client sent the row."""
        return self._frame.uuid

    @property
    def index(self) -> int | None:
        """The client's index of the row; None when it gave none."""
        index = self._frame.index
        if not index or index[self._n] < 0:
            return None
        return index[self._n]

    @property
    def position(self) -> int:
        """Stable over retries and restarts, and unique: a destination may drop a row whose position it has."""
        return self._frame.position + self._n

    @property
    def org_id(self) -> int:
        return self._frame.org_id

    @property
    def user_id(self) -> int:
        """The user who sent the row; 0 for none."""
        return self._frame.user_id

    @property
    def received_at(self) -> datetime:
        """When the host accepted the row, in UTC."""
        return _EPOCH + timedelta(microseconds=self._frame.received_at_ns // 1000)

    @property
    def request_id(self) -> str:
        """The X-Request-ID of the POST that brought the row, for logs."""
        return self._frame.request_id

    @property
    def trace_parent(self) -> str:
        """The W3C trace context of that POST, for a traceparent header; empty: not traced."""
        return self._frame.trace_parent

    @property
    def trigger(self) -> bytes | None:
        """The JSON context of the row's uuid, for a plugin that asked for it."""
        return self._frame.trigger or None

    def fields(self) -> Iterator[tuple[str, Value]]:
        """The members of the row's object as the client sent them: in its order, duplicate names included. One pass over the
        bytes; use it rather than many calls of field."""
        return members(text_of(self.json))

    def field(self, name: str) -> Value | None:
        """The member of that name; of several the last, as JSON readers have it. Each call scans the row."""
        found = None
        for key, value in self.fields():
            if key == name:
                found = value
        return found

    def decode(self) -> Any:
        """What json.loads makes of the row."""
        return json.loads(self.json)

    def __repr__(self) -> str:
        return f"<row {self.position} of {self.uuid!r}>"


_Place = tuple[int, int]  # of a frame in the batch, of a row in the frame
_Key = tuple[int, str]  # org and uuid: what an ordered batch keeps in order

_BEHIND = Outcome(OutcomeClass.RETRY, "not_sent", "an earlier row of the same uuid is to be delivered first")


class Batch:
    """The rows of one call of deliver. Its methods may be called from several threads, until deliver returns. The last word
    about a row counts; a row of another batch is ignored."""

    def __init__(self, seq: int, frames: list[Frame], ordered: bool = False, send_working: Callable[[], None] | None = None) -> None:
        self.seq = seq
        self.frames = frames
        self.ordered = ordered
        """Under ORDER=key: rows passes over the rows of a uuid behind one that is to be sent again."""
        self._lock = threading.Lock()
        self._said: dict[_Place, Outcome | None] = {}
        self._waits: dict[_Key, set[_Place]] = {}  # places of rows that are to be sent again, when ordered
        self._first: dict[_Key, _Place] = {}  # the first of each
        self._finished = False
        self._cancelled = threading.Event()
        self._send_working = send_working
        self._told = -_WORKING_PAUSE

    def __len__(self) -> int:
        return sum(len(frame.ends) for frame in self.frames)

    def __iter__(self) -> Iterator[Row]:
        return self.rows()

    def rows(self) -> Iterator[Row]:
        """The rows, in order. When the batch is ordered, without those of a uuid of which an earlier row was just said to be
        sent again: they are sent again with it."""
        waits = self._waits
        for f, frame in enumerate(self.frames):
            for n in range(len(frame.ends)):
                if waits and self._behind(f, n):
                    continue
                yield Row(frame, f, n)

    @property
    def cancelled(self) -> bool:
        """The stream broke, or the plugin is stopping by force: nobody waits for the outcomes any more. An async deliver is
        cancelled as asyncio does it; a plain one looks here between two steps."""
        return self._cancelled.is_set()

    def fail(self, row: Row, error: BaseException | None) -> None:
        """The row was not delivered, with the class of the PushError that error is or that caused it, otherwise RETRY. None
        takes back what was said: it was delivered after all."""
        self._note(row, None if error is None else outcome_of(error))

    def reject(self, row: Row, code: str, reason: object) -> None:
        """The row can never be delivered: it goes to the dead letters under code, short and stable ("http_422")."""
        self._note(row, Outcome(OutcomeClass.REJECTED, code, str(reason)))

    def skip(self, row: Row, reason: object) -> None:
        """The row is not meant for this destination. It is done, and counted apart."""
        self._note(row, Outcome(OutcomeClass.SKIPPED, "skipped", str(reason)))

    def duplicate(self, row: Row) -> None:
        """The destination had the row already. It counts as delivered."""
        self._note(row, Outcome(OutcomeClass.DUPLICATE, "duplicate", ""))

    def working(self) -> None:
        """deliver gets on with a batch that takes its time: the host, which ends a plugin that acknowledges nothing for
        TIMEOUT, starts that clock again. Call it after each step that was really made; no more than four a second leave."""
        with self._lock:
            now = time.monotonic()
            if self._finished or self._send_working is None or now - self._told < _WORKING_PAUSE:
                return
            self._told = now
            self._send_working()

    def _behind(self, f: int, n: int) -> bool:
        frame = self.frames[f]
        with self._lock:
            first = self._first.get((frame.org_id, frame.uuid))
            if first is None or first >= (f, n):
                return False
            said = (f, n) in self._said
        if not said:
            self._note(Row(frame, f, n), _BEHIND)
        return True

    def _note(self, row: Row, outcome: Outcome | None) -> None:
        place = (row._f, row._n)
        with self._lock:
            # After deliver has returned the acknowledgement is on its way.
            if self._finished or row._f >= len(self.frames) or self.frames[row._f] is not row._frame:
                return
            self._said[place] = outcome
            if not self.ordered:
                return
            key = (row.org_id, row.uuid)
            if outcome is not None and outcome.outcome in SENT_AGAIN:
                self._waits.setdefault(key, set()).add(place)
                self._first[key] = min(place, self._first.get(key, place))
            elif key in self._waits:
                places = self._waits[key]
                places.discard(place)
                if not places:
                    del self._waits[key], self._first[key]
                elif place == self._first[key]:
                    self._first[key] = min(places)

    def _finish(self, error: BaseException | None) -> list[tuple[int, int, Outcome]]:
        """Ends the batch with what deliver raised: (position of the frame, row in it, outcome) of what was not delivered."""
        with self._lock:
            self._finished = True
            said = self._said
        if error is None:
            return [(self.frames[f].position, n, outcome) for (f, n), outcome in said.items() if outcome is not None]
        rest = outcome_of(error)
        out = []
        for f, frame in enumerate(self.frames):
            for n in range(len(frame.ends)):
                outcome = said.get((f, n), rest)
                if outcome is not None:
                    out.append((frame.position, n, outcome))
        return out
