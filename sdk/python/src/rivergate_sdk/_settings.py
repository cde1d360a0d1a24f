"""Settings declared once, in a dataclass: schema, defaults, documentation and checks derive from it.

The rules, and the schema byte for byte, are those of the Go SDK's package settings.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PROPERTY = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# The texts that Go's time.ParseDuration and the host's ParseBytes take, without a sign.
_DURATION = r"^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$"
_BYTES = r"^[0-9]+ *(B|KiB|MiB|GiB|TiB)?$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SIZES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class Secret:
    """A password, token or key. It prints as *** in every log and message; reveal gives the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return self._value != ""

    def __str__(self) -> str:
        return "***" if self._value else ""

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is not pickled or copied; reveal it where it is used")


class Size(int):
    """A number of bytes, set as 4096, 64KiB or 16MiB."""


class SettingsError(Exception):
    """A settings class that is declared wrongly: the author's mistake."""


@dataclasses.dataclass(frozen=True)
class Problem:
    field: str  # property of the schema; empty when it is about the whole
    reason: str


def setting(
    *, doc: str = "", default: Any = None, required: bool = False, min: str | int | float | None = None,
    max: str | int | float | None = None, enum: typing.Sequence[str] = (), format: str = "", pattern: str = "", example: str = "",
) -> Any:
    """A field of a settings dataclass. default and example are texts as an operator would set them ("5s", "16MiB",
    "a,b"), or numbers, or booleans. A setting without default is empty, zero or, if its type allows it, None."""
    metadata = {
        "doc": doc, "default": _text(default), "required": required, "min": _text(min), "max": _text(max),
        "enum": tuple(enum), "format": format, "pattern": pattern, "example": _text(example),
    }
    # By keyword only, so that required settings may follow optional ones.
    return dataclasses.field(kw_only=True, metadata={"rivergate": metadata})


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@dataclasses.dataclass
class Field:
    name: str
    kind: str  # string, secret, bool, integer, number, duration, size, list, map
    optional: bool
    doc: str
    default: str
    required: bool
    min: str
    max: str
    enum: tuple[str, ...]
    format: str
    pattern: str
    example: str
    schema: dict[str, Any] = dataclasses.field(default_factory=dict)


class Spec:
    """What a settings dataclass says. A declaration that makes no sense is a SettingsError that names the field."""

    def __init__(self, cls: type) -> None:
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            raise SettingsError(f"{cls!r} is not a dataclass")
        self.cls = cls
        self.fields: list[Field] = []
        hints = typing.get_type_hints(cls)
        for f in dataclasses.fields(cls):
            tags = f.metadata.get("rivergate")
            if tags is None:
                if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.init:
                    raise SettingsError(f"{cls.__name__}.{f.name}: declare it with setting(), or give it a default: nobody would fill it")
                continue
            try:
                self.fields.append(_field(f.name, hints[f.name], tags))
            except ValueError as error:
                raise SettingsError(f"{cls.__name__}.{f.name}: {error}") from error

    def schema(self) -> str:
        """The JSON Schema (2020-12) of the configuration, properties in the order of the fields."""
        schema: dict[str, Any] = {"$schema": DRAFT, "type": "object", "properties": {f.name: f.schema for f in self.fields}}
        if required := [f.name for f in self.fields if f.required]:
            schema["required"] = required
        schema["additionalProperties"] = False
        return json.dumps(schema, ensure_ascii=False, separators=(",", ":"), default=_plain)

    def decode(self, config: bytes) -> tuple[Any, list[Problem]]:
        """The dataclass filled from what Configure carries, or what is wrong with it. It checks what the host has checked
        once more, since not every host does."""
        try:
            values = json.loads(config or b"{}", parse_float=Decimal)
        except ValueError:
            return None, [Problem("", "the configuration is not JSON")]
        if not isinstance(values, dict):
            return None, [Problem("", "the configuration is not a JSON object")]
        known = {f.name: f for f in self.fields}
        problems = []
        for name in values.keys() - known.keys():
            near = difflib.get_close_matches(name, known, 1)
            problems.append(Problem(name, "is not a known setting" + (f"; {near[0]} is" if near else "")))
        filled: dict[str, Any] = {}
        for f in self.fields:
            if f.name not in values:
                if f.required:
                    problems.append(Problem(f.name, "is required" + (f": {f.doc}" if f.doc else "")))
                    continue
                filled[f.name] = _convert(f, _parse(f.kind, f.default)) if f.default else _zero(f)
                continue
            try:
                filled[f.name] = _convert(f, values[f.name])
            except ValueError as error:
                problems.append(Problem(f.name, str(error)))
        if problems:
            return None, sorted(problems, key=lambda p: p.field)
        return self.cls(**filled), []


def variable(prefix: str, name: str) -> str:
    return prefix + name.upper()


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"{type(value)} in a schema")


def _kind(hint: Any) -> tuple[str, bool]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        rest = [a for a in arguments if a is not type(None)]
        if len(rest) == 1 and len(arguments) == 2:
            return _kind(rest[0])[0], True
    simple = {str: "string", Secret: "secret", bool: "bool", int: "integer", float: "number", timedelta: "duration", Size: "size"}
    if hint in simple:
        return simple[hint], False
    if origin is typing.Literal and all(isinstance(a, str) for a in arguments):
        return "string", False
    if origin is list and arguments == (str,):
        return "list", False
    if origin is dict and arguments == (str, str):
        return "map", False
    raise ValueError(f"the type {hint} cannot be configured; str, Literal, Secret, bool, int, float, timedelta, Size, list[str] and dict[str, str] can")


def _literals(hint: Any) -> tuple[str, ...]:
    for part in (hint, *typing.get_args(hint)):
        if typing.get_origin(part) is typing.Literal:
            return typing.get_args(part)
    return ()


def _field(name: str, hint: Any, tags: dict[str, Any]) -> Field:
    if not _PROPERTY.fullmatch(name):
        raise ValueError("the name is not lower snake case")
    kind, optional = _kind(hint)
    f = Field(name=name, kind=kind, optional=optional, **{**tags, "enum": tags["enum"] or _literals(hint)})
    if f.required and f.default:
        raise ValueError("a required setting has no default")
    if f.enum and kind not in ("string", "list"):
        raise ValueError(f"an enum does not fit a {kind}")
    if (f.min or f.max) and kind not in ("integer", "number", "duration", "size"):
        raise ValueError(f"a bound does not fit a {kind}")
    if kind == "secret" and (f.default or f.example):
        raise ValueError("a secret has neither default nor example")
    f.schema = _schema(f)
    for tag, text in (("default", f.default), ("example", f.example)):
        if text:
            try:
                _convert(f, _parse(kind, text))
            except ValueError as error:
                raise ValueError(f"{tag}: {error}") from error
    return f


def _schema(f: Field) -> dict[str, Any]:
    """Members in the order in which a person reads them."""
    json_types = {
        "string": "string", "secret": "string", "bool": "boolean", "integer": "integer", "number": "number",
        "duration": "string", "size": ["string", "integer"], "list": "array", "map": "object",
    }
    s: dict[str, Any] = {"type": json_types[f.kind]}
    if f.doc:
        s["description"] = f.doc
    if f.default:
        s["default"] = _parse(f.kind, f.default)
    if f.enum and f.kind != "list":
        s["enum"] = list(f.enum)
    if f.kind == "size":
        s["minimum"] = _size(f.min) if f.min else 0
    elif f.min and f.kind != "duration":
        s["minimum"] = _parse(f.kind, f.min)
    if f.max and f.kind != "duration":
        s["maximum"] = _size(f.max) if f.kind == "size" else _parse(f.kind, f.max)
    pattern = {"duration": _DURATION, "size": _BYTES}.get(f.kind, f.pattern)
    if pattern and f.kind != "list":
        s["pattern"] = pattern
    if f.format and f.kind != "list":
        s["format"] = f.format
    if f.kind == "list":
        items: dict[str, Any] = {"type": "string"}
        items.update({k: v for k, v in (("enum", list(f.enum)), ("pattern", f.pattern), ("format", f.format)) if v})
        s["items"] = items
    if f.kind == "map":
        s["additionalProperties"] = {"type": "string"}
    if f.example:
        s["examples"] = [_parse(f.kind, f.example)]
    if f.kind == "secret":
        s["writeOnly"] = True
    if f.kind in ("duration", "size"):
        s["x-unit"] = "duration" if f.kind == "duration" else "bytes"
        for key, bound in (("x-minimum", f.min), ("x-maximum", f.max)):
            if bound:
                _size(bound) if f.kind == "size" else _nanoseconds(bound)
                s[key] = bound
    return s


def _parse(kind: str, text: str) -> Any:
    """The JSON value of a text, by the rules by which a variable's text becomes JSON."""
    if kind == "integer":
        try:
            return int(text)
        except ValueError:
            raise ValueError("is not a whole number") from None
    if kind == "number":
        try:
            return Decimal(text)
        except ArithmeticError:
            raise ValueError("is not a number") from None
    if kind == "bool":
        if text not in ("true", "false"):
            raise ValueError("is not true or false")
        return text == "true"
    if kind == "size":
        return int(text) if text.isdigit() else text
    if kind == "list":
        return json.loads(text) if text.startswith("[") else [item.strip() for item in text.split(",") if item.strip()]
    if kind == "map":
        if text.startswith("{"):
            return json.loads(text)
        pairs = [item.split("=", 1) for item in text.split(",") if item.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("is not a list of key=value")
        return {key.strip(): value.strip() for key, value in pairs}
    return text


def _nanoseconds(text: str) -> int:
    if not re.search(_DURATION, text):
        raise ValueError(f"{text!r} is not a duration such as 500ms, 30s or 1m30s")
    return int(sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def _size(text: str) -> int:
    if not re.search(_BYTES, text):
        raise ValueError(f"{text!r} is not a size such as 4096, 64KiB or 16MiB")
    digits = text.rstrip("BKMGTi ")
    return int(digits) * _SIZES[text[len(digits) :].strip()]


def _zero(f: Field) -> Any:
    if f.optional:
        return None
    zeros: dict[str, Any] = {
        "string": "", "bool": False, "integer": 0, "number": 0.0, "duration": timedelta(), "size": Size(0),
    }
    if f.kind == "secret":
        return Secret()
    return zeros[f.kind] if f.kind in zeros else ([] if f.kind == "list" else {})


def _convert(f: Field, value: Any) -> Any:
    """The Python value of a JSON value, or a ValueError that shows the value unless it is a secret."""
    if f.kind in ("string", "secret"):
        if not isinstance(value, str):
            raise ValueError("is not text")
        shown = "" if f.kind == "secret" else f"{_short(value)} "
        _check_text(f, value, shown)
        return Secret(value) if f.kind == "secret" else value
    if f.kind == "bool":
        if not isinstance(value, bool):
            raise ValueError("is not true or false")
        return value
    if f.kind in ("integer", "number"):
        whole = isinstance(value, int) or isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value()
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or f.kind == "integer" and not whole:
            raise ValueError("is not a whole number" if f.kind == "integer" else "is not a number")
        _check_bounds(f, value, str(value), lambda text: Decimal(text))
        if f.kind == "integer":
            return int(value)
        if math.isinf(number := float(value)):
            raise ValueError("is out of range")
        return number
    if f.kind == "duration":
        if not isinstance(value, str):
            raise ValueError("is not text")
        nanoseconds = _nanoseconds(value)
        _check_bounds(f, nanoseconds, _short(value), _nanoseconds)
        return timedelta(microseconds=nanoseconds / 1000)
    if f.kind == "size":
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise ValueError("is not a whole number or text")
        size = _size(value) if isinstance(value, str) else value
        if size < 0:
            raise ValueError(f"{size} is less than 0")
        _check_bounds(f, size, str(value), _size)
        return Size(size)
    if f.kind == "list":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError("is not a comma-separated list")
        for item in value:
            _check_text(f, item, f"{_short(item)} ")
        return value
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError("is not a list of key=value")
    return value


def _check_text(f: Field, text: str, shown: str) -> None:
    if f.enum and text not in f.enum:
        raise ValueError(shown + "is none of " + ", ".join(f.enum))
    if f.pattern and not re.search(f.pattern, text):
        raise ValueError(shown + "does not match " + f.pattern)
    if f.format == "uri":
        try:
            whole = urlsplit(text).scheme != "" and not re.search(r"\s", text)
        except ValueError:
            whole = False
        if not whole:
            raise ValueError(shown + "is not a valid uri")


def _check_bounds(f: Field, value: Any, shown: str, parse: typing.Callable[[str], Any]) -> None:
    if f.min and value < parse(f.min):
        raise ValueError(f"{shown} is less than {f.min}")
    if f.max and value > parse(f.max):
        raise ValueError(f"{shown} is more than {f.max}")


def _short(text: str) -> str:
    return json.dumps(text if len(text) <= 80 else text[:80] + "…", ensure_ascii=False)
