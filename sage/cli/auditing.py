"""`sage audit`: can each score be trusted?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sage.cli.options import folder_path, json_option
from sage.cli.output import print_json, print_path, print_rows
from sage.cli.telling import Telling, tell, telling_options

if TYPE_CHECKING:
    from sage.audit.audit_result import AuditResult
    from sage.audit.plan import AuditPlan

LENSES = ("reseed", "truth", "discriminability", "transfer", "gaming")


@click.command()
@click.option(
    "--metric", "metrics", multiple=True, help="Audit this one alone; may be given more than once."
)
@click.option(
    "--lens",
    "lenses",
    multiple=True,
    type=click.Choice(LENSES),
    help="Under this one alone; may be given more than once.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="Look at snapshots of a shipped model on this task; may be given more than once.  "
    "[default: four tasks, none with --quick]",
)
@click.option("--quick", is_flag=True, help="Draw less: minutes on two cores, and wider noise.")
@click.option("--shipped", is_flag=True, help="Print the audit that ships, and measure nothing.")
@click.option("--out", type=folder_path, default=Path("out/audit"), show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that measure.  [default: one for each core, at most 8]",
)
@json_option
@telling_options
def audit(
    metrics: tuple[str, ...],
    lenses: tuple[str, ...],
    shipped: bool,
    out: Path,
    as_json: bool,
    telling: Telling,
    **how: Any,
) -> None:
    """Examine every metric, ours and those of other benchmarks, by five lenses.

    Reseed: how much of a score is the draw. Truth: does it rank dictionaries whose quality is known
    as it should. Discriminability: does it see SAEs learn. Transfer: does it hold on combinations
    never met. Gaming: can blind edits raise it. What is measured is kept in --out: an audit that is
    interrupted goes on where it was.
    """
    from sage.audit.audit_result import AUDIT, shipped_audit
    from sage.audit.run import run_audit
    from sage.demo import default_workers
    from sage.report.audit import write_audit_page

    result = shipped_audit() if shipped else None
    if result is None:
        plan, command = _plan(metrics, lenses, tasks=how["tasks"], quick=how["quick"])
        with tell(telling):
            result = run_audit(
                plan, out,
                metrics=metrics, lenses=lenses, command=command,
                workers=how["workers"] or default_workers(),
            )  # fmt: skip
        print_path(out / AUDIT, telling)
    page = write_audit_page(result, out / "report")
    _print(result, as_json=as_json)
    print_path(page, telling)


def _plan(
    metrics: tuple[str, ...],
    lenses: tuple[str, ...],
    *,
    tasks: tuple[str, ...],
    quick: bool,
) -> tuple[AuditPlan, str]:
    """What is to be drawn, and the command that does it anew."""
    from dataclasses import replace

    from sage.audit.plan import FULL, QUICK

    plan = QUICK if quick else FULL
    words = ["sage audit", *(["--quick"] if quick else [])]
    for option, names in (("--metric", metrics), ("--lens", lenses), ("--task", tasks)):
        words += [f"{option} '{name}'" if " " in name else f"{option} {name}" for name in names]
    return replace(plan, tasks=tasks or plan.tasks), " ".join(words)


def _print(result: AuditResult, *, as_json: bool) -> None:
    if as_json:
        print_json(result.table())
        return
    for row in result.table():
        verdict = row.pop("verdict")
        name, version = row.pop("metric"), row.pop("version")
        click.echo(f"{name} (version {version}): {verdict}")
        for lens, said in row.items():
            click.echo(f"    {lens:17}{said}")
    print_rows(
        [{"metric": row["metric"], "verdict": row["verdict"].partition(":")[0]}
         for row in result.table()],
        title=f"\nVerdicts, {result.command}, {result.date}",
    )  # fmt: skip
