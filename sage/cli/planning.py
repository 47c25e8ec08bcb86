"""What a command is about to do, and how long it will take: said before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sage.cli.telling import Revise, Teller
from sage.work_done import tell_time

if TYPE_CHECKING:
    from sage.cost.ahead import Ahead
    from sage.models.base import Model
    from sage.preparation import Prepared
    from sage.run import Plan


def announce(teller: Teller, cells: Sequence[Ahead]) -> None:
    """Say what all cells will do, one after another, and how long that will take, and expect that
    work of them; say it again, cell by cell, when it is known where contrasts live."""
    _say(teller, cells, processes=1)
    for ahead in cells:
        teller.work.expect((ahead.cell.name,), ahead.estimate.stages)
        if ahead.work is not None and ahead.work.shapes is None:
            teller.revisions[ahead.cell.name] = _revision(teller, ahead)


def announce_together(
    teller: Teller, cells: Sequence[Ahead], *, within: str, processes: int
) -> None:
    """The same of cells that are scored side by side, within one stage."""
    _say(teller, cells, processes=processes)
    teller.work.expect((within,), {(): sum(ahead.estimate.seconds for ahead in cells)})


def _say(teller: Teller, cells: Sequence[Ahead], *, processes: int) -> None:
    from sage.cost.machine import wall_seconds

    for line in told(cells, processes=processes):
        teller.say(line)
    seconds = sum(ahead.estimate.seconds for ahead in cells)
    if seconds:
        together = wall_seconds(seconds, cells[0].prices.cores, processes=processes)
        teller.work.pace = together / seconds


def announce_discovery(
    teller: Teller, model: Model, prepared: Prepared, plan: Plan, *, among: Sequence[str] = ()
) -> None:
    """Say how long discovery will take, of some contrasts or of all, and expect that work."""
    from sage.cost.ahead import discovery_estimate
    from sage.cost.machine import prices_of
    from sage.store.store import user_store

    if not teller.says:
        return
    prices = prices_of(model, user_store())
    estimate = discovery_estimate(model.anatomy, prepared, plan, prices, among=among)
    contrasts = ", ".join(among or prepared.splits.discover)
    what = f"{prepared.task.name} on {model.name}: {contrasts}; {plan.discover} pairs each."
    say_time(teller, what, estimate.seconds, prices.cores)
    teller.work.expect((prepared.task.name,), estimate.stages)


def say_time(teller: Teller, what: str, seconds: float, cores: float) -> None:
    """Say what will be done and how long it will take, and expect that pace."""
    from sage.cost.machine import wall_seconds

    if not seconds:
        return
    clock = wall_seconds(seconds, cores)
    teller.say(f"{what} {_minutes(seconds, clock)}")
    teller.work.pace = clock / seconds


def told(cells: Sequence[Ahead], *, processes: int = 1) -> list[str]:
    """What will be done, in lines to read: all together, each cell, what is kept, the time."""
    to_do = [ahead for ahead in cells if ahead.suites]
    lines = [_what(ahead) for ahead in to_do]
    for ahead in cells:
        if ahead.found:
            names = ", ".join(ahead.found)
            lines.append(f"Found {names} in {ahead.cell.folder}: not scored again (--again does)")
    lines.append(_how_long(to_do, processes))
    return lines


def _what(ahead: Ahead) -> str:
    """`ioi on tiny-gpt2, plan quick: topk4; 4 contrasts of 50 test pairs, ...`."""
    cell, work = ahead.cell, ahead.work
    assert work is not None
    sizes = work.sizes
    pairs = sorted({contrast.test for contrast in sizes.contrasts.values()})
    counted = str(pairs[0]) if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    contrasts = f"{len(sizes.contrasts)} contrast{'s' * (len(sizes.contrasts) > 1)}"
    line = (
        f"{cell.task.name} on {cell.model.name}, plan {cell.plan.name}, seed {cell.plan.seed}: "
        f"{', '.join(work.names)}; {contrasts} with {counted} test pairs each, "
        f"{sizes.prompts.fit} prompts of fit"
    )
    kept = ahead.kept
    return f"{line}; found in the cache: {', '.join(kept)}" if kept else line


def _how_long(cells: Sequence[Ahead], processes: int) -> str:
    from sage.cost.machine import wall_seconds

    seconds, low, high = (
        sum(values)
        for values in zip(
            *((a.estimate.seconds, a.estimate.low, a.estimate.high) for a in cells), strict=True
        )
    ) if cells else (0.0, 0.0, 0.0)  # fmt: skip
    if not seconds:
        return "There is nothing to do."
    clock = wall_seconds(seconds, cells[0].prices.cores, processes=processes)
    recalled = all(a.work is None or a.work.shapes is not None for a in cells)
    why = "where contrasts live is not known yet"
    if recalled:
        why = "by where contrasts lived in an earlier run"
    unsure = f" ({tell_time(low)} to {tell_time(high)}: {why})"
    return _minutes(seconds, clock, unsure if low < high else "")


def _minutes(seconds: float, clock: float, unsure: str = "") -> str:
    return (
        f"This will take about {tell_time(seconds)} of the processor{unsure}, "
        f"{tell_time(clock)} by the clock on this machine, as busy as it is now."
    )


def _revision(teller: Teller, ahead: Ahead) -> Revise:
    """What is said, and expected from then on, when a cell's discovery is done."""
    from sage.discovery import Discovery

    def revise(fact: object) -> None:
        if not isinstance(fact, Discovery):
            return
        estimate = ahead.after(fact)
        teller.work.expect((ahead.cell.name,), estimate.stages)
        nodes = sum(len(section.nodes) for section in fact.sections.values())
        teller.say(
            f"{ahead.cell.name}: {nodes} nodes in {len(fact.sections)} sections, so about "
            f"{tell_time(estimate.seconds)} of the processor in all"
        )

    return revise
