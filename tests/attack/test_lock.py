"""The lock of CI: what the constraints say, each with the hash of what is installed."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def versions(file: str, line: str) -> dict[str, str]:
    """The version of every package in a file whose lines match."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.findall(line, text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_the_lock_has_every_package_but_torch_at_the_version_of_the_constraints() -> None:
    constraints = versions("constraints.txt", r"^([\w.-]+)==(\S+)$")
    assert constraints.pop("torch")
    assert (
        versions("requirements.lock", r"^([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$")
        == constraints
    )


def test_the_backend_that_builds_is_the_one_of_the_constraints() -> None:
    (pinned,) = re.findall(
        r'^requires = \["hatchling==(.*)"\]$', (ROOT / "pyproject.toml").read_text(), re.M
    )
    assert versions("constraints.txt", r"^([\w.-]+)==(\S+)$")["hatchling"] == pinned
