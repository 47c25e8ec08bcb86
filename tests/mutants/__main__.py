"""Tries a seeded sample of changes and prints those that no test notices.

    make mutants                                                300 changes of all rooms: hours
    python -m tests.mutants --sample 50 --rooms task,scores     50 changes of two rooms
    python -m tests.mutants --retry                             those that survived, once more

The project is copied to a temporary folder and stays as it is. Each outcome is written to
out/mutants/ as it comes, and a change that was tried before, in the same text of its file, is not
tried again. The sample is ordered by a digest of each change: its first half is a sample too, and
changing one function leaves the sample of the others.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
from scipy.stats import binomtest

from tests.mutants.changes import Change, changes
from tests.mutants.rooms import ROOMS, WIDER, sources, tests_of
from tests.mutants.workbench import Workbench

PROJECT = Path(__file__).parents[2]
SECONDS = 900
ALIVE = ("not room", "none")  # noticed by no test of its room; and by no wider one


@dataclass(frozen=True)
class Mutant:
    """A change of a file of a room; `key` is the same while the file's text is."""

    room: str
    path: str
    change: Change
    order: str
    key: str


def sample(root: Path, rooms: Iterable[str], *, seed: int, size: int) -> list[Mutant]:
    """`size` changes of some rooms, in the order in which they are tried."""
    mutants = [
        mutant
        for room in rooms
        for path in sources(ROOMS[room], root)
        for mutant in _mutants(root, room, path, seed)
    ]
    return sorted(mutants, key=lambda mutant: mutant.order)[:size]


def _mutants(root: Path, room: str, path: str, seed: int) -> Iterator[Mutant]:
    source = (root / path).read_text(encoding="utf-8")
    seen = dict[tuple[str, ...], int]()
    for change in changes(source):
        what = (change.function, change.before, change.after)
        seen[what] = seen.get(what, 0) + 1
        order = _digest(seed, path, *what, seen[what])
        yield Mutant(room, path, change, order, _digest(order, source))


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def notices(bench: Workbench, mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether these tests fail with the change, or take for ever."""
    check_unchanged(bench, tuple(sorted(tests)))
    source = (bench.root / mutant.path).read_bytes()
    bench.change(mutant.path, mutant.change.applied(source))
    try:
        return not bench.passes(tests, seconds=SECONDS)
    finally:
        bench.change(mutant.path, source)


@cache
def check_unchanged(bench: Workbench, tests: Sequence[str]) -> None:
    """Without a change the tests pass, or nothing that follows means anything."""
    if not bench.passes(tests, seconds=2 * SECONDS, keep=True):
        tail = bench.log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise click.ClickException(f"Without a change, {' '.join(tests)} fail:\n{tail}")


def describe(mutant: Mutant) -> str:
    """File, line and change, on one line."""
    before, after = (" ".join(text.split()) for text in (mutant.change.before, mutant.change.after))
    return f"{mutant.path}:{mutant.change.line}  {before}  ->  {after}"


def summarise(mutants: Sequence[Mutant], outcomes: dict[str, str]) -> str:
    """The survivors, and the share killed of those tried, with its interval."""
    tried = [mutant for mutant in mutants if mutant.key in outcomes]
    survivors = [mutant for mutant in tried if outcomes[mutant.key] in ALIVE]
    killed = len(tried) - len(survivors)
    lines = sorted(describe(mutant) for mutant in survivors)
    if tried:
        between = binomtest(killed, len(tried)).proportion_ci(method="wilson")
        share = f"{killed / len(tried):.3f}, 95 % interval {between.low:.3f} to {between.high:.3f}"
        lines += ["", f"{killed} of {len(tried)} killed: {share}"]
    return "\n".join(lines)


@click.command()
@click.option("--sample", "size", default=300, show_default=True, help="How many changes.")
@click.option("--seed", default=0, show_default=True, help="Which changes.")
@click.option("--rooms", default=",".join(ROOMS), show_default=True, help="Of which rooms.")
@click.option("--retry", is_flag=True, help="Only what survived, once more.")
@click.option("--out", default=PROJECT / "out" / "mutants", type=click.Path(path_type=Path))
def main(size: int, seed: int, rooms: str, retry: bool, out: Path) -> None:
    """Tries a seeded sample of changes and prints those that no test notices."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was begun is cleared away
    out.mkdir(parents=True, exist_ok=True)
    record = out / f"seed{seed}.jsonl"
    outcomes = _recorded(record)

    def note(mutant: Mutant, noticed: str) -> None:
        outcomes[mutant.key] = noticed
        entry = {"key": mutant.key, "noticed": noticed, "what": describe(mutant)}
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        click.echo(f"{noticed:8}  {describe(mutant)}", err=True)

    with tempfile.TemporaryDirectory(prefix="sage-mutants-") as folder:
        bench = Workbench(PROJECT, Path(folder))
        mutants = sample(bench.root, rooms.split(","), seed=seed, size=size)
        wanted = ALIVE if retry else (None,)
        for mutant in [each for each in mutants if outcomes.get(each.key) in wanted]:
            tests = tests_of(mutant.path, ROOMS[mutant.room], bench.root)
            note(mutant, "room" if notices(bench, mutant, tests) else "not room")
        for mutant in [each for each in mutants if outcomes.get(each.key) == "not room"]:
            note(mutant, "wider" if notices(bench, mutant, WIDER) else "none")
    click.echo(summarise(mutants, outcomes))


def _recorded(record: Path) -> dict[str, str]:
    if not record.is_file():
        return {}
    entries = map(json.loads, record.read_text(encoding="utf-8").splitlines())
    return {entry["key"]: entry["noticed"] for entry in entries}


if __name__ == "__main__":
    main()
