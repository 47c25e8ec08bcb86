"""From what a user writes after --sae to suites: a release, one SAE of it, local files, or several
of these joined by `+`.

A release that holds several SAEs of one point of the residual stream (widths, sparsities, training
steps) is several suites, named by what is left of its SAEs' names once layer and hook are taken
out. Method, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from sage.errors import BadFile, SageError, Unsupported, unknown
from sage.nodes import RESIDUAL_KINDS, Node
from sage.saes.download import fetch
from sage.saes.formats import describe_file, load_file, recognised
from sage.saes.registry import Released, published, registry
from sage.saes.sae import SAE, canonical, check_fits
from sage.saes.suite import Suite, assemble

_PLACE = re.compile(
    r"blocks\.\d+\.hook_resid_(?:pre|mid|post)|resid_(?:pre|mid|post)_layer_\d+|\d+\.resid_(?:pre|mid|post)"
    r"|layers?[_.]?\d+|(?<![a-z0-9])h\.\d+|^l\d+(?=r)|average_l0_\d+"
)
_ZOO = Path(__file__).parents[1] / "zoo"


@dataclass(frozen=True)
class Candidate:
    """An SAE that is known by name, hook and width, and not yet loaded. `name` is its name within
    its release."""

    name: str
    hook: Node
    width: int | None
    l0: float | None
    load: Callable[[], SAE]


@dataclass(frozen=True)
class SuiteSpec:
    """A suite that is not yet loaded; its label is '' where it is all of its release."""

    id: str
    label: str
    candidates: tuple[Candidate, ...]


class ReleaseRow(NamedTuple):
    """One published SAE as `sage saes` lists it; None where nobody states a number."""

    release: str
    sae_id: str
    model: str
    hook: str
    layer: int
    width: int | None
    l0: float | None
    fvu: float | None


def list_releases(model: str | None = None) -> list[ReleaseRow]:
    """Every SAE of a residual stream that ships or is published, or those for one model by any
    name; UnknownName where it has none."""
    embedded = [
        row for name in embedded_models() if model in (None, name) for row in _embedded_rows(name)
    ]
    return embedded if embedded and model is not None else [*embedded, *_published_rows(model)]


def embedded_models() -> list[str]:
    """The models whose SAEs ship with sage: their names are releases too."""
    return sorted(folder.parent.name for folder in _ZOO.glob("*/saes"))


def _embedded_rows(model: str) -> list[ReleaseRow]:
    return [
        ReleaseRow(one.id, candidate.name, model, f"{candidate.hook.layer}.{candidate.hook.kind}", candidate.hook.layer, candidate.width,
            candidate.l0, None)
        for one in _embedded(model, "")
        for candidate in one.candidates
    ]  # fmt: skip


def _published_rows(model: str | None) -> list[ReleaseRow]:
    return [
        ReleaseRow(
            found.release,
            found.sae_id,
            found.model,
            f"{found.hook.layer}.{found.hook.kind}",
            found.hook.layer,
            found.width,
            found.l0,
            found.fvu,
        )
        for found in published(model)
    ]


def load_suite(
    spec: str, *, d_model: int | None = None, hooks: Collection[Node] | None = None
) -> Suite:
    """The one suite that `spec` names; SageError listing them where it names several. Arguments as
    for `load_suites`."""
    return _load(_only(spec, plan(spec)), d_model, hooks)


def load_suites(
    specs: Sequence[str],
    *,
    each: bool = False,
    d_model: int | None = None,
    hooks: Collection[Node] | None = None,
) -> list[Suite]:
    """Every suite that the specs name, in their order; with `each`, the SAEs of a suite follow it
    as suites of their own.

    `d_model` is the width of the model they must fit. With `hooks`, only SAEs of these residual
    nodes are loaded, and downloaded.
    """
    suites: dict[str, Suite] = {}
    for one in (one for spec in specs for one in plan(spec)):
        suite = suites.setdefault(one.id, _load(one, d_model, hooks))
        if each and len(suite.saes) > 1:
            suites.update({sae.id: assemble(sae.id, [sae]) for sae in suite.saes.values()})
    return list(suites.values())


def plan(spec: str) -> list[SuiteSpec]:
    """The suites that `spec` names, resolved by name alone: nothing is loaded or downloaded."""
    if Path(spec).expanduser().exists() or "+" not in spec:
        return _resolve(spec)
    parts = [_only(part.strip(), _resolve(part.strip())) for part in spec.split("+")]
    return [
        SuiteSpec(spec, "", tuple(candidate for part in parts for candidate in part.candidates))
    ]


def _load(one: SuiteSpec, d_model: int | None, hooks: Collection[Node] | None) -> Suite:
    wanted = None if hooks is None else {canonical(hook) for hook in hooks}
    chosen = [
        candidate
        for candidate in one.candidates
        if wanted is None or canonical(candidate.hook) in wanted
    ]
    if not chosen:
        there = ", ".join(str(candidate.hook) for candidate in one.candidates)
        raise SageError(
            f"Suite '{one.id}' has no SAE at any of {', '.join(map(str, sorted(wanted or ())))}; it has {there}."
        )
    saes = [candidate.load() for candidate in chosen]
    if d_model is not None:
        for sae in saes:
            check_fits(sae, d_model)
    return assemble(one.id, saes)


def _only(spec: str, plans: list[SuiteSpec]) -> SuiteSpec:
    if len(plans) == 1:
        return plans[0]
    labels = [one.id for one in plans]
    listed = ", ".join(labels[:12]) + (", ..." if len(labels) > 12 else "")
    raise SageError(
        f"'{spec}' is {len(plans)} suites, one for each width and variant. Name one of them: {listed}."
    )


def _resolve(spec: str) -> list[SuiteSpec]:
    path = Path(spec).expanduser()
    if path.exists():
        return _local(spec.rstrip("/"), path)
    if spec.startswith((".", "~", "/")):
        raise BadFile(
            f"{spec}: there is no such file or folder. Give an SAE's folder, a folder of such folders, or the name of a release."
        )
    release, _, rest = spec.partition("/")
    if release in embedded_models():
        return _embedded(release, rest)
    known = registry()
    if release in known.others:
        raise Unsupported(
            f"Release '{release}' has no SAE of the residual stream, and only these can be judged. `sage saes` lists them."
        )
    if release not in known.releases:
        possible = known.releases if not rest else [entry.id for entry in published()]
        raise unknown(
            "SAE, release or local file", spec, possible, remedy="`sage saes` lists them all."
        )
    return _of_release(release, rest, known.releases[release])


def _embedded(model: str, rest: str) -> list[SuiteSpec]:
    """The SAEs that ship with an embedded model, or those whose place below it is `rest`."""
    folder = _ZOO / model / "saes"
    if not rest:
        return _local(model, folder)
    if not (folder / rest).is_dir():
        raise unknown("SAE", f"{model}/{rest}", [one.id for one in _local(model, folder)])
    return _local(f"{model}/{rest}", folder / rest)


def _of_release(release: str, rest: str, entries: Iterable[Released]) -> list[SuiteSpec]:
    candidates = {
        entry.sae_id: Candidate(entry.sae_id, entry.hook, entry.width, entry.l0, _fetcher(entry))
        for entry in entries
    }
    plans = _grouped(release, list(candidates.values()))
    if not rest:
        return plans
    if rest in candidates:
        return [SuiteSpec(f"{release}/{rest}", "", (candidates[rest],))]
    if found := [one for one in plans if one.label == rest or one.label.startswith(f"{rest}/")]:
        return found
    possible = [
        f"{release}/{name}" for name in (*candidates, *(one.label for one in plans if one.label))
    ]
    raise unknown("SAE", f"{release}/{rest}", possible)


def _fetcher(entry: Released) -> Callable[[], SAE]:
    return lambda: fetch(entry)


def _local(spec: str, path: Path) -> list[SuiteSpec]:
    """One SAE, or a folder of folders of them; SAEs of other activations beside them are left out."""
    if path.is_file() or recognised(path):
        hook, width, stated = describe_file(path)
        return [
            SuiteSpec(spec, "", (Candidate(spec, hook, width, stated.l0, _loader(path, spec)),))
        ]
    folders = sorted(
        folder
        for folder in path.rglob("*")
        if folder.is_dir() and not _hidden(folder, path) and recognised(folder)
    )
    candidates: list[Candidate] = []
    refused: list[str] = []
    for folder in folders:
        name = folder.relative_to(path).as_posix()
        try:
            hook, width, stated = describe_file(folder)
        except Unsupported as error:
            refused.append(str(error))
            continue
        if hook.kind in RESIDUAL_KINDS:
            candidates.append(
                Candidate(name, hook, width, stated.l0, _loader(folder, f"{spec}/{name}"))
            )
        else:
            refused.append(f"{folder} reads {hook}, which is not the residual stream.")
    if not candidates:
        raise (
            Unsupported(f"{path}: none of its SAEs can be judged. {refused[0]}")
            if refused
            else BadFile(
                f"{path}: no SAE in it or in the folders below it. Known: sae_weights.safetensors, params.npz, ae.pt, sae.safetensors."
            )
        )
    return _grouped(spec, candidates)


def _hidden(folder: Path, path: Path) -> bool:
    return any(part.startswith(".") for part in folder.relative_to(path).parts)


def _loader(path: Path, name: str) -> Callable[[], SAE]:
    return lambda: replace(load_file(path), id=name)


def _grouped(release: str, candidates: list[Candidate]) -> list[SuiteSpec]:
    """Suites of one width and variant each; where one still has two SAEs at a point, by hook kind,
    then by rank of L0."""
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(_variant(candidate.name), []).append(candidate)
    found = _split(found, lambda group: [f"width_{candidate.width}" for candidate in group])
    found = _split(
        found, lambda group: [candidate.hook.kind for candidate in group], only_where_crowded=True
    )
    found = _split(found, _ranks, only_where_crowded=True)
    if len(found) == 1:
        return [SuiteSpec(release, "", tuple(next(iter(found.values()))))]
    labels = sorted(
        found,
        key=lambda label: [
            (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", label)
        ],
    )
    return [
        SuiteSpec(f"{release}/{label}" if label else release, label, tuple(found[label]))
        for label in labels
    ]


def _variant(name: str) -> str:
    """What distinguishes an SAE from its siblings at other layers."""
    rest = _PLACE.sub("", name)
    return re.sub(r"[/_.\-]*/[/_.\-]*", "/", rest).strip("/_.- ")


def _split(
    groups: dict[str, list[Candidate]],
    marks_of: Callable[[list[Candidate]], list[str]],
    *,
    only_where_crowded: bool = False,
) -> dict[str, list[Candidate]]:
    """The groups, each divided by a mark of its members wherever these differ in it."""
    found: dict[str, list[Candidate]] = {}
    for label, group in groups.items():
        marks = marks_of(group)
        divide = len(set(marks)) > 1 and (_crowded(group) or not only_where_crowded)
        for candidate, mark in zip(group, marks, strict=True):
            found.setdefault("/".join(filter(None, [label, mark if divide else ""])), []).append(
                candidate
            )
    return found


def _crowded(group: list[Candidate]) -> bool:
    return len({canonical(candidate.hook) for candidate in group}) < len(group)


def _ranks(group: list[Candidate]) -> list[str]:
    """Each candidate's place among those at its point, sparsest first, by name where sparsity is
    not stated."""
    ranks: dict[str, int] = {}
    taken: dict[Node, int] = {}
    for candidate in sorted(group, key=lambda candidate: (candidate.l0 or 0.0, candidate.name)):
        ranks[candidate.name] = taken[canonical(candidate.hook)] = (
            taken.get(canonical(candidate.hook), 0) + 1
        )
    return [f"sparsity_{ranks[candidate.name]}" for candidate in group]
