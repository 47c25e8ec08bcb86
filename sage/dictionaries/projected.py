"""A residual-stream SAE as a dictionary of what heads and MLPs read from the stream.

Method, section 4. With the clean scale s(x) frozen, every q, k, v and mlp_in is linear in the SAE's
codes, and with the clean attention pattern frozen so is z: y_hat = bias + sum_i alpha_i W~ d_i with
W~ = W diag(g) P and alpha_i = sum_s A_ts f_i(x_s) n_s / s(x_s), where the attention row A is
one-hot everywhere but at z. All else is one pseudo-latent, `bias`; y - y_hat = W~ (x - x_hat) /
s(x) exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from sage.dictionaries.activations import Activations, Dictionary, Edited, Moments, sites
from sage.dictionaries.greedy import Candidates, greedy, join_prompts, join_sites
from sage.errors import SageError, Unsupported, unknown
from sage.memory import CODE_ENTRIES_KEPT, CODES_AT_ONCE
from sage.models.anatomy import Anatomy, Norm
from sage.nodes import Node, Section
from sage.saes.sae import SAE, check_fits
from sage.saes.sparse import Entries, SparseCodes, sparse_codes
from sage.saes.suite import Suite

KINDS = ("q", "k", "v", "z", "mlp_in")


@dataclass(frozen=True)
class Options:
    """What `--also` asks for beside the headline; the defaults are the headline.

    `choice`: one for all nodes that read a site, or one for each node (Makelov). `sources`: at z a
    candidate is a latent, or a latent at one source position (counted back from the destination).
    `scale`: the clean s(x), or s(x_hat), at z for each source. `codes`: the encoder's, or those
    that non-negative least squares gives the active latents.
    """

    choice: Literal["joint", "per node"] = "joint"
    sources: Literal["together", "apart"] = "together"
    scale: Literal["frozen", "recomputed"] = "frozen"
    codes: Literal["encoder", "oracle"] = "encoder"

    def __post_init__(self) -> None:
        if self.sources == "apart" and self.codes == "oracle":
            raise Unsupported(
                "Oracle codes are of latents, not of a latent at one source position: ask for one of these options at a time."
            )


HEADLINE = Options()
NAMED_OPTIONS: Mapping[str, Options] = {
    "per-node": Options(choice="per node"),
    "sources": Options(sources="apart"),
    "recomputed": Options(scale="recomputed"),
    "oracle": Options(codes="oracle"),
}


def options_named(names: Sequence[str]) -> tuple[Options, ...]:
    """The options that `--also` names, one by one: per-node, sources, recomputed, oracle."""
    for name in names:
        if name not in NAMED_OPTIONS:
            raise unknown("option", name, NAMED_OPTIONS)
    return tuple(NAMED_OPTIONS[name] for name in names)


def own_decoder(sae: SAE) -> Float[Tensor, "latent d_model"]:
    """The SAE's directions as they are."""
    return sae.W_dec


@dataclass(frozen=True, eq=False)
class ProjectedSuite:
    """A suite's latents at the nodes that read its residual streams; made by `project`.

    `decoder` gives the residual directions of an SAE's latents: its own, or a control's in their
    place. `kept` says at a node which latents may be used; a node that it lacks may use all.
    `content` is set of controls that suites have in common. `encoded` holds the sparse codes of
    every residual stream while the stream lives.
    """

    name: str
    suite: Suite
    anatomy: Anatomy
    nodes: tuple[Node, ...]
    moments: Moments
    options: Options = HEADLINE
    signed: bool = True
    decoder: Callable[[SAE], Tensor] = own_decoder
    kept: Mapping[Node, Tensor] = field(default_factory=dict[Node, Tensor])
    content: str | None = None
    encoded: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary, repr=False)

    @property
    def coding(self) -> str:
        """The codes are the suite's, whatever its decoder, unless some are left out or an option
        lets directions into them."""
        return (
            f"suite {self.suite.id}"
            if self.options == HEADLINE and not self.kept
            else f"{self.suite.id} as {self.name}"
        )

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        """y_hat at every node, [prompt, d]: the bias and all latents."""
        found = {
            node: torch.empty_like(value, dtype=torch.float32)
            for node, value in given.values.items()
        }
        for part in self._parts(given):
            for node, bias in part.runs[0].bias.items():
                found[node][part.rows] = bias + part.runs[0].codes[node] @ part.directions[node]
        return found

    def edit(
        self, base: Activations, target: Activations, *, ks: Sequence[int]
    ) -> dict[int, Edited]:
        """At most k of the latents and the bias moved at each site from what they are in the base
        to what they are in the target."""
        found: dict[Node, list[dict[int, Edited]]] = {}
        for part in self._parts(base, target, apart=self.options.sources == "apart"):
            before, after = part.runs
            shift = {node: after.bias[node] - bias for node, bias in before.bias.items()}
            site = Candidates(before.codes, after.codes, part.directions, shift)
            start = {node: base.values[node][part.rows] for node in site.nodes}
            end = {node: target.values[node][part.rows] for node in site.nodes}
            choices = site.apart() if self.options.choice == "per node" else [site]
            found.setdefault(site.nodes[0], []).append(
                greedy(choices, start, end, self.moments.variance, ks=ks)
            )
        return join_sites([join_prompts(parts) for parts in found.values()])

    def codes(self, given: Activations) -> dict[Node, Float[Tensor, "prompt latent"]]:
        """alpha of every latent at every node; ask for one node at a time (`given.on([node])`)
        where latents are many."""
        found = {
            node: given.values[node].new_zeros(
                len(given), self._sae(node).width, dtype=torch.float32
            )
            for node in given.nodes
        }
        for part in self._parts(given):
            for node, codes in part.runs[0].codes.items():
                found[node][part.rows, part.latents] = codes
        return found

    def directions(self, node: Node) -> Float[Tensor, "latent d"]:
        """W~ d of every latent."""
        return project_direction(self.anatomy, node, self.decoder(self._sae(node)).float())

    def only(self, latents: Mapping[Node, Bool[Tensor, "latent"]]) -> ProjectedSuite:
        """The same latents with, at each node named, only these to choose from and to reconstruct
        with; the bias stays."""
        narrowed = {
            node: mask & self.kept[node] if node in self.kept else mask
            for node, mask in latents.items()
        }
        return replace(self, kept={**self.kept, **narrowed}, content=None)

    def explained(self, given: Activations) -> dict[Node, Float[Tensor, "latent"]]:
        """The share of each node's variance that every latent explains alone: 1 - E|y - mean -
        (alpha_i - E alpha_i) u_i|^2 / Var_n."""
        sums = {
            node: torch.zeros(
                3, self._sae(node).width, dtype=torch.float64, device=given.values[node].device
            )
            for node in given.nodes
        }
        for part in self._parts(given):
            for node, alpha in part.runs[0].codes.items():
                along = (given.values[node][part.rows] - self.moments.mean[node]) @ part.directions[
                    node
                ].T
                sums[node][:, part.latents] += torch.stack(
                    [alpha.sum(0), alpha.square().sum(0), (alpha * along).sum(0)]
                )
        found: dict[Node, Tensor] = {}
        for node, (total, squares, products) in sums.items():
            mean, length = total / len(given), self.directions(node).square().sum(-1)
            gained = 2 * products / len(given) - (squares / len(given) - mean.square()) * length
            found[node] = (
                gained / max(self.moments.variance[node], torch.finfo(torch.float32).tiny)
            ).float()
        return found

    def l0(self, given: Activations) -> dict[Node, float]:
        """Mean number of latents in use that are not 0, before projection, over the tokens but BOS
        that a hook's nodes read."""
        readers: dict[Node, list[Node]] = {}
        for node in given.nodes:
            readers.setdefault(self.anatomy.source(node), []).append(node)
        found: dict[Node, float] = {}
        for hook, nodes in readers.items():
            codes, token = self._encoded(given, nodes[0])
            counted = token[:, 1:] if given.bos else token
            active = codes.of(counted[counted >= 0]).latent
            if (usable := self._usable(nodes)) is not None:
                active = active[usable[active]]
            found[hook] = len(active) / max(1, int((counted >= 0).sum()))
        return found

    def _usable(self, nodes: Sequence[Node]) -> Bool[Tensor, "latent"] | None:
        """The latents that some of the nodes may use; None where one may use all."""
        return (
            torch.stack([self.kept[node] for node in nodes]).any(0)
            if all(node in self.kept for node in nodes)
            else None
        )

    def _sae(self, node: Node) -> SAE:
        found = self.suite.at(self.anatomy.source(node))
        if found is None or node not in self.nodes:
            raise SageError(
                f"'{self.name}' was projected onto {', '.join(map(str, self.nodes))}; {node} is not among them."
            )
        return found

    def _parts(self, *runs: Activations, apart: bool = False) -> Iterator[_Part]:
        """Site by site, a bounded number of prompts at a time: what the nodes are made of in each
        run."""
        for (_, position), nodes in sites(runs[0].nodes, self.anatomy).items():
            sae, *_ = [self._sae(node) for node in nodes]
            encoded = [self._encoded(run, nodes[0]) for run in runs]
            known = torch.cat([codes.latent for codes, _ in encoded]).unique().long()
            usable = self._usable(nodes) if self.options.scale == "frozen" else None
            known = known if usable is None else known[usable[known]]
            vectors = self.decoder(sae)[known].float()
            normed = {
                norm: _normed(norm, vectors)
                for norm in {self.anatomy.norm_before(node) for node in nodes}
            }
            projected = {
                node: _mapped(self.anatomy, node, normed[self.anatomy.norm_before(node)])
                for node in nodes
            }
            depth = (
                1 + max(int(run.index(position).max()) for run in runs)
                if any(node.kind == "z" for node in nodes)
                else 1
            )
            step = max(1, CODES_AT_ONCE // (depth * sae.width * (len(nodes) if apart else 1)))
            for first in range(0, len(runs[0]), step):
                rows = slice(first, first + step)
                sources = [
                    _sources(run, nodes, rows, depth, sae, *found)
                    for run, found in zip(runs, encoded, strict=True)
                ]
                if usable is not None:
                    sources = [
                        source._replace(entries=source.entries.among(usable)) for source in sources
                    ]
                latents = torch.cat([source.entries.latent for source in sources]).unique()
                place = torch.searchsorted(known, latents)
                terms = [
                    self._terms(source, nodes, latents, vectors[place], apart=apart)
                    for source in sources
                ]
                copies = depth if apart else 1
                directions = {
                    node: every[place].repeat_interleave(copies, 0)
                    for node, every in projected.items()
                }
                if self.options.codes == "oracle":
                    terms = [
                        _oracle(term, directions, run, rows)
                        for term, run in zip(terms, runs, strict=True)
                    ]
                yield _Part(rows, latents, directions, terms)

    def _terms(
        self,
        sources: _Sources,
        nodes: Sequence[Node],
        latents: Int[Tensor, "latent"],
        vectors: Float[Tensor, "latent d_model"],
        *,
        apart: bool,
    ) -> _Terms:
        """Codes and bias of a run's nodes; with `apart` a candidate is a latent at one source, the
        sources of a latent side by side."""
        f = sources.entries.dense(sources.n.numel(), latents).view(*sources.n.shape, -1)
        x = (
            sources.x
            if self.options.scale == "frozen"
            else sources.rest + sources.n[..., None] * (f @ vectors)
        )
        scale = torch.stack([self.anatomy.norm_before(node).scale(x)[..., 0] for node in nodes])
        weight = sources.attention / scale
        mixed = weight * sources.n
        every = torch.ones_like(latents, dtype=torch.bool)
        usable = torch.stack(
            [self.kept[node][latents] if node in self.kept else every for node in nodes]
        )[:, None]
        codes = torch.einsum("npb,pbl->npl", mixed, f) * usable
        if apart:
            codes = (mixed[..., None, :] * f.mT * usable[..., None]).flatten(2)
        rest = torch.einsum("npb,pbd->npd", weight, sources.rest)
        return _Terms(
            dict(zip(nodes, codes, strict=True)),
            {
                node: project_direction(self.anatomy, node, own) + _offset(self.anatomy, node)
                for node, own in zip(nodes, rest, strict=True)
            },
        )

    def _encoded(self, given: Activations, node: Node) -> _Encoded:
        """The sparse codes of the residual stream that a node reads, at the tokens that some node
        of the dictionary reads.

        Prompts that begin alike hold the same there, and are encoded once.
        """
        hook, sae = self.anatomy.source(node), self._sae(node)
        stream = given.streams[hook]
        if stream in self.encoded:
            return self.encoded[stream]
        place = torch.arange(stream.shape[1], device=stream.device)
        needed = torch.zeros(stream.shape[:2], dtype=torch.bool, device=stream.device)
        for reader in self.nodes:
            if self.anatomy.source(reader) == hook:
                last = given.index(reader.position)[:, None]
                needed |= place <= last if reader.kind == "z" else place == last
        if sae.passes_first(bos=given.bos):
            needed[:, 0] = False
        different, place = stream[needed].unique(dim=0, return_inverse=True)
        token = torch.full(stream.shape[:2], -1, device=stream.device)
        token[needed] = place
        found = _Encoded(sparse_codes(sae, different), token)
        if (
            sum(len(other.codes.latent) for other in self.encoded.values())
            + len(found.codes.latent)
            <= CODE_ENTRIES_KEPT
        ):
            self.encoded[stream] = found
        return found


def project(
    suite: Suite,
    anatomy: Anatomy,
    nodes: Collection[Node],
    moments: Moments,
    *,
    name: str | None = None,
    options: Options = HEADLINE,
) -> ProjectedSuite:
    """The suite as a dictionary of these nodes, each of which reads one of its SAEs; `moments` are
    those of `fit` at the nodes."""
    if missing := sorted(set(nodes) - set(reached(suite, anatomy, nodes))):
        more = f" and {len(missing) - 1} more nodes" if missing[1:] else ""
        raise SageError(
            f"Suite '{suite.id}' has SAEs at {', '.join(map(str, suite.hooks))} and does not reach {missing[0]}{more}. Nodes of kinds "
            f"{', '.join(KINDS)} that read one of these can be projected onto: `reached` picks them out."
        )
    for sae in suite.saes.values():
        check_fits(sae, anatomy.d_model)
    return ProjectedSuite(name or suite.id, suite, anatomy, tuple(sorted(nodes)), moments, options)


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
    return (
        sum(section.statistic[node] for node in reached(suite, anatomy, section.nodes)) / total
        if total
        else 0.0
    )


def project_direction(
    anatomy: Anatomy, node: Node, vectors: Float[Tensor, "*many d_model"]
) -> Float[Tensor, "*many d"]:
    """W~ v = W diag(g) P v: residual vectors as a node sees them, but for its scale and offset;
    through W_V of its head at z."""
    return _mapped(anatomy, node, _normed(anatomy.norm_before(node), vectors))


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
            f"attn_out of layer {layer} is made of z of all its heads; {missing[0]} was not read. Read all {len(heads)} at {position}."
        )

    def added(z: Mapping[Node, Tensor]) -> Tensor:
        outputs = (
            z[node] @ anatomy.output(layer, head).float().T for head, node in enumerate(heads)
        )
        return sum(outputs, start=anatomy.output_bias(layer).float())

    whole, post = (
        added(dictionary.reconstruct(given.on(heads))),
        anatomy.blocks[layer].attention_post,
    )
    return whole if post is None else post.apply(whole, scale=post.scale(added(given.values)))


class _Encoded(NamedTuple):
    """Sparse codes of a residual stream, and which of its tokens they are: -1 for those that
    nothing reads or that pass through."""

    codes: SparseCodes
    token: Int[Tensor, "prompt position"]


class _Sources(NamedTuple):
    """The tokens that a site's nodes read in one run, counted back from the destination: x_hat = n
    sum_i f_i d_i + rest.

    `attention` is what each node takes of each; `entries` are the codes f of the tokens, prompt
    after prompt.
    """

    entries: Entries
    x: Float[Tensor, "prompt back d_model"]
    n: Float[Tensor, "prompt back"]
    rest: Float[Tensor, "prompt back d_model"]
    attention: Float[Tensor, "node prompt back"]


class _Terms(NamedTuple):
    """What a site's nodes are made of in one run: codes [prompt, candidate] and bias [prompt, d]."""

    codes: dict[Node, Tensor]
    bias: dict[Node, Tensor]


class _Part(NamedTuple):
    """One site on some prompts: the latents active in any run, the candidates' directions
    [candidate, d] at each node, each run's terms."""

    rows: slice
    latents: Int[Tensor, "latent"]
    directions: dict[Node, Tensor]
    runs: list[_Terms]


def _sources(
    given: Activations,
    nodes: Sequence[Node],
    rows: slice,
    depth: int,
    sae: SAE,
    codes: SparseCodes,
    token: Tensor,
) -> _Sources:
    last = given.index(nodes[0].position)[rows, None]
    back = torch.arange(depth, device=last.device)
    inside = last >= back
    where = (last - back).clamp(min=0)
    x = _taken(given.streams[given.anatomy.source(nodes[0])][rows], where).float()
    given_to_sae = sae.normalise(x)
    passed = (where == 0) & sae.passes_first(bos=given.bos)
    rest = torch.where(passed[..., None], x, given_to_sae.n * sae.b_dec + given_to_sae.mu)
    own = (back == 0).expand_as(where).float()
    attention = [
        _taken(given.patterns[node][rows], where).float() * inside if node.kind == "z" else own
        for node in nodes
    ]
    entries = codes.of(torch.where(inside, _taken(token[rows], where), -1).flatten())
    return _Sources(entries, x, given_to_sae.n[..., 0], rest, torch.stack(attention))


def _taken(values: Tensor, where: Int[Tensor, "prompt back"]) -> Tensor:
    """values[p, where[p, b]]."""
    return values[torch.arange(len(where), device=where.device)[:, None], where]


def _oracle(
    terms: _Terms, directions: Mapping[Node, Tensor], given: Activations, rows: slice
) -> _Terms:
    """The same with, for the latents active in each prompt, the non-negative codes that come
    nearest to what the node holds."""
    from scipy.optimize import nnls

    codes = {node: torch.zeros_like(own) for node, own in terms.codes.items()}
    for node, own in terms.codes.items():
        every = directions[node].double().cpu().numpy()
        wanted = (given.values[node][rows] - terms.bias[node]).double().cpu().numpy()
        for row, active in enumerate((own != 0).cpu().numpy()):
            if active.any():
                solved, _ = nnls(every[active].T, wanted[row], maxiter=30 * int(active.sum()))
                codes[node][row, torch.from_numpy(active).to(own.device)] = torch.from_numpy(
                    solved
                ).to(own)
    return _Terms(codes, terms.bias)


def _normed(norm: Norm, vectors: Float[Tensor, "*many d_model"]) -> Float[Tensor, "*many d_model"]:
    """diag(g) P v."""
    return norm.weight.float() * norm.centre(vectors)


def _mapped(
    anatomy: Anatomy, node: Node, vectors: Float[Tensor, "*many d_model"]
) -> Float[Tensor, "*many d"]:
    """W v."""
    return vectors if node.head is None else vectors @ _weights(anatomy, node)[0].float().T


def _weights(
    anatomy: Anatomy, node: Node
) -> tuple[Float[Tensor, "d_head d_model"], Float[Tensor, " d_head"]]:
    """W and b of a head's node; those of the values it mixes at z."""
    assert node.head is not None
    if node.kind == "z":
        return anatomy.projection("v", node.layer, anatomy.kv_head(node.head))
    return anatomy.projection(node.kind, node.layer, node.head)


def _offset(anatomy: Anatomy, node: Node) -> Float[Tensor, "d"]:
    """c = W b + b_W."""
    bias = anatomy.norm_before(node).bias.float()
    if node.head is None:
        return bias
    W, b = _weights(anatomy, node)
    return W.float() @ bias + b.float()
