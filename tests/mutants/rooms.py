"""Which files are changed, and which tests should notice."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Room(NamedTuple):
    """`sources`, less what is `looked_at` and not pinned, and `tests`: folders or files."""

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    looked_at: tuple[str, ...] = ()


ROOMS = {
    "task": Room(("sage/task",), ("tests/task",)),
    "discovery": Room(
        ("sage/discovery",), ("tests/discovery",), looked_at=("sage/discovery/picture.py",)
    ),
    "dictionaries": Room(("sage/dictionaries",), ("tests/dictionaries",)),
    "scores": Room(("sage/scores",), ("tests/scores",)),
    "partial": Room(
        ("sage/models/partial",),
        ("tests/models/test_partial.py", "tests/models/test_cone.py", "tests/models/test_edits.py"),
    ),
    "architectures": Room(
        ("sage/saes/architectures",),
        (
            "tests/saes/test_architectures.py",
            "tests/saes/test_formats.py",
            "tests/saes/test_freezing.py",
            "tests/saes/test_seams.py",
            "tests/saes/test_training.py",
        ),
    ),
    "store": Room(("sage/store",), ("tests/store",)),
}
WIDER = ("tests/test_evaluation.py",)  # what survives its room's tests is tried against these


def sources(room: Room, root: Path) -> list[str]:
    """The files of a room, in order."""
    return [path for path in _files(room.sources, root, "*.py") if path not in room.looked_at]


def tests_of(path: str, room: Room, root: Path) -> list[str]:
    """The tests of a room: those named after a file come first, then those that import it."""
    module = path.removesuffix(".py").replace("/", ".")

    def distance(test: str) -> int:
        named = Path(test).stem.removeprefix("test_") == Path(path).stem
        return 0 if named else 1 if module in (root / test).read_text(encoding="utf-8") else 2

    return sorted(_files(room.tests, root, "test_*.py"), key=distance)


def _files(places: tuple[str, ...], root: Path, pattern: str) -> list[str]:
    listed = list[str]()
    for place in places:
        path = root / place
        files = sorted(path.rglob(pattern)) if path.is_dir() else [path]
        listed += [str(file.relative_to(root)) for file in files]
    return list(dict.fromkeys(listed))
