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

from sage.errors import Unsupported, unknown
from sage.nodes import Node

# Of the loaders that sae-lens names: those of our own formats, and those whose architectures we
# know under other file layouts.
OWN_FORMATS = {
    "sae_lens": "saelens",
    "gemma_2": "gemma_scope",
    "dictionary_learning_1": "dictionary_learning",
    "sparsify": "sparsify",
}
_OTHER_FORMATS = (
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
_WIDTH = re.compile(
    r"width[_-](\d+)(k|m)|width-2pow(\d+)|[-_]w-?(\d+)k|-(\d+)k(?:$|_)|resid_(?:pre|post)_(\d{3,6})(?:$|_)"
)


@dataclass(frozen=True)
class Released:
    """One published SAE of the residual stream. `width`, `l0` and `fvu` are None where nobody
    states them."""

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

    @property
    def id(self) -> str:
        """The name under which it can be asked for."""
        return f"{self.release}/{self.sae_id}"


class Registry(NamedTuple):
    """Residual SAEs by release, and the names of the releases that have none."""

    releases: Mapping[str, tuple[Released, ...]]
    others: frozenset[str]


@cache
def registry() -> Registry:
    """All of it; Unsupported where sae-lens is not installed."""
    import yaml

    found = find_spec("sae_lens")
    if found is None or not found.submodule_search_locations:
        raise Unsupported(
            "Names of releases come from sae-lens, which is not installed (pip install sae-lens). Local files load without it."
        )
    file = Path(found.submodule_search_locations[0]) / "pretrained_saes.yaml"
    content: dict[str, Any] = yaml.load(
        file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    releases = {release: _entries(release, value) for release, value in content.items()}
    return Registry(
        {release: entries for release, entries in releases.items() if entries},
        frozenset(release for release, entries in releases.items() if not entries),
    )


def published(model: str | None = None) -> list[Released]:
    """Every published residual SAE, or those of one model, in the registry's order; UnknownName
    where no such model has one."""
    entries = [entry for release in registry().releases.values() for entry in release]
    if model is None:
        return entries
    if not (found := [entry for entry in entries if _plain(entry.model) == _plain(model)]):
        raise unknown(
            "model with released residual SAEs", model, {entry.model for entry in entries}
        )
    return found


def _plain(model: str) -> str:
    name = model.rsplit("/", 1)[-1].lower()
    return "gpt2-small" if name == "gpt2" else name


def _entries(release: str, value: Mapping[str, Any]) -> tuple[Released, ...]:
    loader = str(value.get("conversion_func") or "sae_lens")
    if loader not in (*OWN_FORMATS, *_OTHER_FORMATS):
        return ()
    entries: list[Released] = []
    for item in value["saes"]:
        sae_id, path = str(item["id"]), str(item["path"])
        hook = _hook(release, sae_id, path, loader)
        if hook is None:
            continue
        explained = item.get("variance_explained")
        factor = (
            {"norm_scaling_factor": item["norm_scaling_factor"]}
            if "norm_scaling_factor" in item
            else {}
        )
        entries.append(
            Released(
                release=release,
                sae_id=sae_id,
                model=str(value["model"]),
                hook=hook,
                width=_width(
                    release, sae_id, path, str(item.get("neuronpedia") or ""), str(value["repo_id"])
                ),
                l0=_sparsity(release, hook, path, float(item.get("l0") or 0)),
                fvu=None if explained is None else round(1 - float(explained), 6),
                repository=str(value["repo_id"]),
                path=path,
                loader=loader,
                overrides={
                    **(value.get("config_overrides") or {}),
                    **factor,
                    **_CORRECTIONS.get(release, {}),
                },
            )
        )
    return tuple(entries)


def _hook(release: str, sae_id: str, path: str, loader: str) -> Node | None:
    """The residual node an SAE reads, None where it reads something else."""
    if found := _HOOK.match(sae_id):
        return Node(found[2], int(found[1]))
    residual = {
        "gemma_2": "-res" in release and path.startswith("layer_"),
        "gemma_3": path.startswith("resid_post"),
        "llama_scope": "_lxr_" in release,
        "llama_scope_r1_distill": re.match(r"l\d+r_", sae_id) is not None,
        "dictionary_learning_1": sae_id.startswith("resid_post"),
        "qwen_scope": True,
        "goodfire": True,
    }
    layer = re.search(r"layers?[_.]?(\d+)|^l(\d+)r", sae_id)
    return (
        Node("resid_post", int(layer[1] or layer[2]))
        if layer and residual.get(loader, False)
        else None
    )


def _sparsity(release: str, hook: Node, path: str, stated: float) -> float | None:
    if stated:
        return stated
    if found := re.search(r"average_l0_(\d+)", path):
        return float(found[1])
    return dict(enumerate(_SPARSITIES.get(release, {}).get(hook.kind, ()))).get(hook.layer)


def _width(release: str, *names: str) -> int | None:
    for name in (*names, release):
        if found := _WIDTH.search(name):
            thousands = found[1] if found[2] == "k" else found[4] or found[5]
            if thousands:
                return _power_of_two_nearby(int(thousands) * 1024)
            return (
                int(found[1]) * 2**20
                if found[2] == "m"
                else 2 ** int(found[3])
                if found[3]
                else int(found[6])
            )
    return _WIDTHS.get(release)


def _power_of_two_nearby(width: int) -> int:
    """65k is 65536 and 131k is 131072, but 80k is 81920."""
    power = 2 ** round(math.log2(width))
    return power if abs(width - power) < 0.03 * power else width
