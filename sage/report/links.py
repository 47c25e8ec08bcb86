"""The links on every page: models with their tasks, and the page's neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sage.report.sources import Source


class Link(NamedTuple):
    """A page by its address."""

    name: str
    address: str


class PageLinks(NamedTuple):
    """All pages by model, and those before and after this one."""

    models: list[tuple[str, list[Link]]]
    before: Link | None
    after: Link | None


def page_links(sources: Sequence[Source], here: Source | None = None) -> PageLinks:
    """The links on the page of a source; other pages have no neighbours."""
    models: dict[str, list[Link]] = {}
    for source in sources:
        models.setdefault(source.model_and_plan, []).append(_link(source, source.task))
    before, after = None, None
    if here is not None:
        place = sources.index(here)
        before = _neighbour(sources[place - 1]) if place > 0 else None
        after = _neighbour(sources[place + 1]) if place + 1 < len(sources) else None
    return PageLinks(list(models.items()), before, after)


def _neighbour(source: Source) -> Link:
    return _link(source, f"{source.task} on {source.model_and_plan}")


def _link(source: Source, name: str) -> Link:
    seed = f" (seed {source.seed})" if source.seed else ""
    return Link(f"{name}{seed}", f"{source.slug}.html")
