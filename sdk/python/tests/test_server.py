import asyncio
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from rivergate_sdk import BadCredentials, Batch, Env, FieldError, OutcomeClass, Permanent, Plugin, Throttle, setting, testing
from rivergate_sdk._process import _mutual_tls


@dataclass
class Settings:
    mode: str = setting(default="fine")


class Sample:
    """Does what the rows ask it to."""

    def __init__(self, settings: Settings, env: Env) -> None:
        self.settings, self.env, self.calls = settings, env, []  # type: ignore[var-annotated]
        made.append(self)

    async def open(self) -> None:
        self.calls.append("open")
        if self.settings.mode == "broken":
            raise FieldError("mode", "is broken")
        if self.settings.mode == "many":
            raise ExceptionGroup("several", [FieldError("mode", "one"), OSError("two")])

    async def deliver(self, batch: Batch) -> None:
        for row in batch:
            await self.one(batch, row)

    async def one(self, batch: Batch, row: Any) -> None:
        wish = str(row.field("wish") or "")
        if wish == "raise":
            raise OSError("down")
        if wish == "wait":
            self.calls.append("waiting")
            try:
                await asyncio.sleep(60)
            finally:
                self.calls.append("cancelled")
        errors = {"permanent": Permanent("http_422", "no"), "throttle": Throttle(7, "busy"), "credentials": BadCredentials("http_401", "who?")}
        if wish in errors:
            batch.fail(row, errors[wish])

    async def health(self) -> None:
        if self.settings.mode == "sick":
            raise OSError("sick")

    async def close(self) -> None:
        self.calls.append("close")


class Plain:
    """Plain functions, which block."""

    def __init__(self, settings: Settings, env: Env) -> None:
        self.go, self.seen = threading.Event(), []  # type: ignore[var-annotated]
        made.append(self)

    def deliver(self, batch: Batch) -> None:
        self.seen.append(threading.current_thread() is not threading.main_thread())
        for row in batch:
            if row.field("wish") is not None:
                while not self.go.wait(0.01):
                    if batch.cancelled:
                        self.seen.append("cancelled")
                        return
                    batch.working()


made: list[Any] = []
SAMPLE = Plugin(name="sample", version="1.0.0", pusher=Sample, settings=Settings)
PLAIN = Plugin(name="plain", version="1.0.0", pusher=Plain, settings=Settings, window=2)


def until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)


def test_each_exception_becomes_the_outcome_that_fits() -> None:
    with testing.start(SAMPLE) as host:
        rows = [b'{"wish":"permanent"}', b"{}", b'{"wish":"throttle"}', b'{"wish":"credentials"}', b'{"wish":"raise"}', b"{}"]
        got = host.deliver(testing.frame("u", *rows, position=100))
        assert [(r.position, r.outcome.name, r.code, r.retry_after_ms) for r in got] == [
            (100, "REJECTED", "http_422", 0), (101, "RETRY", "error", 0), (102, "THROTTLED", "throttled", 7000),
            (103, "UNAUTHENTICATED", "http_401", 0), (104, "RETRY", "error", 0), (105, "RETRY", "error", 0),
        ]
        assert got[4].message == "OSError: down"
        assert host.deliver(testing.frame("u", b"{}")) == []
        host.finish()


def test_open_says_which_setting_is_wrong() -> None:
    with testing.connect(SAMPLE) as host:
        assert [(p.field, p.reason) for p in host.configure({"mode": "broken"})] == [("mode", "is broken")]
        assert [(p.field, p.reason) for p in host.configure({"mode": "many"})] == [("mode", "one"), ("", "OSError: two")]
        assert [p.field for p in host.configure({"mod": "x"})] == ["mod"]
        with pytest.raises(grpc.RpcError) as caught:
            host.health()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_is_the_plugins_own_word() -> None:
    with testing.start(SAMPLE, {"mode": "sick"}) as host:
        assert host.health() == "OSError: sick"
        assert host.configure({}) == []
        assert host.health() == ""


def test_a_stream_that_breaks_cancels_deliver_and_the_rows_come_again() -> None:
    made.clear()
    with testing.start(SAMPLE) as host:
        sending = threading.Thread(target=lambda: pytest.raises(Exception, host.deliver, testing.frame("u", b'{"wish":"wait"}')))
        sending.start()
        until(lambda: "waiting" in made[0].calls)
        host.cut()
        sending.join(10)
        until(lambda: "cancelled" in made[0].calls)
        host.reopen()
        assert host.deliver(testing.frame("u", b"{}")) == []
        assert made[0].calls == ["open", "waiting", "cancelled", "close"]


def test_a_plain_function_runs_in_a_thread_and_hears_that_nobody_listens() -> None:
    made.clear()
    with testing.start(PLAIN) as host:
        assert host.deliver(testing.frame("u", b"{}")) == []
        sending = threading.Thread(target=lambda: pytest.raises(Exception, host.deliver, testing.frame("u", b'{"wish":"wait"}')))
        sending.start()
        until(lambda: len(made[0].seen) == 2)
        assert host.health() == ""  # also while deliver blocks
        host.cut()
        sending.join(10)
        until(lambda: "cancelled" in made[0].seen)
        host.open()
        made[0].go.set()
        assert host.deliver(testing.frame("u", b'{"wish":"wait"}')) == []


def test_drain_finishes_what_is_in_hand_and_may_come_twice() -> None:
    made.clear()
    with testing.start(PLAIN) as host:
        results: list[Any] = []
        sending = threading.Thread(target=lambda: results.append(host.deliver(testing.frame("u", b'{"wish":"wait"}'))))
        sending.start()
        until(lambda: made[0].seen)
        draining = threading.Thread(target=host.drain)
        draining.start()
        made[0].go.set()
        sending.join(10)
        draining.join(10)
        assert results == [[]]
        host.drain()


def test_what_the_protocol_does_not_allow_is_refused() -> None:
    with testing.start(SAMPLE) as host:
        bad = testing.frame("u", b"{}")
        bad.ends[0] = 99
        with pytest.raises(grpc.RpcError) as caught:
            host.deliver(bad)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError):
            host.handshake(99)


def test_a_declaration_that_is_wrong_says_all_of_it() -> None:
    with pytest.raises(ValueError, match="(?s)reserved.*semantic version.*out of range"):
        Plugin(name="storage", version="one", pusher=Sample, window=-1).check()


def test_outcomes_carry_the_numbers_of_the_protocol() -> None:
    from rivergate_sdk.proto.v1 import pusher_pb2

    for outcome in OutcomeClass:
        assert pusher_pb2.OutcomeClass.Value(f"OUTCOME_CLASS_{outcome.name}") == outcome


def test_mutual_tls_without_what_it_takes_says_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rivergate_sdk._certificate", None)  # importing it raises ImportError
    with pytest.raises(RuntimeError, match=r"add rivergate-sdk\[mtls\] to its requirements"):
        _mutual_tls("-----BEGIN CERTIFICATE-----")
