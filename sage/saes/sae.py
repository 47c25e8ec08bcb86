"""The SAE noun: a sparse autoencoder of the residual stream, with what its inputs go through.

Method, sections 4 and 9. Whatever the architecture and the normalisation, a reconstruction has one
form, x_hat = n(x) (sum_i f_i d_i + b_dec) + mu(x), and that form is what makes an exact projection
onto sublayer activations possible.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sage.errors import BadFile, SageWarning, Unsupported
from sage.memory import CODES_AT_ONCE
from sage.nodes import RESIDUAL_KINDS, Node

NormalisationKind = Literal[
    "none", "expected_average_only_in", "constant_norm_rescale", "layer_norm"
]

_LAYER_NORM_EPS = 1e-5
_L0_OFF_BY = 0.3


@runtime_checkable
class Encoder(Protocol):
    """An encoder holding its own weights: each architecture has one, in a file of its own."""

    name: ClassVar[str]

    @property
    def W_enc(self) -> Float[Tensor, "d_model latent"]:
        """One direction per latent in its columns."""
        ...

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes of normalised inputs."""
        ...

    def scaled(self, scale: Float[Tensor, " latent"]) -> Encoder:
        """The encoder whose codes are these times `scale`, which is positive."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by field."""
        ...

    def settings(self) -> dict[str, object]:
        """What is not a weight."""
        ...


@dataclass(frozen=True)
class Normalisation:
    """What is done to an input before encoding and undone after decoding, as SAELens names it.

    expected_average_only_in: times one factor, so that norms are sqrt(d) on average.
    constant_norm_rescale: every token to norm sqrt(d). layer_norm: every token to mean 0 and
    (unbiased) standard deviation 1.
    """

    kind: NormalisationKind = "none"
    factor: float = 1.0


@dataclass(frozen=True)
class Stated:
    """What the release says of the SAE; None where it says nothing. `fvu` is the fraction of
    variance unexplained, `page` the address below which each latent has a page of its number."""

    l0: float | None = None
    fvu: float | None = None
    model: str | None = None
    page: str | None = None


class Normalised(NamedTuple):
    """What the encoder reads, and what undoes it: x_hat = n (sum_i f_i d_i + b_dec) + mu."""

    x_in: Float[Tensor, "*token d_model"]
    n: Float[Tensor, "*token 1"]
    mu: Float[Tensor, "*token d_model"]


class Fidelity(NamedTuple):
    """How well and how sparsely an SAE describes `n` tokens.

    `l0`: mean number of latents that are not 0; `fvu`: fraction of variance unexplained, about the
    mean over the tokens; `dead`: share of latents active on none of them.
    """

    l0: float
    fvu: float
    dead: float
    n: int


@dataclass(frozen=True, eq=False)
class SAE:
    """A sparse autoencoder of one activation.

    `hook` is the node it reads, at all positions. `centred`: trained on residuals whose mean over
    the model's dimensions was removed; that mean is taken away here and given back in `mu`.
    `subtract_b_dec`: the encoder reads x - b_dec. `reads_bos`: position 0 held a BOS token in
    training. `source` names the file or release it came from.
    """

    id: str
    encoder: Encoder
    W_dec: Float[Tensor, "latent d_model"]
    b_dec: Float[Tensor, " d_model"]
    hook: Node
    normalisation: Normalisation = Normalisation()
    centred: bool = False
    subtract_b_dec: bool = False
    reads_bos: bool = True
    stated: Stated = Stated()
    source: str = ""

    def __repr__(self) -> str:
        return (
            f"SAE '{self.id}': {self.encoder.name}, {self.width} latents of {self.d_model} "
            f"dimensions at {hook_label(self.hook)}"
        )

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.W_dec.shape[0]

    @property
    def d_model(self) -> int:
        """The dimension of the activation it reads."""
        return self.W_dec.shape[1]

    @property
    def site(self) -> Node:
        """The residual node it reads, resid_post[L-1] written as resid_pre[L].

        Unsupported where it reads no residual stream.
        """
        if self.hook.kind not in RESIDUAL_KINDS:
            raise Unsupported(
                f"SAE '{self.id}' reads {self.hook}. Only SAEs of the residual stream can be "
                f"judged ({', '.join(RESIDUAL_KINDS)}), because only these project onto what "
                "attention and the MLP read."
            )
        return canonical(self.hook)

    def passes_first(self, *, bos: bool) -> bool:
        """Whether position 0 is passed through unchanged.

        It is, where the model's prompts treat BOS otherwise than training did.
        """
        return self.reads_bos != bos

    def normalise(self, x: Float[Tensor, "*token d_model"]) -> Normalised:
        """What the encoder reads, with n and mu: x_hat = n (sum_i f_i d_i + b_dec) + mu exactly."""
        x = x.float()
        mu = x.new_zeros(1).expand(x.shape)
        if self.centred:
            mu = x.mean(-1, keepdim=True).expand(x.shape)
            x = x - mu
        x, n, shift = _normalise(x, self.normalisation)
        return Normalised(x - self.b_dec if self.subtract_b_dec else x, n, mu + shift)

    def encode(self, x: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes f of activations as the model has them."""
        return self.encoder.encode(self.normalise(x).x_in)

    def active(self, x: Float[Tensor, "*token d_model"]) -> Bool[Tensor, "*token latent"]:
        """Which latents are not 0."""
        return self.encode(x) != 0

    def decode(
        self, codes: Float[Tensor, "*token latent"], *, given: Normalised
    ) -> Float[Tensor, "*token d_model"]:
        """The activations that codes stand for; `given`: how their inputs were normalised."""
        return given.n * (codes @ self.W_dec + self.b_dec) + given.mu

    def reconstruct(self, x: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token d_model"]:
        """x_hat, in the model's own units."""
        given = self.normalise(x)
        return self.decode(self.encoder.encode(given.x_in), given=given)

    def to(self, device: torch.device | str) -> SAE:
        """The same SAE with its weights on another device."""
        moved = {name: tensor.to(device) for name, tensor in self.encoder.tensors().items()}
        return replace(
            self,
            encoder=with_tensors(self.encoder, moved),
            W_dec=self.W_dec.to(device),
            b_dec=self.b_dec.to(device),
        )


def canonical(hook: Node) -> Node:
    """The one name of a residual activation at all positions.

    What leaves a layer is what enters the next: resid_post[L-1] is resid_pre[L].
    """
    if hook.kind == "resid_post":
        return Node("resid_pre", hook.layer + 1)
    return Node(hook.kind, hook.layer, hook.head)


def hook_label(hook: Node) -> str:
    """A node without its position, as folders and lists name it: 3.resid_pre."""
    return f"{hook.layer}.{hook.kind}"


def with_tensors(encoder: Encoder, tensors: dict[str, Tensor]) -> Encoder:
    """The same encoder with some of its weights replaced."""
    return cast("Encoder", replace(cast("Any", encoder), **tensors))


def scale_codes(sae: SAE, scale: Float[Tensor, " latent"]) -> SAE:
    """The SAE with codes multiplied and decoder divided by `scale`: reconstructions stay."""
    return replace(sae, encoder=sae.encoder.scaled(scale), W_dec=sae.W_dec / scale[:, None])


def fold_decoder_norms(sae: SAE) -> SAE:
    """The SAE with decoder directions of norm 1 (0 where the norm was 0), codes taking norms over.

    Reconstructions are unchanged.
    """
    norms = sae.W_dec.norm(dim=-1)
    return scale_codes(sae, torch.where(norms > 0, norms, torch.ones_like(norms)))


def fold_factor(sae: SAE) -> SAE:
    """The SAE with the factor of `expected_average_only_in` in its weights instead.

    Codes and reconstructions are unchanged.
    """
    if sae.normalisation.kind != "expected_average_only_in":
        return sae
    factor = sae.normalisation.factor
    return replace(
        sae,
        encoder=with_tensors(sae.encoder, {"W_enc": sae.encoder.W_enc * factor}),
        W_dec=sae.W_dec / factor,
        b_dec=sae.b_dec / factor,
        normalisation=Normalisation(),
    )


def check_fits(sae: SAE, d_model: int) -> None:
    """BadFile unless the SAE reads vectors of the model's width."""
    if sae.d_model != d_model:
        raise BadFile(
            f"{sae.source or sae.id}: W_dec is [{sae.width}, {sae.d_model}]; "
            f"expected [{sae.width}, {d_model}], the width of the model. "
            f"This SAE was trained on {sae.stated.model or 'another model'}."
        )


def token_chunks(
    sae: SAE, x: Float[Tensor, "token d_model"]
) -> tuple[Float[Tensor, "_ d_model"], ...]:
    """The tokens in runs whose codes, over all latents of the SAE, fit in memory."""
    return x.split(max(1, CODES_AT_ONCE // sae.width))


def measure(sae: SAE, x: Float[Tensor, "token d_model"]) -> Fidelity:
    """L0, unexplained variance and dead latents on activations of the hook; sums in float64.

    Warns where L0 is more than 30 % off what the release states: the usual sign of a wrong hook,
    centring or normalisation.
    """
    mean = x.double().mean(0)
    active = unexplained = variance = 0.0
    ever_active = torch.zeros(sae.width, dtype=torch.bool, device=x.device)
    for chunk in token_chunks(sae, x):
        given = sae.normalise(chunk)
        codes = sae.encoder.encode(given.x_in)
        active += (codes != 0).sum().item()
        ever_active |= (codes != 0).any(0)
        unexplained += (chunk.double() - sae.decode(codes, given=given)).square().sum().item()
        variance += (chunk.double() - mean).square().sum().item()
    fidelity = Fidelity(
        l0=active / len(x),
        fvu=unexplained / variance if variance else float("nan"),
        dead=1 - ever_active.float().mean().item(),
        n=len(x),
    )
    stated = sae.stated.l0
    if stated and abs(fidelity.l0 - stated) > _L0_OFF_BY * stated:
        warnings.warn(
            f"SAE '{sae.id}' has {fidelity.l0:.1f} active latents on {fidelity.n} tokens; "
            f"its release states {stated:.1f}. Text unlike its training text explains some of "
            "that; a wrong model, hook, centring or normalisation explains more.",
            SageWarning,
            stacklevel=2,
        )
    return fidelity


class _Scaled(NamedTuple):
    x: Float[Tensor, "*token d_model"]
    n: Float[Tensor, "*token 1"]
    mu: Float[Tensor, "*token #d_model"]


def _normalise(x: Float[Tensor, "*token d_model"], how: Normalisation) -> _Scaled:
    """The normalised input, and the scale n and shift mu that undo it, one of each per token."""
    ones, zeros = x.new_ones((*x.shape[:-1], 1)), x.new_zeros((*x.shape[:-1], 1))
    if how.kind == "expected_average_only_in":
        return _Scaled(x * how.factor, ones / how.factor, zeros)
    if how.kind == "constant_norm_rescale":
        n = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
        return _Scaled(x / n.clamp(min=torch.finfo(x.dtype).tiny), n, zeros)
    if how.kind == "layer_norm":
        mean = x.mean(-1, keepdim=True)
        deviation = (x - mean).std(-1, keepdim=True)
        return _Scaled((x - mean) / (deviation + _LAYER_NORM_EPS), deviation, mean)
    return _Scaled(x, ones, zeros)
