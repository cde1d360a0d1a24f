import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import pytest

from rivergate_sdk import Secret, SettingsError, Size, setting
from rivergate_sdk._settings import Spec


@dataclass
class Everything:
    text: str = setting(required=True, doc="Text.", pattern="^[a-z]+$", example="abc")
    token: Secret = setting(doc="Key.")
    flag: bool = setting(default=True)
    count: int = setting(default=3, min=1, max=10)
    ratio: float = setting(default="0.5", min=0, max="1.5")
    pause: timedelta = setting(default="1m30s", min="100ms", max="1h")
    size: Size = setting(default="16MiB", min="1KiB", max="1GiB")
    names: list[str] = setting(default="a, b")
    labels: dict[str, str] = setting(default="a=1,b=2")
    form: Literal["jsonl", "csv"] = setting(default="jsonl")
    maybe: str | None = setting(format="uri")
    cache: dict[str, int] = field(default_factory=dict, init=False)


def decode(**config: Any) -> Any:
    value, problems = Spec(Everything).decode(json.dumps(config).encode())
    return [(p.field, p.reason) for p in problems] or value


def test_defaults_are_those_that_the_schema_says() -> None:
    got = decode(text="abc")
    assert (got.flag, got.count, got.ratio, got.pause, got.size) == (True, 3, 0.5, timedelta(seconds=90), 16 << 20)
    assert (got.names, got.labels, got.form, got.maybe) == (["a", "b"], {"a": "1", "b": "2"}, "jsonl", None)
    assert not got.token
    schema = json.loads(Spec(Everything).schema())
    assert list(schema["properties"])[:3] == ["text", "token", "flag"]
    assert schema["required"] == ["text"]
    assert schema["properties"]["pause"]["default"] == "1m30s"
    assert schema["properties"]["token"] == {"type": "string", "description": "Key.", "writeOnly": True}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("text", "ABC", '"ABC" does not match'), ("text", 1, "is not text"), ("flag", "true", "is not true or false"),
        ("count", 0, "0 is less than 1"), ("count", 11, "is more than 10"), ("count", 1.5, "is not a whole number"),
        ("count", True, "is not a whole number"), ("ratio", 2, "is more than 1.5"), ("pause", "soon", "is not a duration"),
        ("pause", "99ms", "is less than 100ms"), ("pause", "2h", "is more than 1h"), ("size", "4 parsecs", "is not a size"),
        ("size", 12, "is less than 1KiB"), ("size", "2GiB", "is more than 1GiB"), ("names", "a", "comma-separated"),
        ("labels", {"a": 1}, "key=value"), ("form", "xml", '"xml" is none of jsonl, csv'), ("maybe", "no uri", "is not a valid uri"),
        ("texts", "abc", "is not a known setting; text is"),
    ],
)
def test_a_wrong_value_is_told_under_its_name(name: str, value: Any, reason: str) -> None:
    problems = decode(**{"text": "abc", name: value})
    assert [p[0] for p in problems] == [name]
    assert reason in problems[0][1]


def test_what_is_required_is_missed_with_its_description() -> None:
    assert decode() == [("text", "is required: Text.")]


def test_a_secret_is_printed_nowhere() -> None:
    got = decode(text="abc", token="s3cret")
    assert got.token.reveal() == "s3cret"
    assert "s3cret" not in f"{got} {got.token} {got.token!r} {[got.token]}"


def test_a_declaration_that_makes_no_sense_names_its_field() -> None:
    def spec(annotation: Any, **tags: Any) -> None:
        cls = type("C", (), {"__annotations__": {"f": annotation}, "f": setting(**tags)})
        Spec(dataclass(cls))

    for annotation, tags, reason in (
        (complex, {}, "cannot be configured"), (str, {"min": 1}, "does not fit"), (int, {"enum": ["1"]}, "does not fit"),
        (Secret, {"default": "x"}, "neither default nor example"), (int, {"default": 0, "min": 1}, "less than 1"),
        (str, {"required": True, "default": "x"}, "no default"), (timedelta, {"default": "x"}, "not a duration"),
    ):
        with pytest.raises(SettingsError, match="C.f: .*" + reason):
            spec(annotation, **tags)
    with pytest.raises(SettingsError, match="is not a dataclass"):
        Spec(int)
