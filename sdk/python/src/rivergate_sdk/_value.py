"""The members of a row, in the client's order, with the client's own bytes; decoded only when asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from json.decoder import scanstring  # type: ignore[attr-defined]  # the C scanner that json itself uses
from typing import Any


class _Number(str):
    """Stands for a number while a value is skipped: neither digits nor time are spent on it."""


# Both are written in C. Their results are thrown away but for the place where the value ends.
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(parse_int=_Number, parse_float=_Number, strict=False).scan_once  # type: ignore[attr-defined]
_blank = re.compile(r"[ \t\r\n]*").match
_half = re.compile("[\ud800-\udfff]").sub


def _skip(text: str, at: int) -> int:
    match = _blank(text, at)
    return match.end() if match else at


class Value:
    """The JSON value of a member, not decoded yet."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @property
    def raw(self) -> bytes:
        """The client's own bytes, numbers included."""
        return self._text.encode("utf-8", "surrogateescape")

    @property
    def is_null(self) -> bool:
        return self._text == "null"

    @property
    def is_string(self) -> bool:
        return self._text[0] == '"'

    @property
    def is_number(self) -> bool:
        return self._text[0] in "-0123456789"

    def __str__(self) -> str:
        """The value as text: a string without quotes and escapes, a number as the client wrote it, true or false, the JSON
        of an object or array, and nothing for null."""
        if self.is_null:
            return ""
        if self.is_string:
            return _clean(str(self.decode()))
        return _clean(self._text)

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def decimal(self) -> Decimal:
        """The number with every digit that the client wrote."""
        return Decimal(self._number())

    def boolean(self) -> bool:
        """The value of true or false. (In an if, a Value is true: it is there.)"""
        if self._text not in ("true", "false"):
            raise ValueError(f"value is {self._kind()}, not true or false")
        return self._text == "true"

    def decode(self) -> Any:
        """What json.loads makes of it."""
        return json.loads(_clean(self._text))

    def fields(self) -> Iterator[tuple[str, Value]]:
        """The members of an object; of anything else, nothing."""
        return members(self._text)

    def __repr__(self) -> str:
        return f"<{self._kind()}>"  # rows hold what their senders put there, and reprs are logged

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def _number(self) -> str:
        if not self.is_number:
            raise ValueError(f"value is {self._kind()}, not a number")
        return self._text

    def _kind(self) -> str:
        kinds = {"n": "null", "t": "a boolean", "f": "a boolean", '"': "a string", "{": "an object", "[": "an array"}
        return kinds.get(self._text[0], "a number")


def _clean(text: str) -> str:
    """What is no text, bytes that are no UTF-8 and halves of a character, becomes U+FFFD; Value.raw keeps it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _half("\ufffd", text)
    return text


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def members(text: str) -> Iterator[tuple[str, Value]]:
    """Walks an object once. It relies on the text being valid JSON, as every row is; in any other it stops where it no
    longer understands it."""
    try:
        at = _skip(text, 0)
        if text[at] != "{":
            return
        at = _skip(text, at + 1)
        while text[at] == '"':
            name, at = scanstring(text, at + 1, False)
            at = _skip(text, at)
            if text[at] != ":":
                return
            start = _skip(text, at + 1)
            _, at = _scan(text, start)
            yield _clean(name), Value(text[start:at])
            at = _skip(text, at)
            if text[at] != ",":
                return
            at = _skip(text, at + 1)
    except (IndexError, StopIteration, ValueError):
        return
