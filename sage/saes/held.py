"""An SAE of a class that nobody told us of: an object with `encode` and a decoder matrix.

It is taken at its word only after it was tried: method, section 4, rests on x_hat = sum_i f_i d_i +
b_dec with codes f of each token by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import SageError
from sage.nodes import Node
from sage.saes.sae import SAE

# Tokens that an object is tried on, and how far it may be from what it should say.
TRIED = 16
TOLERANCE = 1e-3

_PLAIN = (bool, int, float, str)


class Held(Mapping[str, "Tensor | bool | int | float | str"]):
    """A copy of somebody's object: as a mapping, its tensors and plain settings by name, which is
    all that its digest is of."""

    def __init__(self, theirs: Any) -> None:
        self.theirs = _copy(theirs)
        self.parts = {**_tensors(self.theirs), **_settings(self.theirs)}

    def __getitem__(self, name: str) -> Tensor | bool | int | float | str:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def encode(self, x: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """Its codes, where its own weights are."""
        tensors = [part for part in self.parts.values() if isinstance(part, Tensor)]
        home = next((tensor for tensor in tensors if tensor.is_floating_point()), x)
        flat = x.reshape(-1, x.shape[-1]).to(home.device, home.dtype)
        with torch.no_grad():
            codes = self.theirs.encode(flat)
        return codes.to(x).reshape(*x.shape[:-1], -1)


@dataclass(frozen=True, eq=False)
class HeldEncoder:
    """The encoder of an object, whose codes are then multiplied by `scale`.

    `W_enc` is its own where it has one, else NaN: nothing is computed from it but pictures.
    """

    held: Held
    W_enc: Float[Tensor, "d_model latent"]
    scale: Float[Tensor, " latent"]
    kind: str
    name: ClassVar[str] = "in memory"

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes of inputs."""
        return self.held.encode(x_in) * self.scale

    def scaled(self, scale: Float[Tensor, " latent"]) -> HeldEncoder:
        """The encoder whose codes are these times `scale`, which is positive."""
        return HeldEncoder(self.held, self.W_enc * scale, self.scale * scale, self.kind)

    def tensors(self) -> dict[str, Tensor]:
        """What is moved with the model; the object's own weights stay where they are."""
        return {"W_enc": self.W_enc, "scale": self.scale}

    def settings(self) -> dict[str, object]:
        """The object's own settings."""
        return {name: part for name, part in self.held.items() if not isinstance(part, Tensor)}


def hold(theirs: Any, hook: Node, name: str) -> SAE:
    """The SAE that an object is; SageError where it lacks what an SAE has, or is not affine."""
    kind = f"{type(theirs).__module__}.{type(theirs).__qualname__}"
    told = f"{name} ({type(theirs).__qualname__})"
    if not callable(getattr(theirs, "encode", None)):
        raise SageError(f"{told} has no `encode`, which turns activations into codes.")
    held = Held(theirs)
    if not held:
        raise SageError(
            f"{told} holds no tensors, so that it could not be told from another. Keep its weights "
            "in attributes, or make it a torch module."
        )
    matrix, bias = _decoder(held.theirs, told)
    W_dec, b_dec = _oriented(held, matrix, bias, told)
    _check_own_tokens(held, W_dec, told)
    _check_affine(held, W_dec, b_dec, told)
    width, d_model = W_dec.shape
    W_enc = W_dec.new_full((d_model, width), torch.nan)
    given = _tensor(getattr(held.theirs, "W_enc", None))
    if given is not None and tuple(given.shape) == (d_model, width):
        W_enc = given.detach().float().clone()
    return SAE(name, HeldEncoder(held, W_enc, W_dec.new_ones(width), kind), W_dec, b_dec, hook)


def _decoder(theirs: Any, told: str) -> tuple[Tensor, Tensor | None]:
    """The matrix, [latent, d_model] or the other way round, and the bias."""
    layer = getattr(theirs, "decoder", None)
    matrix = _tensor(getattr(theirs, "W_dec", None))
    if matrix is None:
        matrix = _tensor(layer)
        matrix = _tensor(getattr(layer, "weight", None)) if matrix is None else matrix
        matrix = None if matrix is None else matrix.T
    if matrix is None or matrix.ndim != 2:
        raise SageError(
            f"{told} has no decoder matrix. Give it `W_dec` [latent, d_model], or `decoder`: a "
            "linear layer, or a matrix [d_model, latent]."
        )
    biases = (getattr(theirs, "b_dec", None), getattr(layer, "bias", None))
    found = [bias for bias in map(_tensor, (*biases, getattr(theirs, "bias", None))) if _is(bias)]
    return matrix, (found[0] if found else None)


def _oriented(
    held: Held, matrix: Tensor, bias: Tensor | None, told: str
) -> tuple[Float[Tensor, "latent d_model"], Float[Tensor, " d_model"]]:
    """Decoder and bias as copies in float32, once `encode` takes and gives what they say."""
    W_dec = matrix.detach().float().clone()
    width, d_model = W_dec.shape
    b_dec = W_dec.new_zeros(d_model) if bias is None else bias.detach().float().clone()
    if not torch.isfinite(W_dec).all():
        raise SageError(f"{told}: its decoder matrix holds numbers that are not finite.")
    if tuple(b_dec.shape) != (d_model,):
        turned = tuple(b_dec.shape) == (width,)
        how = " The matrix looks transposed: W_dec is [latent, d_model]." if turned else ""
        raise SageError(
            f"{told}: the decoder's bias is {list(b_dec.shape)}, and its matrix {[width, d_model]} "
            f"asks for [{d_model}].{how}"
        )
    try:
        codes = held.encode(_trial(W_dec))
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise SageError(
            f"{told}: `encode` fails on activations [{TRIED}, {d_model}], which a decoder of "
            f"{list(W_dec.shape)} asks for: {error}"
        ) from error
    if tuple(codes.shape) != (TRIED, width):
        raise SageError(
            f"{told}: `encode` gives {list(codes.shape)}; expected codes [{TRIED}, {width}]."
        )
    if not torch.isfinite(codes).all():
        raise SageError(f"{told}: `encode` gives codes that are not finite.")
    return W_dec, b_dec


def _check_own_tokens(held: Held, W_dec: Tensor, told: str) -> None:
    """Codes of a token do not depend on which others are encoded with it, nor on chance."""
    x = _trial(W_dec)
    together = held.encode(x)
    alone = torch.cat([held.encode(token[None]) for token in x])
    off = float((together - alone).abs().max() / together.abs().max().clamp(min=1e-6))
    if off > TOLERANCE:
        raise SageError(
            f"{told}: the codes of a token change with the tokens beside it, or by chance, by "
            f"{off:.2g} of the largest code. Give the form that it has at inference: .eval(), a "
            "threshold instead of a choice over the batch, no dropout."
        )


def _check_affine(held: Held, W_dec: Tensor, b_dec: Tensor, told: str) -> None:
    """Where it has `decode`, that is codes @ W_dec + b_dec."""
    if not callable(getattr(held.theirs, "decode", None)):
        return
    codes = held.encode(_trial(W_dec))
    home = next(part for part in held.values() if isinstance(part, Tensor))
    with torch.no_grad():
        decoded: Tensor = held.theirs.decode(codes.to(home.device, home.dtype))
    ours = codes @ W_dec + b_dec
    off = float((decoded.to(ours) - ours).abs().max() / ours.abs().max().clamp(min=1e-6))
    if not off <= TOLERANCE:
        raise SageError(
            f"{told}: `decode` is not codes @ W_dec + b_dec: it is off by {off:.2g} of the largest "
            "number. Only affine decoders can be judged; fold what else it does (norms, scales) "
            "into W_dec and b_dec, or take it back in `encode`."
        )


def _trial(W_dec: Float[Tensor, "latent d_model"]) -> Float[Tensor, "token d_model"]:
    """Activations to try an object on: noise about as long as a few decoder directions."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(TRIED, W_dec.shape[1], generator=draw).to(W_dec)
    return noise * W_dec.norm(dim=1).mean().clamp(min=1e-3)


def _copy(theirs: Any) -> Any:
    """The object as it is at inference, whatever training does on; gradients are left out."""
    try:
        copied = copy.deepcopy(theirs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise SageError(
            f"An SAE of {type(theirs).__qualname__} cannot be copied: {error}"
        ) from error
    if isinstance(copied, torch.nn.Module):
        copied.eval().requires_grad_(requires_grad=False)
    return copied


def _tensors(theirs: Any) -> dict[str, Tensor]:
    """Its tensors by name."""
    if isinstance(theirs, torch.nn.Module):
        return dict(theirs.state_dict())
    attributes = cast("dict[str, object]", getattr(theirs, "__dict__", {}))
    return {name: value for name, value in attributes.items() if isinstance(value, Tensor)}


def _settings(theirs: Any) -> dict[str, bool | int | float | str]:
    """Its plain attributes by name: k, a threshold, a mode."""
    attributes = cast("dict[str, object]", getattr(theirs, "__dict__", {}))
    return {name: value for name, value in attributes.items() if isinstance(value, _PLAIN)}


def _tensor(value: object) -> Tensor | None:
    return value if isinstance(value, Tensor) else None


def _is(value: Tensor | None) -> bool:
    return value is not None
