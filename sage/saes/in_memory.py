"""SAEs that are in memory: objects of other libraries, or one's own, as a suite without a file.

Objects of sae-lens, dictionary_learning and sparsify become the same SAE that their files would be.
Anything else with `encode` and a decoder matrix is taken as it is, and tried first: shapes, codes
that depend on their own token alone, a decoder that is affine. What is taken is a copy, so that
training may go on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sage.arguments import of_kind
from sage.errors import SageError
from sage.nodes import RESIDUAL_KINDS, Node, parse_node
from sage.saes.architectures.architecture import architectures
from sage.saes.architectures.topk import TopK
from sage.saes.formats import saelens
from sage.saes.held import hold
from sage.saes.sae import SAE, Fidelity, Normalisation, canonical, hook_label, measure
from sage.saes.sae_files import Arrays, Fields
from sage.saes.stored import DictionaryClass, StoredSAE
from sage.saes.suite import Suite, assemble

if TYPE_CHECKING:
    from sage.models.base import Model

_HOOK = re.compile(r"blocks\.(\d{1,4})\.hook_(resid_pre|resid_mid|resid_post)")
_MODULE = re.compile(r"(?:.*\.)?(?:layers|h)\.(\d{1,4})")
_SPARSIFY = ("SparseCoder", "Sae")


class Reading(NamedTuple):
    """How an SAE's input was treated in training, where its object does not say: whether position
    0 held a BOS token, whether residuals were centred over the model's dimensions, and by what
    they were multiplied."""

    bos: bool = True
    centred: bool = False
    factor: float = 1.0


def as_suite(
    saes: Mapping[str, object],
    *,
    name: str = "in memory",
    reads_bos: bool = True,
    centred: bool = False,
    factor: float = 1.0,
) -> Suite:
    """A suite of SAEs that are in memory, by the hook that each reads.

    A hook is written `blocks.5.hook_resid_pre`, `5.resid_pre` or, for what leaves a layer,
    `layers.5` or `h.5`. An SAE is an object of sae-lens (its trainer too), dictionary_learning or
    sparsify, a `sage` SAE, or any object with

    - `encode`: activations [token, d_model] to codes [token, latent], each token's by itself;
    - a decoder: `W_dec` [latent, d_model], or `decoder`, a linear layer or a matrix [d_model,
      latent]; its bias is `b_dec`, or that of the layer, or `bias`.

    Where the object has `decode` too, it must be this affine map. `reads_bos`, `centred` and
    `factor` say how its input was treated in training where the object does not: position 0 held a
    BOS token; the mean over the model's dimensions was taken away; activations were multiplied. The
    suite holds copies, and is known in caches and results by the digest of its tensors. Raises
    SageError for what does not meet this.

        suite = sage.as_suite({"5.resid_pre": my_sae}, name="mine at step 1000")
        result = sage.evaluate(model, task, [suite], plan=sage.make_plan("quick")).result
    """
    of_kind("saes", saes, Mapping, how='Give each SAE by its hook: {"5.resid_pre": my_sae}.')
    reading = Reading(reads_bos, centred, factor)
    converted: list[SAE] = []
    for hook, theirs in saes.items():
        of_kind("A hook", hook, str, how='Write it as text, such as "5.resid_pre".')
        node = read_hook(hook)
        with torch.no_grad():
            converted.append(_convert(theirs, node, f"{name}/{hook_label(node)}", reading))
    return assemble(name, converted)


def measure_suite(
    model: Model, suite: Suite, activations: Mapping[Node, Float[Tensor, "token d_model"]]
) -> dict[str, Fidelity]:
    """L0 and unexplained variance of every SAE on activations of its hook, by its id.

    SageError for an SAE that leaves more unexplained than the mean does: the usual sign of another
    hook, scale or model than those of its training.
    """
    measured: dict[str, Fidelity] = {}
    for hook, sae in suite.saes.items():
        fidelity = measure(sae.to(model.device), activations[hook].to(model.device))
        if not fidelity.fvu < 1:
            raise SageError(
                f"SAE '{sae.id}' leaves {fidelity.fvu:.2f} of the variance at {hook_label(hook)} "
                f"unexplained (L0 {fidelity.l0:.1f}), no less than the mean alone. Check its hook, "
                "and how activations were scaled and centred in its training (factor=, centred=)."
            )
        measured[sae.id] = fidelity
    return measured


def read_hook(hook: str) -> Node:
    """The residual node of a hook in any of its spellings; SageError for another."""
    if match := _HOOK.fullmatch(hook):
        return Node(match[2], int(match[1]))
    if match := _MODULE.fullmatch(hook):
        return Node("resid_post", int(match[1]))
    try:
        node = parse_node(hook)
    except SageError:
        node = None
    if node is None or node.kind not in RESIDUAL_KINDS:
        raise SageError(
            f"'{hook}' is no hook of the residual stream. Write 5.resid_pre (or resid_mid, "
            "resid_post), blocks.5.hook_resid_pre, or layers.5 for what leaves layer 5."
        )
    return node


def _convert(theirs: Any, hook: Node, name: str, reading: Reading) -> SAE:
    """The SAE that an object is."""
    if isinstance(theirs, SAE):
        return replace(_at(theirs, hook), id=name)
    if _is_of(theirs, "sae_lens"):
        trainer = theirs if hasattr(theirs, "activation_scaler") else None
        factor = reading.factor
        if trainer is not None:
            factor *= float(trainer.activation_scaler.scaling_factor or 1.0)
        sae = _of_sae_lens(theirs if trainer is None else trainer.sae, hook, name)
        return _scaled_input(sae, factor)
    if (dictionary_class := _dictionary_class(theirs)) is not None:
        sae = _of_dictionary_learning(theirs, dictionary_class, hook, name)
    elif type(theirs).__name__ in _SPARSIFY and hasattr(theirs, "cfg"):
        sae = _of_sparsify(theirs, hook, name)
    else:
        sae = hold(theirs, hook, name)
    sae = replace(sae, reads_bos=reading.bos, centred=reading.centred)
    return _scaled_input(sae, reading.factor)


def _of_sae_lens(theirs: Any, hook: Node, name: str) -> SAE:
    """The SAE as it is at inference, also of one in training."""
    arrays = _state(theirs)
    if hasattr(theirs.cfg, "get_inference_sae_cfg_dict"):
        theirs.process_state_dict_for_saving_inference(arrays)
        config: dict[str, Any] = theirs.cfg.get_inference_sae_cfg_dict()
    else:
        config = theirs.cfg.to_dict()
    metadata: dict[str, Any] = dict(config.get("metadata") or {})
    metadata["hook_name"] = metadata.get("hook_name") or saelens.hook_name(hook)
    config = {**config, "metadata": metadata, "norm_scaling_factor": 1.0}
    file = Path(name) / saelens.CONFIG
    sae = saelens.read(Fields(file, config), Arrays(file, arrays), name=name)
    return replace(_at(sae, hook), source="")


def _dictionary_class(theirs: Any) -> DictionaryClass[Any] | None:
    """The class of dictionary_learning that an object is of, by its name and its sizes."""
    if not (hasattr(theirs, "dict_size") and hasattr(theirs, "activation_dim")):
        return None
    for architecture in architectures().values():
        for dictionary_class in architecture.dictionary_learning:
            if dictionary_class.name == type(theirs).__name__:
                return dictionary_class
    return None


def _of_dictionary_learning(
    theirs: Any, dictionary_class: DictionaryClass[Any], hook: Node, name: str
) -> SAE:
    k = getattr(theirs, "k", None)
    stored = StoredSAE(
        dictionary_class.name,
        Fields(Path(name), {} if k is None else {"k": int(k)}),
        Arrays(Path(name), _state(theirs)),
        int(theirs.activation_dim),
        int(theirs.dict_size),
        dictionary_class.array_names,
    )
    encoder = dictionary_class.read(stored)
    W_dec, b_dec = stored.take("W_dec"), stored.take("b_dec")
    subtracts = dictionary_class.subtracts_b_dec
    return SAE(name, encoder, W_dec, b_dec, hook, subtract_b_dec=subtracts)


def _of_sparsify(theirs: Any, hook: Node, name: str) -> SAE:
    config = theirs.cfg
    strange = ("transcode", "skip_connection", "signed")
    wrong = [option for option in strange if getattr(config, option, False)]
    if wrong or getattr(config, "activation", "topk") != "topk":
        raise SageError(
            f"{name}: of sparsify only TopK autoencoders can be judged; this one has "
            f"{wrong[0] if wrong else f'activation {config.activation}'}."
        )
    arrays = {key: array.float() for key, array in _state(theirs).items()}
    W_enc, b_enc = arrays["encoder.weight"].T.contiguous(), arrays["encoder.bias"]
    encoder = TopK(W_enc, b_enc, torch.ones_like(b_enc), int(config.k))
    return SAE(name, encoder, arrays["W_dec"], arrays["b_dec"], hook, subtract_b_dec=True)


def _state(theirs: Any) -> dict[str, Tensor]:
    """A copy of an object's tensors, by name."""
    state: dict[str, Tensor] = theirs.state_dict()
    return {key: value.detach().clone() for key, value in state.items()}


def _is_of(theirs: object, library: str) -> bool:
    return any(base.__module__.split(".")[0] == library for base in type(theirs).__mro__)


def _at(sae: SAE, hook: Node) -> SAE:
    """The SAE at that hook; SageError where it says that it reads another."""
    if canonical(sae.hook) != canonical(hook):
        raise SageError(
            f"The SAE given for {hook_label(hook)} says that it reads {hook_label(sae.hook)}. Give "
            "it under the hook that it reads."
        )
    return sae


def _scaled_input(sae: SAE, factor: float) -> SAE:
    if factor == 1.0:
        return sae
    if sae.normalisation not in (
        Normalisation(),
        Normalisation("expected_average_only_in"),
    ):
        raise SageError(
            f"SAE '{sae.id}' normalises its input by {sae.normalisation.kind}; it can have no "
            "factor as well."
        )
    return replace(sae, normalisation=Normalisation("expected_average_only_in", factor))
