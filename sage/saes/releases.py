"""From what a user writes after --sae to suites.

A spec is a release, one SAE of it, a local file or folder, or several of these joined by `+`. A
release that holds several SAEs of one point of the residual stream (widths, sparsities, training
steps) is several suites. Method, section 4.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sage.errors import BadFile, SageError, UnknownName, Unsupported, unknown
from sage.files import given_path
from sage.nodes import RESIDUAL_KINDS, Node
from sage.saes.download import fetch
from sage.saes.formats import describe_file, formats, load_file, recognised
from sage.saes.registry import ReleasedSAE, published, registry
from sage.saes.sae import SAE, canonical, check_fits, hook_label
from sage.saes.suite import Suite, assemble
from sage.saes.suite_spec import Candidate, SuiteSpec, divide

# What the names of suites that ship say of how they were trained, before a number.
SOFT_FROZEN, SEED = "soft-frozen", "seed"

_ZOO = Path(__file__).parents[1] / "zoo"
_MOST_LISTED = 12
# A folder of SAEs has no more folders below it than this.
_MOST_FOLDERS = 5_000
_WEIGHTS = (".safetensors", ".npz", ".pt")
_REPOSITORY = re.compile(r"[\w.-]*\w/[\w.-]*\w(/|$)")


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
    """Every SAE of a residual stream that ships or is published, or those for one model.

    The model may go by any of its names; UnknownName where it has none.
    """
    embedded: list[ReleaseRow] = []
    for name in embedded_models():
        if model in (None, name):
            embedded += _embedded_rows(name)
    if embedded and model is not None:
        return embedded
    return [*embedded, *_published_rows(model)]


def list_saes(release: str) -> list[ReleaseRow]:
    """The SAEs of one release, of one suite that ships, or of all that ship with a model."""
    rows = list_releases()
    listed = [row for row in rows if f"{row.release}/".startswith(f"{release}/")]
    if not listed:
        raise unknown("release", release, {row.release for row in rows})
    return listed


def embedded_models() -> list[str]:
    """The models whose SAEs ship with sage: their names are releases too."""
    return sorted(folder.parent.name for folder in _ZOO.glob("*/saes"))


def nulls_of(suite: str) -> list[str]:
    """The suites that ship as soft-frozen nulls of this one, by name; of an SAE in it, their SAEs.

    Nulls have the suite's recipe: those of `topk8` are also those of `topk8-seed-2`. Most suites
    have none. How a null is made: `freezing`.
    """
    model, _, place = suite.partition("/")
    if model not in embedded_models():
        return []
    folder = _ZOO / model / "saes"
    name, *hook = place.split("/")
    stem = f"{re.sub(rf'-{SEED}-[0-9]+$', '', name)}-{SOFT_FROZEN}-"
    nulls = [null.name for null in sorted(folder.iterdir()) if null.name.startswith(stem)]
    return [
        "/".join([model, null, *hook]) for null in nulls if folder.joinpath(null, *hook).is_dir()
    ]


def load_suite(
    spec: str, *, d_model: int | None = None, hooks: Collection[Node] | None = None
) -> Suite:
    """The one suite that `spec` names; SageError listing them where it names several.

    Arguments as for `load_suites`.

        suite = sage.load_suite("tiny-gpt2/topk8")
    """
    return _load(_only(spec, suite_specs(spec)), d_model, hooks)


def load_suites(
    specs: str | Sequence[str],
    *,
    each: bool = False,
    d_model: int | None = None,
    hooks: Collection[Node] | None = None,
    only: Collection[str] | None = None,
) -> list[Suite]:
    """Every suite that the specs name, in their order.

    With `each`, the SAEs of a suite follow it as suites of their own. `d_model` is the width of the
    model they must fit. With `hooks`, only SAEs of these residual nodes are loaded, and downloaded;
    with `only`, only suites of these names.

        suites = sage.load_suites(["tiny-gpt2/topk8", "my_sae"])
    """
    suites: dict[str, Suite] = {}
    for spec in [specs] if isinstance(specs, str) else specs:
        for suite_spec in suite_specs(spec):
            if only is not None and suite_spec.id not in only:
                continue
            suite = suites.setdefault(suite_spec.id, _load(suite_spec, d_model, hooks))
            if each and len(suite.saes) > 1:
                suites.update({sae.id: assemble(sae.id, [sae]) for sae in suite.saes.values()})
    return list(suites.values())


def suite_specs(spec: str) -> list[SuiteSpec]:
    """The suites that `spec` names, resolved by name alone: nothing is loaded or downloaded."""
    if given_path(spec).exists() or "+" not in spec:
        return _resolve(spec)
    candidates: list[Candidate] = []
    for part in spec.split("+"):
        candidates += _only(part.strip(), _resolve(part.strip())).candidates
    return [SuiteSpec(spec, "", tuple(candidates))]


def _embedded_rows(model: str) -> list[ReleaseRow]:
    rows: list[ReleaseRow] = []
    for suite_spec in _embedded(model, ""):
        for sae in suite_spec.candidates:
            rows.append(
                ReleaseRow(
                    release=suite_spec.id,
                    sae_id=sae.name,
                    model=model,
                    hook=hook_label(sae.hook),
                    layer=sae.hook.layer,
                    width=sae.width,
                    l0=sae.l0,
                    fvu=None,
                )
            )
    return rows


def _published_rows(model: str | None) -> list[ReleaseRow]:
    return [
        ReleaseRow(
            release=sae.release,
            sae_id=sae.sae_id,
            model=sae.model,
            hook=hook_label(sae.hook),
            layer=sae.hook.layer,
            width=sae.width,
            l0=sae.l0,
            fvu=sae.fvu,
        )
        for sae in published(model)
    ]


def _load(suite_spec: SuiteSpec, d_model: int | None, hooks: Collection[Node] | None) -> Suite:
    chosen = suite_spec.candidates
    if hooks is not None:
        wanted = {canonical(hook) for hook in hooks}
        chosen = [candidate for candidate in chosen if canonical(candidate.hook) in wanted]
        if not chosen:
            asked = ", ".join(map(str, sorted(wanted)))
            hooks_of_suite = ", ".join(str(candidate.hook) for candidate in suite_spec.candidates)
            raise SageError(
                f"Suite '{suite_spec.id}' has no SAE at any of {asked}; it has {hooks_of_suite}."
            )
    saes = [candidate.load() for candidate in chosen]
    if d_model is not None:
        for sae in saes:
            check_fits(sae, d_model)
    return assemble(suite_spec.id, saes)


def _only(spec: str, suites: list[SuiteSpec]) -> SuiteSpec:
    if len(suites) == 1:
        return suites[0]
    names = [suite_spec.id for suite_spec in suites]
    listed = ", ".join(names[:_MOST_LISTED]) + (", ..." if len(names) > _MOST_LISTED else "")
    raise SageError(
        f"'{spec}' is {len(suites)} suites, one for each width and variant. "
        f"Name one of them: {listed}."
    )


def _resolve(spec: str) -> list[SuiteSpec]:
    """The suites of one part of a spec: local, embedded or published."""
    path = given_path(spec)
    if path.exists():
        return _local(spec.rstrip("/"), path)
    if spec.startswith((".", "~", "/")):
        raise BadFile(
            f"{spec}: there is no such file or folder. "
            "Give an SAE's folder, a folder of such folders, or the name of a release."
        )
    release, _, rest = spec.partition("/")
    if release in embedded_models():
        return _embedded(release, rest)
    releases, others = registry()
    if release in others:
        raise Unsupported(
            f"Release '{release}' has no SAE of the residual stream, and only these can be judged. "
            "`sage saes` lists them."
        )
    if release not in releases and _REPOSITORY.match(spec):
        at_hub = _in_repository(spec, releases)
        if at_hub is not None:
            return at_hub
    if release not in releases:
        possible = [sae.id for sae in published()] if rest else list(releases)
        raise unknown(
            "SAE, release or local file", spec, possible, remedy="`sage saes` lists them all."
        )
    return _in_release(release, rest, releases[release])


def _embedded(model: str, rest: str) -> list[SuiteSpec]:
    """The SAEs that ship with an embedded model, or those whose place below it is `rest`."""
    folder = _ZOO / model / "saes"
    if not rest:
        return _local(model, folder)
    if not (folder / rest).is_dir():
        names = [suite_spec.id for suite_spec in _local(model, folder)]
        raise unknown("SAE", f"{model}/{rest}", names)
    return _local(f"{model}/{rest}", folder / rest)


def _in_release(release: str, rest: str, saes: Iterable[ReleasedSAE]) -> list[SuiteSpec]:
    """The suites of a release, or the SAE or the suites in it that are called `rest`."""
    candidates = {
        sae.sae_id: Candidate(sae.sae_id, sae.hook, sae.width, sae.l0, _fetcher(sae))
        for sae in saes
    }
    suites = divide(release, list(candidates.values()))
    if not rest:
        return suites
    if rest in candidates:
        return [SuiteSpec(f"{release}/{rest}", "", (candidates[rest],))]
    labelled = [
        suite_spec for suite_spec in suites if f"{suite_spec.label}/".startswith(f"{rest}/")
    ]
    if labelled:
        return labelled
    labels = [suite_spec.label for suite_spec in suites if suite_spec.label]
    possible = [f"{release}/{name}" for name in (*candidates, *labels)]
    raise unknown("SAE", f"{release}/{rest}", possible)


def _in_repository(
    spec: str, releases: Mapping[str, Sequence[ReleasedSAE]]
) -> list[SuiteSpec] | None:
    """The suites of a hub repository, owner/name, or the SAE in it that the rest of `spec` names.

    None where `spec` begins as releases do; SageError, which says how to fetch it, for a repository
    of no release, and for one of several.
    """
    owner, name, *inner = spec.split("/")
    repository, rest = f"{owner}/{name}", "/".join(inner)
    of_repository = {
        release: saes for release, saes in releases.items() if saes[0].repository == repository
    }
    if not of_repository and difflib.get_close_matches(owner, releases, n=1, cutoff=0.7):
        return None
    if not of_repository:
        include = f" --include '{rest}/*'" if rest else ""
        raise UnknownName(
            f"No release or local folder is named '{spec}', and no release is of the repository "
            f"{repository}. Fetch it (`hf download {repository}{include} --local-dir {name}`) and "
            f"give the folder that has the SAE: {'/'.join([name, *inner])}. `sage saes` lists "
            "releases."
        )
    holding = {
        release: sae.sae_id
        for release, saes in of_repository.items()
        for sae in saes
        if rest in (sae.sae_id, sae.path)
    } or dict.fromkeys(of_repository, rest)
    release = name if name in holding else next(iter(holding))
    if len(holding) > 1 and release != name:
        raise SageError(
            f"The repository {repository} holds several releases: {', '.join(holding)}. Name one."
        )
    return _in_release(release, holding[release], releases[release])


def _fetcher(released: ReleasedSAE) -> Callable[[], SAE]:
    return lambda: fetch(released)


def _local(spec: str, path: Path) -> list[SuiteSpec]:
    """One SAE, or a folder of folders of them.

    SAEs of other activations beside those of the residual stream are left out.
    """
    if path.is_file() or recognised(path):
        return [SuiteSpec(spec, "", (_candidate(path, spec, spec),))]
    candidates: list[Candidate] = []
    refused: list[str] = []
    for folder in _sae_folders(path):
        name = folder.relative_to(path).as_posix()
        try:
            candidate = _candidate(folder, name, f"{spec}/{name}")
        except Unsupported as error:
            refused.append(str(error))
            continue
        if candidate.hook.kind in RESIDUAL_KINDS:
            candidates.append(candidate)
        else:
            refused.append(f"{folder} reads {candidate.hook}, which is not the residual stream.")
    if candidates:
        return divide(spec, candidates)
    if refused:
        raise Unsupported(f"{path}: none of its SAEs can be judged. {refused[0]}")
    weights = ", ".join(form.FILES[-1] for form in formats())
    raise BadFile(f"{path}: no SAE in it or in the folders below it. Known: {weights}.")


def _candidate(path: Path, name: str, sae_id: str) -> Candidate:
    """The SAE in a local file or folder, which is to be called `sae_id` once it is loaded."""

    def load() -> SAE:
        return replace(load_file(path), id=sae_id)

    hook, width, stated = describe_file(path)
    return Candidate(name, hook, width, stated.l0, load)


def _sae_folders(path: Path) -> list[Path]:
    """The folders below `path` that hold an SAE, without those that are hidden, in order.

    BadFile where there are too many folders to look at: `path` is then no folder of SAEs.
    """
    folders: list[Path] = []
    for count, (root, inner, files) in enumerate(os.walk(path)):
        if count > _MOST_FOLDERS:
            raise BadFile(
                f"{path} has more than {_MOST_FOLDERS} folders below it. Give an SAE's folder, or "
                "a folder of such folders."
            )
        inner[:] = [name for name in inner if not name.startswith(".")]
        has_weights = any(name.endswith(_WEIGHTS) for name in files)
        if has_weights and Path(root) != path and recognised(Path(root)):
            folders.append(Path(root))
    return sorted(folders)
