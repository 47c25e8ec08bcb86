"""The README and the pages of docs/, and the commands that they show."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
# A line of a page that begins with `sage`, and those that go on after a backslash.
_COMMAND = re.compile(r"^    sage ((?:[^#\n]*\\\n)*[^#\n]*[^#\s])", re.MULTILINE)
COMMANDS = [
    (page, " ".join(line.replace("\\\n", " ").split()))
    for page, text in PAGES.items()
    for line in _COMMAND.findall(text)
]
# Those in a sentence, as far as they stand between backticks.
NAMED = {page: re.findall(r"`sage ([^`\n]+)`", text) for page, text in PAGES.items()}
