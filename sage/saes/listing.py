"""Releases as a list to choose from: what is in each, and whether it can be scored here.

What is derived of the registry is kept in the cache, because reading it takes longer than looking
at it should. The key is what it was derived from: the registry's file, the files of this package
that read it, and the SAEs that ship.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from sage.files import cache_folder, write_atomically
from sage.saes.model_names import of_model, plain_name

_PACKAGE = Path(__file__).parents[1]
_READERS = ("saes/*.py", "saes/formats/*.py", "models/families/*.py", "zoo/*/saes/*")
SHIPS = "ships with sage"

# What transformers calls the models that releases are for, by how their names begin. The first
# that fits counts.
_MODEL_TYPES = (
    ("gpt2", "gpt2"),
    ("pythia", "gpt_neox"),
    ("gemma-2-", "gemma2"),
    ("gemma-3-270m", "gemma3_text"),
    ("gemma-3-1b", "gemma3_text"),
    ("gemma-3-", "gemma3"),
    ("gemma", "gemma"),
    ("llama", "llama"),
    ("meta-llama", "llama"),
    ("deepseek-r1-distill-llama", "llama"),
    ("mistral", "mistral"),
    ("qwen2.5", "qwen2"),
    ("qwen3.5", "qwen3_5"),
    ("qwen3-30b-a3b", "qwen3_moe"),
    ("qwen3", "qwen3"),
    ("gpt-oss", "gpt_oss"),
)


class Release(NamedTuple):
    """One release: for which model, how many SAEs, where they read, how wide and how sparse they
    are, and why it cannot be scored here (empty where it can)."""

    release: str
    model: str
    saes: int
    hooks: str
    width: str
    l0: str
    why_not: str

    @property
    def scorable(self) -> bool:
        """Whether sage can score it."""
        return not self.why_not


def list_all_releases(model: str | None = None) -> list[Release]:
    """Every release that ships or is published, or those for one model, by any of its names.

    UnknownName where none is for that model.
    """
    return of_model(_kept(), model, "model with released SAEs")


def model_type(model: str) -> str | None:
    """What transformers calls the kind of a published model, None where its name does not say."""
    name = plain_name(model)
    return next((kind for start, kind in _MODEL_TYPES if name.startswith(start)), None)


def _kept() -> list[Release]:
    file = cache_folder() / f"releases-{_state()}.json"
    if file.is_file():
        return [Release(*entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
    releases = [*_embedded(), *_published()]
    for outdated in file.parent.glob("releases-*.json"):
        outdated.unlink(missing_ok=True)
    write_atomically(file, json.dumps(releases).encode())
    return releases


def _state() -> str:
    """A digest of the names, sizes and times of everything that the list is derived from."""
    files = [path for pattern in _READERS for path in sorted(_PACKAGE.glob(pattern))]
    spec = find_spec("sae_lens")
    for folder in (spec and spec.submodule_search_locations) or ():
        files.append(Path(folder) / "pretrained_saes.yaml")
    digest = hashlib.sha256()
    for file in files:
        facts = file.stat()
        digest.update(f"{file} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _embedded() -> list[Release]:
    """The suites that ship."""
    from sage.saes.releases import embedded_models, list_releases

    suites: list[Release] = []
    for name in embedded_models():
        rows = list_releases(name)
        for suite in dict.fromkeys(row.release for row in rows):
            saes = [row for row in rows if row.release == suite]
            hooks = _hooks(row.hook for row in saes)
            width, l0 = _range([row.width for row in saes]), _range([row.l0 for row in saes])
            suites.append(Release(suite, name, len(saes), hooks, width, l0, ""))
    return suites


def _published() -> list[Release]:
    from sage.models.families import families
    from sage.saes.registry import registry, release_facts
    from sage.saes.sae import hook_label

    known, supported = registry().releases, families()
    releases: list[Release] = []
    for facts in release_facts():
        kind = model_type(facts.model)
        saes = known.get(facts.release, ())
        why_not = ""
        if not facts.readable:
            why_not = f"format: {facts.loader}"
        elif not saes:
            why_not = "site: not the residual stream"
        elif kind not in supported:
            why_not = f"model: {kind or 'unknown'}"
        releases.append(
            Release(
                facts.release,
                facts.model,
                len(saes) or facts.saes,
                _hooks(hook_label(sae.hook) for sae in saes),
                _range([sae.width for sae in saes]),
                _range([sae.l0 for sae in saes]),
                why_not,
            )
        )
    return releases


def _hooks(labels: Iterable[str]) -> str:
    """`resid_pre 0-11` of `0.resid_pre`, ..., `11.resid_pre`; layers with gaps are listed."""
    layers: dict[str, set[int]] = {}
    for label in labels:
        layer, _, kind = label.partition(".")
        layers.setdefault(kind, set()).add(int(layer))
    return ", ".join(f"{kind} {_spans(sorted(found))}" for kind, found in layers.items())


def _spans(numbers: Sequence[int]) -> str:
    if len(numbers) == numbers[-1] - numbers[0] + 1 and len(numbers) > 1:
        return f"{numbers[0]}-{numbers[-1]}"
    return " ".join(map(str, numbers))


def _range(values: Iterable[int | float | None]) -> str:
    stated = [value for value in values if value is not None]
    if not stated:
        return ""
    low, high = min(stated), max(stated)
    return _short(low) if low == high else f"{_short(low)}-{_short(high)}"


def _short(value: int | float) -> str:
    """16384 as 16k, 1048576 as 1M: powers of two as releases name them."""
    if value >= 2**20:
        return f"{value / 2**20:.0f}M"
    if value >= 10_000:
        exact = value % 1024 == 0
        return f"{value / (1024 if exact else 1000):.0f}k"
    return f"{value:.0f}" if value >= 10 else f"{value:.3g}"
