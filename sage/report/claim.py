"""The claim that a report opens with: the best suite's control, and what must stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sage.report.ranking import RankedSuite, RunSummary, best_suite
from sage.report.words import count

# Named beside the claim where they were scored.
CONTROLS = ("PCA", "neurons", "untrained", "permuted", "random")


class Claim(NamedTuple):
    """The first line of the report and what must stand beside it.

    Every second one of the line's parts is a name or a number.
    """

    parts: tuple[str, ...]
    beside: list[str]

    @property
    def headline(self) -> str:
        return "".join(self.parts)


def make_claim(suites: Sequence[RankedSuite], runs: Sequence[RunSummary]) -> Claim:
    """The best suite's control, with its interval, or why there is none.

    It is chosen among the suites of widest reach that were scored on as many tasks as any.
    """
    if not any(run.gate.passed for run in runs):
        return Claim(
            ("No model does its task here, so nothing was scored.",),
            ["The table of gates below says by how much each one misses."],
        )
    ranked = [
        suite for suite in suites if suite.widest and suite.score("control").value is not None
    ]
    if not ranked:
        reasons = dict.fromkeys(suite.score("control").why for suite in suites)
        why = "; ".join(reasons) or "no suite was given"
        return Claim(("No suite has a control score here.",), [f"Undefined: {why}."])
    most_tasks = max(suite.score("control").tasks for suite in ranked)
    rivals = [suite for suite in ranked if suite.score("control").tasks == most_tasks]
    best = best_suite(rivals)
    parts = (
        "The best suite, ",
        best.name,
        ", controls ",
        str(best.score("control")),
        f" of what supervised features control, over {count(most_tasks, 'task')}.",
    )
    all_tasks = len({run.source.task for run in runs})
    return Claim(
        parts,
        [
            *_controls(best),
            "0 is what the best trivial dictionary controls, 1 what supervised features control"
            " with as many picks."
            f" The suite's SAEs reach {100 * best.reach:.0f} % of the sections, by effect.",
            f"{_interval(best, len(rivals))} {best.model} has a control score on"
            f" {most_tasks} of {count(all_tasks, 'task')}.",
        ],
    )


def _controls(best: RankedSuite) -> list[str]:
    """What controls reach on the same nodes, if any was scored."""
    scores = {name: best.score("control", name) for name in CONTROLS}
    others = [f"{name} {score}" for name, score in scores.items() if score.value is not None]
    if not others:
        return []
    return [f"On the same nodes and by the same measure: {', '.join(others)}."]


def _interval(best: RankedSuite, rivals: int) -> str:
    """What the claim's interval covers and what it does not."""
    covered = "The 95 % interval is over test prompts"
    if best.score("control").tasks > 1:
        covered += ", with tasks taken as given and independent"
    if rivals > 1:
        covered += (
            "; it does not pay for having been chosen as the best"
            f" of {rivals} suites on the same prompts"
        )
    return f"{covered}."
