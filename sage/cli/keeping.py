"""`sage cache`: what is kept between runs."""

from __future__ import annotations

import click

from sage.cli.options import json_option
from sage.cli.output import print_rows


@click.command()
@click.option("--clear", is_flag=True, help="Delete what is kept.")
@click.option(
    "--kind",
    default=None,
    help="Only what is of this kind: gate, discovery, activations, features, scores.",
)
@json_option
def cache(clear: bool, kind: str | None, as_json: bool) -> None:
    """Show, or clear, what is kept between runs because it depends on no SAE."""
    from datetime import datetime

    from sage.store.store import user_store

    store = user_store()
    if clear:
        click.echo(f"Freed {store.clear(kind=kind) / 1e6:.1f} MB in {store.folder}")
        return
    entries = store.entries(kind=kind)
    rows = [
        {
            "kind": entry.kind,
            "of": entry.of,
            "MB": entry.bytes / 1e6,
            "last used": f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}",
        }
        for entry in entries
    ]
    held, limit = sum(entry.bytes for entry in entries), (store.limit or 0)
    title = f"Kept in {store.folder}: {held / 1e9:.2f} GB of at most {limit / 1e9:g}"
    print_rows(rows, title=title, as_json=as_json)
