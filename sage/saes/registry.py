"""Published SAEs: the registry that sae-lens carries, read as data.

https://github.com/decoderesearch/SAELens, pretrained_saes.yaml: release -> repository, model, and
for each SAE an id and a path. What the SAE reads and how wide it is often stands only in these
names. Listed are the SAEs of the residual stream. sae-lens is not imported for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sage.errors import Unsupported
from sage.nodes import Node
from sage.saes.formats import formats
from sage.saes.model_names import of_model

# Loaders of sae-lens beside those of our formats: other file layouts of architectures we know.
_OTHER_LOADERS = (
    "gemma_3",
    "llama_scope",
    "llama_scope_r1_distill",
    "deepseek_r1",
    "qwen_scope",
    "goodfire",
)

# Widths, and mean numbers of active latents by layer, that the authors publish and the registry
# leaves out.
_WIDTHS = {
    "gpt2-small-res-jb": 24576,
    "pythia-70m-deduped-res-sm": 32768,
    **{
        f"gpt2-small-res_{kind}-ajt": 46080
        for kind in ("sce", "scefr", "scl", "sle", "slefr", "sll")
    },
}
_SPARSITIES = {"pythia-70m-deduped-res-sm": {"resid_post": (59.0, 54.0, 108.0, 68.0, 61.0, 72.0)}}
# What their configurations get wrong: these were trained on text without BOS.
_CORRECTIONS: dict[str, dict[str, object]] = {"pythia-70m-deduped-res-sm": {"prepend_bos": False}}

_HOOK = re.compile(r"blocks\.(\d+)\.hook_(resid_pre|resid_mid|resid_post)")
_LAYER = re.compile(r"layers?[_.]?(\d+)|^l(\d+)r")
_WIDTH = re.compile(
    r"""width[_-](?P<width_k>\d+)k
    | width[_-](?P<width_m>\d+)m
    | width-2pow(?P<power>\d+)
    | [-_]w-?(?P<w_k>\d+)k
    | -(?P<last_k>\d+)k(?:$|_)
    | resid_(?:pre|post)_(?P<latents>\d{3,6})(?:$|_)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class ReleasedSAE:
    """One published SAE of the residual stream.

    `width`, `l0` and `fvu` are None where nobody states them. `loader` is what sae-lens calls the
    layout of its files, `overrides` what replaces fields of its configuration, `page` the address
    below which each latent has a page.
    """

    release: str
    sae_id: str
    model: str
    hook: Node
    width: int | None
    l0: float | None
    fvu: float | None
    repository: str
    path: str
    loader: str
    overrides: Mapping[str, object]
    page: str | None = None

    @property
    def id(self) -> str:
        """The name under which it can be asked for."""
        return f"{self.release}/{self.sae_id}"


class Registry(NamedTuple):
    """Residual SAEs by release, and the names of the releases that have none."""

    releases: Mapping[str, tuple[ReleasedSAE, ...]]
    others: frozenset[str]


class ReleaseFacts(NamedTuple):
    """What the registry says of a release, whatever its SAEs read: how many there are, what
    sae-lens calls the layout of their files, and whether these can be read here."""

    release: str
    model: str
    loader: str
    readable: bool
    saes: int


@cache
def registry() -> Registry:
    """All of it; Unsupported where sae-lens is not installed."""
    releases = {
        facts.release: _residual_saes(facts.release, _content()[facts.release])
        if facts.readable
        else ()
        for facts in release_facts()
    }
    return Registry(
        {release: saes for release, saes in releases.items() if saes},
        frozenset(release for release, saes in releases.items() if not saes),
    )


@cache
def release_facts() -> tuple[ReleaseFacts, ...]:
    """Every release, in the registry's order; Unsupported where sae-lens is not installed."""
    loaders = {*(form.LOADER for form in formats()), *_OTHER_LOADERS}
    return tuple(
        ReleaseFacts(
            release, str(facts["model"]), _loader(facts), _loader(facts) in loaders,
            len(facts["saes"]),
        )
        for release, facts in _content().items()
    )  # fmt: skip


@cache
def _content() -> dict[str, Any]:
    """The registry's file as it is."""
    import yaml

    spec = find_spec("sae_lens")
    if spec is None or not spec.submodule_search_locations:
        raise Unsupported(
            "Names of releases come from sae-lens, which is not installed (pip install sae-lens). "
            "Local files load without it."
        )
    file = Path(spec.submodule_search_locations[0]) / "pretrained_saes.yaml"
    return yaml.load(
        file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )


def published(model: str | None = None) -> list[ReleasedSAE]:
    """Every published residual SAE, or those of one model, in the registry's order.

    UnknownName where no such model has one.
    """
    saes = [sae for release in registry().releases.values() for sae in release]
    return of_model(saes, model, "model with released residual SAEs")


def _loader(facts: Mapping[str, Any]) -> str:
    return str(facts.get("conversion_func") or "sae_lens")


def _residual_saes(release: str, facts: Mapping[str, Any]) -> tuple[ReleasedSAE, ...]:
    saes = (_released(release, facts, item) for item in facts["saes"])
    return tuple(sae for sae in saes if sae is not None)


def _released(
    release: str, facts: Mapping[str, Any], item: Mapping[str, Any]
) -> ReleasedSAE | None:
    """One SAE of a release, None where it reads something other than the residual stream.

    `facts` are those of the release, `item` those of the SAE.
    """
    sae_id, path, repository = str(item["id"]), str(item["path"]), str(facts["repo_id"])
    hook = _hook(release, sae_id, path, _loader(facts))
    if hook is None:
        return None
    explained = item.get("variance_explained")
    names = (release, sae_id, path, str(item.get("neuronpedia") or ""), repository)
    overrides = {
        **(facts.get("config_overrides") or {}),
        **{name: item[name] for name in ("norm_scaling_factor",) if name in item},
        **_CORRECTIONS.get(release, {}),
    }
    return ReleasedSAE(
        release=release,
        sae_id=sae_id,
        model=str(facts["model"]),
        hook=hook,
        width=_width(*names),
        l0=_sparsity(release, hook, path, float(item.get("l0") or 0)),
        fvu=None if explained is None else round(1 - float(explained), 6),
        repository=repository,
        path=path,
        loader=_loader(facts),
        overrides=overrides,
        page=_page(item.get("neuronpedia")),
    )


def _page(identity: object) -> str | None:
    """Where Neuronpedia shows the latents of an SAE, by the id that it goes by there."""
    return f"https://www.neuronpedia.org/{identity}" if identity else None


def _hook(release: str, sae_id: str, path: str, loader: str) -> Node | None:
    """The residual node an SAE reads, None where it reads something else."""
    if match := _HOOK.match(sae_id):
        return Node(match[2], int(match[1]))
    is_residual = {
        "gemma_2": "-res" in release and path.startswith("layer_"),
        "gemma_3": path.startswith("resid_post"),
        "llama_scope": "_lxr_" in release,
        "llama_scope_r1_distill": re.match(r"l\d+r_", sae_id) is not None,
        "dictionary_learning_1": sae_id.startswith("resid_post"),
        "qwen_scope": True,
        "goodfire": True,
    }
    layer = _LAYER.search(sae_id)
    if layer is None or not is_residual.get(loader, False):
        return None
    return Node("resid_post", int(layer[1] or layer[2]))


def _sparsity(release: str, hook: Node, path: str, stated: float) -> float | None:
    """The mean number of active latents that registry, path or authors state."""
    if stated:
        return stated
    if match := re.search(r"average_l0_(\d+)", path):
        return float(match[1])
    by_layer = _SPARSITIES.get(release, {}).get(hook.kind, ())
    return by_layer[hook.layer] if hook.layer < len(by_layer) else None


def _width(release: str, *names: str) -> int | None:
    """The number of latents that one of these names says, or the release, or its authors."""
    for name in (*names, release):
        if match := _WIDTH.search(name):
            return _latents(match)
    return _WIDTHS.get(release)


def _latents(match: re.Match[str]) -> int:
    if thousands := match["width_k"] or match["w_k"] or match["last_k"]:
        return _power_of_two_nearby(int(thousands) * 1024)
    if match["width_m"]:
        return int(match["width_m"]) * 2**20
    return 2 ** int(match["power"]) if match["power"] else int(match["latents"])


def _power_of_two_nearby(width: int) -> int:
    """65k is 65536 and 131k is 131072, but 80k is 81920."""
    power = 2 ** round(math.log2(width))
    return power if abs(width - power) < 0.03 * power else width
