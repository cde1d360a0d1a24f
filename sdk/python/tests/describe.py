"""Prints the schema of settings that python_test.go declares in Go as well."""

from dataclasses import dataclass
from datetime import timedelta

from rivergate_sdk import Secret, Size, setting
from rivergate_sdk._settings import Spec


@dataclass
class Everything:
    text: str = setting(required=True, doc='Text, <b>&amp;</b> "quoted".', pattern="^[a-z]+$", example="abc")
    token: Secret = setting(doc="Key.")
    flag: bool = setting(default=True)
    count: int = setting(default=3, min=1, max=10)
    ratio: float = setting(default=0.5, min=0, max=1.5)
    pause: timedelta = setting(default="1m30s", min="100ms", max="1h")
    size: Size = setting(default="16MiB", min="1KiB", max="1GiB")
    plain: Size = setting(default=4096)
    names: list[str] = setting(default="a, b", enum=["a", "b", "c"])
    labels: dict[str, str] = setting(default="a=1,b=2")
    form: str = setting(default="jsonl", enum=["jsonl", "csv"])
    url: str = setting(format="uri", example="http://example.com/é")


if __name__ == "__main__":
    print(Spec(Everything).schema())
