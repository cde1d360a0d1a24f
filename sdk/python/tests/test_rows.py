import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rivergate_sdk import Batch, Frame, OutcomeClass, Permanent, RetryIn, Row, Value
from rivergate_sdk._value import members, text_of


def frame(uuid: str, *rows: bytes, position: int = 10, index: list[int] | None = None) -> Frame:
    ends, end = [], 0
    for row in rows:
        end += len(row)
        ends.append(end)
    return Frame(1, 0, uuid, position, 1_767_323_045_678_901_234, b"".join(rows), ends, index or [], b"", "", "")


def row(raw: bytes) -> Row:
    return next(Batch(1, [frame("u", raw)]).rows())


def test_a_row_is_the_clients_own_bytes_in_the_clients_order() -> None:
    batch = Batch(1, [frame("u", b'{"b":1.0,"a":"x"}', b' { "c" : 2e400 } ', index=[-1, 7]), frame("v", b"{}", position=12)])
    rows = list(batch)
    assert [r.json for r in rows] == [b'{"b":1.0,"a":"x"}', b' { "c" : 2e400 } ', b"{}"]
    assert [(r.uuid, r.position, r.index) for r in rows] == [("u", 10, None), ("u", 11, 7), ("v", 12, None)]
    assert rows[0].received_at.isoformat() == "2026-01-02T03:04:05.678901+00:00"
    assert [(k, v.raw) for k, v in rows[0].fields()] == [("b", b"1.0"), ("a", b'"x"')]
    assert len(batch) == 3


def test_duplicate_names_are_kept_and_the_last_is_found() -> None:
    r = row(b'{"k":1,"k":2,"l":null}')
    assert [(k, v.raw) for k, v in r.fields()] == [("k", b"1"), ("k", b"2"), ("l", b"null")]
    found = r.field("k")
    assert found is not None and int(found) == 2
    assert r.field("m") is None


def test_every_digit_of_a_number_is_kept() -> None:
    digits = "9" * 5000  # more than Python reads as an int
    r = row(b'{"n":0.1000000000000000055511151231257827,"m":' + digits.encode() + b"}")
    values = dict(r.fields())
    assert str(values["n"].decimal()) == "0.1000000000000000055511151231257827"
    assert str(values["m"]) == digits


def test_text_that_is_none_does_not_break_a_row() -> None:
    r = row(b'{"half":"\\ud800","bad":"a\xffb","\\u0000":"\\ud83d\\ude00"}')
    got = {k: str(v) for k, v in r.fields()}
    assert got == {"half": "\ufffd", "bad": "a\ufffdb", "\x00": "\U0001f600"}
    assert r.field("bad").raw == b'"a\xffb"'  # type: ignore[union-attr]


def test_values_that_are_something_else_say_so_without_showing_themselves() -> None:
    values = dict(row(b'{"s":"secret","b":true,"z":null,"o":{"a":[1]}}').fields())
    assert values["b"].boolean() is True
    for convert in (int, float, Value.boolean):
        try:
            convert(values["s"])
        except ValueError as error:
            assert "secret" not in str(error) and "a string" in str(error)
        else:
            raise AssertionError("a string is no number")
    assert values["o"].decode() == {"a": [1]} and [k for k, _ in values["o"].fields()] == ["a"]
    assert values["z"].is_null and str(values["z"]) == "" and "secret" not in repr(values["s"])


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8,
)


@given(st.lists(st.tuples(st.text(), json_values), max_size=6), st.sampled_from(["", " ", "\n\t"]), st.booleans())
def test_the_members_of_any_object_are_what_json_finds(pairs: list[tuple[str, Any]], blank: str, ascii_only: bool) -> None:
    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only)

    text = "{" + ",".join(f"{blank}{dump(k)}{blank}:{blank}{dump(v)}{blank}" for k, v in pairs) + "}"
    got = [(k, json.loads(v.raw, object_pairs_hook=list)) for k, v in members(text_of(text.encode()))]
    assert got == json.loads(text, object_pairs_hook=list)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_json_never_break_the_walk(raw: bytes) -> None:
    for name, value in members(text_of(b"{" + raw)):
        assert isinstance(name, str) and isinstance(value.raw, bytes)


def outcomes(batch: Batch, error: Exception | None = None) -> dict[int, str]:
    return {position + n: o.outcome.name for position, n, o in batch._finish(error)}


def test_under_order_the_rows_behind_a_failed_one_wait_for_it() -> None:
    batch = Batch(1, [frame("a", b"{}", b"{}"), frame("b", b"{}", position=20), frame("a", b"{}", position=30)], ordered=True)
    seen = []
    for r in batch:
        seen.append(r.position)
        if r.position == 10:
            batch.fail(r, ConnectionError("down"))
    assert seen == [10, 20]
    assert outcomes(batch) == {10: "RETRY", 11: "RETRY", 30: "RETRY"}


def test_a_row_that_was_delivered_after_all_lets_the_others_pass() -> None:
    batch = Batch(1, [frame("a", b"{}", b"{}", b"{}")], ordered=True)
    seen = []
    for r in batch:
        seen.append(r.position)
        if r.position == 10:
            batch.fail(r, OSError("x"))
            batch.fail(r, None)
        if r.position == 11:
            batch.reject(r, "bad", "never")
    assert seen == [10, 11, 12]
    assert outcomes(batch) == {11: "REJECTED"}


def test_an_exception_is_about_the_rows_of_which_nothing_was_said() -> None:
    batch = Batch(1, [frame("a", b"{}", b"{}", b"{}", b"{}")])
    rows = list(batch)
    batch.skip(rows[0], "not ours")
    batch.duplicate(rows[1])
    batch.fail(rows[2], None)
    assert outcomes(batch, Permanent("http_422", "no")) == {10: "SKIPPED", 11: "DUPLICATE", 13: "REJECTED"}
    batch.fail(rows[3], None)  # said too late
    assert outcomes(batch, Permanent("http_422", "no"))[13] == "REJECTED"


def test_a_row_of_another_batch_is_ignored() -> None:
    other = Batch(1, [frame("a", b"{}")])
    batch = Batch(2, [frame("a", b"{}")])
    batch.fail(next(other.rows()), OSError("x"))
    assert outcomes(batch) == {}


def test_the_class_of_a_cause_counts() -> None:
    batch = Batch(1, [frame("a", b"{}")])
    try:
        try:
            raise RetryIn(1.2345, "busy", "later")
        except RetryIn as cause:
            raise RuntimeError("while pushing") from cause
    except RuntimeError as error:
        [(_, _, outcome)] = batch._finish(error)
    assert (outcome.outcome, outcome.code, outcome.retry_after_ms) == (OutcomeClass.RETRY, "busy", 1235)


@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["fail", "ok", "reject"])), max_size=20))
def test_order_knows_the_first_row_that_waits(said: list[tuple[int, str]]) -> None:
    batch = Batch(1, [frame("a", *([b"{}"] * 8))], ordered=True)
    rows = [Row(batch.frames[0], 0, n) for n in range(8)]
    last: dict[int, str] = {}
    for n, what in said:
        last[n] = what
        if what == "fail":
            batch.fail(rows[n], OSError("x"))
        elif what == "ok":
            batch.fail(rows[n], None)
        else:
            batch.reject(rows[n], "bad", "x")
    first = min((n for n, what in last.items() if what == "fail"), default=8)
    assert [r.position - 10 for r in batch] == list(range(min(first + 1, 8)))
