"""Bad inputs out of good ones: values that no field expects, and damaged bytes, all by a seed."""

from __future__ import annotations

import json
from random import Random
from typing import Any

NESTED = "[" * 10_000 + "]" * 10_000
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 10**400, 1e5, -0.0, 4.0, 1.5, float("nan"), float("inf"),
    -float("inf"), 1e38, "", " ", "x", "4", "nan", "../../x", "a\0b", "\ud800", "\u2028", "=1+1",
    "x" * 5000, [], [[]], [None], ["x"], [1, "x"], [-1], {}, {"x": 1}, {"": None},
)  # fmt: skip
TEXTS = (
    "", " ", "\n", "null", "[]", "{}", "{", "[" * 50, NESTED, "1" * 5000, '{"a": ' + NESTED + "}",
    '{"a": ' + "9" * 4500 + "}", '{"a": NaN}', "\ufeff{}", "=1", "\0", "x" * 10_000,
)  # fmt: skip


def strange(rng: Random) -> Any:
    """A value that few fields expect."""
    return rng.choice(VALUES)


def changed(data: Any, rng: Random) -> Any:
    """JSON data with one value changed, left out, added or renamed, at any depth."""
    data = json.loads(json.dumps(data))
    places: list[tuple[Any, Any]] = []

    def collect(part: Any) -> None:
        for key in list(part) if isinstance(part, dict) else range(len(part)):
            places.append((part, key))
            if isinstance(part[key], dict | list):
                collect(part[key])

    collect(data)
    if not places:
        return strange(rng)
    part, key = rng.choice(places)
    how = rng.random()
    if how < 0.7:
        part[key] = strange(rng)
    elif how < 0.85:
        del part[key]
    elif isinstance(part, dict):
        part[rng.choice(("", "k", "x", f"{key}_"))] = part.pop(key)
    else:
        part.append(part[key])
    return data


def json_text(data: Any) -> bytes:
    """JSON as strangers write it: NaN, infinity, halves of characters and all."""
    return json.dumps(data).encode("utf-8", "surrogatepass")


def damaged(data: bytes, rng: Random) -> bytes:
    """Bytes cut short, changed, doubled, filled with zeros, or something else altogether."""
    how = rng.randrange(7)
    at = rng.randrange(max(1, len(data)))
    if how == 0:
        return data[:at]
    if how == 1:
        few = bytearray(data)
        for _ in range(rng.randrange(1, 9)):
            few[rng.randrange(max(1, len(few)))] = rng.randrange(256)
        return bytes(few)
    if how == 2:
        return data[:at] + data[at // 2 :]
    if how == 3:
        return data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]
    if how == 4:
        return rng.choice(TEXTS).encode("utf-8", "surrogatepass")
    if how == 5:
        return rng.randbytes(rng.randrange(1, 200))
    return b""
