"""The numbers that the README quotes, from the results of a demo: its table, as Markdown.

    python -m tests.benchmarks.readme_numbers out/demo            prints the table
    python -m tests.benchmarks.readme_numbers out/demo --write    puts it into README.md

The table stands in README.md between two comments, START and END.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sage.cli.output import short_number, with_interval
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import RankedSuite, over_tasks, summarise_run
from sage.report.scored_run import read_run
from sage.report.sources import find_sources

README = Path(__file__).parents[2] / "README.md"
START = "<!-- numbers of `make demo`, put here by `make figures` -->"
END = "<!-- end of the numbers -->"
_OTHERS = {metric: label for metric, label in HEADLINES.items() if metric != MAIN}


def table(folder: Path) -> str:
    """Every suite of a demo's results over its tasks, as a Markdown table."""
    runs = [summarise_run(read_run(source)) for source in find_sources([folder]).listed]
    heads = [
        "suite", "L0", "reach", "tasks", f"{HEADLINES[MAIN]} [95 %]", "best control", "gain [95 %]",
        "supervised", *_OTHERS.values(),
    ]  # fmt: skip
    ruler = f"|---|{'---:|' * (len(heads) - 1)}"
    rows = [_row(_line(suite)) for suite in over_tasks(runs)]
    return "\n".join([_row(heads), ruler, *rows]) + "\n"


def filled(text: str, numbers: str) -> str:
    """A README with these numbers between its two comments."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"README.md has no place for numbers: {START} ... {END}")
    return f"{before}{start}\n{numbers}{end}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("demo", type=Path, help="The folder of a demo's results.")
    parser.add_argument("--write", action="store_true", help="Put the table into README.md.")
    given = parser.parse_args(arguments)
    numbers = table(given.demo)
    if given.write:
        README.write_text(filled(README.read_text(encoding="utf-8"), numbers), encoding="utf-8")
    print(numbers, end="")


def _row(entries: Sequence[str]) -> str:
    return f"| {' | '.join(entries)} |"


def _line(suite: RankedSuite) -> list[str]:
    line = suite.line(MAIN)
    return [
        suite.name,
        f"{suite.l0:.1f}",
        short_number(suite.reach),
        str(line.score.tasks),
        with_interval(line.score.value, line.score.low, line.score.high),
        short_number(line.best.value),
        with_interval(line.gain.value, line.gain.low, line.gain.high),
        short_number(line.supervised.value),
        *(short_number(suite.score(metric).value) for metric in _OTHERS),
    ]


if __name__ == "__main__":
    main()
