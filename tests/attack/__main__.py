"""The attack: thousands of bad inputs of every class in one process, and a table of what came of
them. Ends with 1 where one ended in a traceback or a wrong number.

python -m tests.attack [--cases 10000] [--only CLASS] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import click

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

# How many of 100 inputs are of each class; models take the longest.
SHARES = {
    "SAE files": 40,
    "prompt pairs": 15,
    "task files": 10,
    "circuits and run files": 10,
    "results": 10,
    "command lines": 11,
    "model folders": 4,
}
COLUMNS = ("class", "tried", "refused", "taken", "traceback", "wrong", "seconds")
WIDTHS = (24, 8, 9, 8, 11, 7, 9)
MOST_TOLD = 40


def main() -> int:
    """Attack, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(SHARES), help="One class, all cases of it.")
    given = parser.parse_args()
    shares = {given.only: 100} if given.only else SHARES
    with tempfile.TemporaryDirectory(prefix="sage-attack-") as made:
        os.environ["SAGE_CACHE"] = str(Path(made) / "cache")
        return _run(shares, given.cases, given.seed, Path(made))


def _run(shares: dict[str, int], cases: int, seed: int, made: Path) -> int:
    from tests.attack.inputs import CLASSES
    from tests.attack.outcome import Tally, attack

    bad = 0
    click.echo("".join(f"{title:>{width}}" for title, width in zip(COLUMNS, WIDTHS, strict=True)))
    for name, share in shares.items():
        tally, start = Tally(), time.process_time()
        for case in range(max(1, cases * share // 100)):
            attack(CLASSES[name], tally, seed=seed + case, folder=made / name.replace(" ", "-"))
        seconds = f"{time.process_time() - start:.1f}"
        cells = [name, *(tally.counts[kind] for kind in COLUMNS[1:-1]), seconds]
        click.echo("".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True)))
        for defect in dict.fromkeys(tally.defects[:MOST_TOLD]):
            click.echo(f"    {defect}")
        bad += tally.counts["traceback"] + tally.counts["wrong"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
