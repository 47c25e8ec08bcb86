"""Residual vectors as heads and MLPs see them: W~ = W diag(g) P.

Method, section 4. LN(x) = g * (P x) / s(x) + b, with P the centring (or nothing, for RMSNorm); with
the clean scale s(x) frozen every q, k, v and mlp_in is linear in x, and with the clean attention
pattern frozen so is z.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.dictionaries.dictionary import Dictionary
from sage.errors import SageError
from sage.models.anatomy import Anatomy, Norm
from sage.nodes import Node, Section
from sage.saes.suite import Suite

KINDS = ("q", "k", "v", "z", "mlp_in")


def reached(suite: Suite, anatomy: Anatomy, nodes: Collection[Node]) -> tuple[Node, ...]:
    """The nodes that read a residual stream at which the suite has an SAE, in order."""
    return tuple(
        node
        for node in sorted(nodes)
        if node.kind in KINDS and suite.at(anatomy.source(node)) is not None
    )


def reach(suite: Suite, anatomy: Anatomy, section: Section) -> float:
    """The share of the section's summed statistic at the nodes that the suite reaches; 0 where
    there is nothing to reach."""
    total = sum(section.statistic.values())
    read = sum(section.statistic[node] for node in reached(suite, anatomy, section.nodes))
    return read / total if total else 0.0


def project_direction(
    anatomy: Anatomy, node: Node, vectors: Float[Tensor, "*many d_model"]
) -> Float[Tensor, "*many d"]:
    """W~ v = W diag(g) P v: residual vectors as a node sees them, but for its scale and offset;
    through W_V of its head at z."""
    return through_weights(anatomy, node, through_norm(anatomy.norm_before(node), vectors))


def through_norm(
    norm: Norm, vectors: Float[Tensor, "*many d_model"]
) -> Float[Tensor, "*many d_model"]:
    """diag(g) P v."""
    return norm.weight.float() * norm.centre(vectors)


def through_weights(
    anatomy: Anatomy, node: Node, vectors: Float[Tensor, "*many d_model"]
) -> Float[Tensor, "*many d"]:
    """W v."""
    return vectors if node.head is None else vectors @ _weights(anatomy, node)[0].float().T


def offset(anatomy: Anatomy, node: Node) -> Float[Tensor, "d"]:
    """c = W b + b_W."""
    bias = anatomy.norm_before(node).bias.float()
    if node.head is None:
        return bias
    W, b = _weights(anatomy, node)
    return W.float() @ bias + b.float()


def _weights(
    anatomy: Anatomy, node: Node
) -> tuple[Float[Tensor, "d_head d_model"], Float[Tensor, " d_head"]]:
    """W and b of a head's node; those of the values it mixes at z."""
    assert node.head is not None
    if node.kind == "z":
        return anatomy.projection("v", node.layer, anatomy.kv_head(node.head))
    return anatomy.projection(node.kind, node.layer, node.head)


def attention_output(
    dictionary: Dictionary, given: Activations, *, layer: int, position: str
) -> Float[Tensor, "prompt d_model"]:
    """What a layer's attention adds to the stream, made of the dictionary's z of all its heads.

    It is linear in z; the scale of Gemma-2's post-norm stays what it is on the model's own z.
    """
    anatomy = given.anatomy
    heads = [Node("z", layer, head, position) for head in range(anatomy.heads)]
    if missing := [node for node in heads if node not in given.values]:
        raise SageError(
            f"attn_out of layer {layer} is made of z of all its heads; {missing[0]} was not read. "
            f"Read all {len(heads)} at {position}."
        )

    def added(z: Mapping[Node, Tensor]) -> Tensor:
        outputs = (
            z[node] @ anatomy.output(layer, head).float().T for head, node in enumerate(heads)
        )
        return sum(outputs, start=anatomy.output_bias(layer).float())

    whole = added(dictionary.reconstruct(given.on(heads)))
    post = anatomy.blocks[layer].attention_post
    return whole if post is None else post.apply(whole, scale=post.scale(added(given.values)))
