"""`sage cache`: what is kept between runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sage.cli.options import json_option
from sage.cli.output import print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sage.store.store import StoredEntry


@click.command()
@click.option("--clear", is_flag=True, help="Delete what is kept.")
@click.option(
    "--kind",
    default=None,
    help="Only what is of this kind: gate, discovery, activations, features, scores, calibration.",
)
@json_option
def cache(clear: bool, kind: str | None, as_json: bool) -> None:
    """Show, or clear, what is kept between runs.

    Kept is what depends on no SAE, or not on the run: the next release on the same task and model
    pays for its own part alone.
    """
    from sage.store.store import user_store

    store = user_store()
    if clear:
        click.echo(f"Freed {store.clear(kind=kind) / 1e6:.1f} MB in {store.folder}")
        return
    entries = store.entries(kind=kind)
    held, limit = sum(entry.bytes for entry in entries), (store.limit or 0)
    title = f"Kept in {store.folder}: {held / 1e9:.2f} GB of at most {limit / 1e9:g}"
    print_rows(_rows(entries), title=title, as_json=as_json)


def _rows(entries: Sequence[StoredEntry]) -> list[dict[str, object]]:
    """One row for all that is of one kind and of one thing, what was used last first."""
    from datetime import datetime

    grouped: dict[tuple[str, str], list[StoredEntry]] = {}
    for entry in entries:
        grouped.setdefault((entry.kind, entry.of), []).append(entry)
    ranked = sorted(grouped.items(), key=lambda group: -max(entry.used for entry in group[1]))
    return [
        {
            "kind": kind,
            "of": of,
            "entries": len(group),
            "MB": sum(entry.bytes for entry in group) / 1e6,
            "last used": f"{datetime.fromtimestamp(max(e.used for e in group)):%Y-%m-%d %H:%M}",
        }
        for (kind, of), group in ranked
    ]
