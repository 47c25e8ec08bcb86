"""A suite: the SAEs that are judged together, at most one at each point of the residual stream.

Method, section 4. What leaves layer L-1 is what enters layer L, so an SAE of either stands at the
same point.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sage.errors import SageError, SageWarning
from sage.models.anatomy import Anatomy
from sage.nodes import Node
from sage.saes.sae import SAE, canonical, check_fits


@dataclass(frozen=True, eq=False)
class Suite:
    """SAEs by the residual node they read, in the order of the forward pass; made by `assemble`."""

    id: str
    saes: Mapping[Node, SAE]

    def __repr__(self) -> str:
        saes = ", ".join(
            f"{sae.hook.layer}.{sae.hook.kind} {sae.encoder.name} {sae.width}"
            for sae in self.saes.values()
        )
        return f"Suite '{self.id}': {saes}"

    @property
    def hooks(self) -> tuple[Node, ...]:
        """The residual nodes that have an SAE."""
        return tuple(self.saes)

    def at(self, hook: Node) -> SAE | None:
        """The SAE at a residual node of any position, by either of its names, or None."""
        return self.saes.get(canonical(hook))


def assemble(name: str, saes: Iterable[SAE]) -> Suite:
    """The suite of these SAEs.

    Refused: none at all, two at one node, two widths of model, one that reads no residual stream.
    """
    by_site: dict[Node, SAE] = {}
    for sae in saes:
        if (other := by_site.setdefault(sae.site, sae)) is not sae:
            raise SageError(
                f"Suite '{name}' has two SAEs at {sae.site}: '{other.id}' ({other.hook}) and "
                f"'{sae.id}' ({sae.hook}). A suite has at most one at each point: score them as "
                "two suites."
            )
    if not by_site:
        raise SageError(f"Suite '{name}' has no SAE.")
    first = next(iter(by_site.values()))
    for sae in by_site.values():
        if sae.d_model != first.d_model:
            raise SageError(
                f"Suite '{name}' mixes SAEs of different models: '{first.id}' reads "
                f"{first.d_model} dimensions, '{sae.id}' {sae.d_model}."
            )
    return Suite(name, dict(sorted(by_site.items())))


def on_model(suite: Suite, anatomy: Anatomy, device: str) -> Suite:
    """The suite as it is for this model (see `fitted`), with its weights where the model's are."""
    suite = fitted(suite, anatomy)
    return Suite(suite.id, {hook: sae.to(device) for hook, sae in suite.saes.items()})


def fitted(suite: Suite, anatomy: Anatomy) -> Suite:
    """The suite with what its files say of a model of this anatomy; BadFile for an SAE of another
    width.

    Only layer norms let writing weights be centred. Where a model has others, the library that
    trained such an SAE left them as they were, so a configuration that asks for centring does not
    describe its training: the SAE reads raw activations, and a warning says so.
    """
    saes: dict[Node, SAE] = {}
    for hook, sae in suite.saes.items():
        check_fits(sae, anatomy.d_model)
        if sae.centred and any(layer.attention_norm.kind != "layer" for layer in anatomy.blocks):
            warnings.warn(
                f"SAE '{sae.id}' says that its model's writing weights were centred, which RMS "
                "norms do not allow: it reads the activations as they are.",
                SageWarning,
                stacklevel=2,
            )
            sae = replace(sae, centred=False)
        saes[hook] = sae
    return Suite(suite.id, saes)


def why_unread(hook: Node, anatomy: Anatomy) -> str | None:
    """Why no sublayer of a model reads a residual stream; None where one does."""
    if canonical(hook) in anatomy.hooks:
        return None
    if hook.layer >= anatomy.layers:
        return f"the model has layers 0 to {anatomy.layers - 1}"
    if canonical(hook).layer >= anatomy.layers:
        return "no attention and no MLP comes after the last layer"
    return "attention and MLP of this model read the same stream, resid_pre"


def judgeable(suite: Suite, anatomy: Anatomy) -> Suite:
    """The suite at the streams that some sublayer of a model reads: others cannot be projected, and
    are left out with a warning. SageError where none is read."""
    unread = {
        node: f"nothing reads {sae.hook.layer}.{sae.hook.kind}: {why}"
        for node, sae in suite.saes.items()
        if (why := why_unread(sae.hook, anatomy)) is not None
    }
    if len(unread) == len(suite.saes):
        possible = ", ".join(f"{hook.layer}.{hook.kind}" for hook in anatomy.hooks)
        raise SageError(
            f"Suite '{suite.id}' cannot be judged on this model: {'; '.join(unread.values())}. "
            f"Hooks that are read: {possible}."
        )
    for node, why in unread.items():
        message = f"SAE '{suite.saes[node].id}' is left out: {why}."
        warnings.warn(message, SageWarning, stacklevel=2)
    return Suite(suite.id, {at: sae for at, sae in suite.saes.items() if at not in unread})
