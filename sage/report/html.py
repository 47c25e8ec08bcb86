"""Pages: templates filled and written; whatever comes from a file is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sage.files import clean_leftovers, write_atomically

if TYPE_CHECKING:
    from jinja2 import Environment

ASSETS = ("report.css", "report.js")


def write_page(path: Path, template: str, **content: Any) -> Path:
    """Fill a template and write the page."""
    return write_file(path, _environment().get_template(template).render(**content).encode())


def write_assets(out: Path) -> None:
    """The style and the script that every page links to. What a report that was killed left half
    written is deleted."""
    for folder in (out, *(path for path in (out / "figures").rglob("*") if path.is_dir())):
        clean_leftovers(folder)
    for name in ASSETS:
        write_file(out / name, (Path(__file__).parent / "templates" / name).read_bytes())


def write_file(path: Path, data: bytes) -> Path:
    """Write a file of the report, whole or not at all; it can always be made again."""
    return write_atomically(path, data, durable=False)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("sage.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
