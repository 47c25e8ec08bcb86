"""A residual-stream SAE as a dictionary of what heads and MLPs read from the stream.

Method, section 4: y_hat = bias + sum_i alpha_i W~ d_i with alpha_i = sum_s A_ts f_i(x_s) n_s /
s(x_s), where the attention row A is one-hot everywhere but at z. All else is one pseudo-latent,
`bias`; y - y_hat = W~ (x - x_hat) / s(x) exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Moments, Site, sites
from sage.dictionaries.dictionary import OnDemand, RunCodes, SiteCodes
from sage.dictionaries.options import HEADLINE, Options
from sage.dictionaries.projection import (
    KINDS,
    offset,
    project_direction,
    reached,
    through_norm,
    through_weights,
)
from sage.dictionaries.streams import EncodedStreams, Sources, read_sources
from sage.errors import SageError
from sage.memory import CODES_AT_ONCE
from sage.models.anatomy import Anatomy
from sage.nodes import Node
from sage.saes.sae import SAE, check_fits
from sage.saes.suite import Suite

Latents = Int[Tensor, "latent"] | slice
EVERY = slice(None)


def own_decoder(sae: SAE, latents: Latents) -> Float[Tensor, "latent d_model"]:
    """The SAE's directions as they are."""
    return sae.W_dec[latents]


@dataclass(frozen=True, eq=False)
class ProjectedSuite:
    """A suite's latents at the nodes that read its residual streams; made by `project`.

    `decoder` gives the residual directions of some of an SAE's latents: its own, or a control's in
    their place. `kept` says at a node which latents may be used; a node that it lacks may use all.
    `streams` holds what is encoded, for this dictionary and those made from it by `replace`.
    """

    name: str
    suite: Suite
    anatomy: Anatomy
    nodes: tuple[Node, ...]
    moments: Moments
    streams: EncodedStreams
    options: Options = HEADLINE
    signed: bool = False
    decoder: Callable[[SAE, Latents], Tensor] = own_decoder
    kept: Mapping[Node, Tensor] = field(default_factory=dict[Node, Tensor])

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        """y_hat at every node, [prompt, d]: the bias and all latents."""
        whole = {
            node: torch.empty_like(value, dtype=torch.float32)
            for node, value in given.values.items()
        }
        for part in self.site_codes(given):
            (held,) = part.runs
            for node, bias in held.bias.items():
                whole[node][part.rows] = bias + held.codes[node] @ part.directions[node]
        return whole

    def codes(self, given: Activations) -> dict[Node, Float[Tensor, "prompt latent"]]:
        """alpha of every latent at every node; ask for one node at a time (`given.on([node])`)
        where latents are many."""
        whole = {
            node: value.new_zeros(len(given), self.sae_at(node).width, dtype=torch.float32)
            for node, value in given.values.items()
        }
        for part in self.site_codes(given):
            for node, codes in part.runs[0].codes.items():
                whole[node][part.rows].index_add_(1, part.latents, codes)
        return whole

    def directions(self, node: Node) -> Float[Tensor, "latent d"]:
        """W~ d of every latent."""
        return project_direction(self.anatomy, node, self.decoder(self.sae_at(node), EVERY).float())

    def width(self, node: Node) -> int:
        """How many latents the node's SAE has."""
        return self.sae_at(node).width

    def some_directions(
        self, nodes: Sequence[Node], latents: Int[Tensor, "some"]
    ) -> dict[Node, Float[Tensor, "some d"]]:
        """W~ d of some latents at nodes of one site."""
        vectors = self.decoder(self.sae_at(nodes[0]), latents).float()
        norms = {self.anatomy.norm_before(node) for node in nodes}
        normed = {norm: through_norm(norm, vectors) for norm in norms}
        return {
            node: through_weights(self.anatomy, node, normed[self.anatomy.norm_before(node)])
            for node in nodes
        }

    def coded_as(self, other: object) -> bool:
        """Whether another dictionary has the same codes everywhere, whatever its directions."""
        return (
            isinstance(other, ProjectedSuite)
            and other.streams is self.streams
            and other.options == self.options
            and other.signed == self.signed
            and (other.kept is self.kept or not (other.kept or self.kept))
        )

    def only(self, latents: Mapping[Node, Bool[Tensor, "latent"]]) -> ProjectedSuite:
        """The same latents with, at each node named, only these in use; the bias stays."""
        narrowed = {
            n: mask & self.kept[n] if n in self.kept else mask for n, mask in latents.items()
        }
        return replace(self, kept={**self.kept, **narrowed})

    def sae_at(self, node: Node) -> SAE:
        """The SAE of the stream that a node reads; SageError for a node not projected onto."""
        sae = self.suite.at(self.anatomy.source(node))
        if sae is None or node not in self.nodes:
            projected = ", ".join(map(str, self.nodes))
            raise SageError(
                f"'{self.name}' was projected onto {projected}; {node} is not among them."
            )
        return sae

    def usable(self, nodes: Sequence[Node]) -> Bool[Tensor, "latent"] | None:
        """The latents that some of the nodes may use; None where one may use all."""
        if not all(node in self.kept for node in nodes):
            return None
        return torch.stack([self.kept[node] for node in nodes]).any(0)

    def site_codes(
        self, *runs: Activations, latents: Mapping[Site, Int[Tensor, "latent"]] | None = None
    ) -> Iterator[SiteCodes]:
        """Site by site, a bounded number of prompts at a time: what the nodes are made of in each
        run (as the function `sage.dictionaries.dictionary.site_codes`)."""
        for site, nodes in sites(runs[0].nodes, self.anatomy).items():
            wanted = None if latents is None else latents[site]
            yield from _ProjectedSite.of(self, site, nodes, runs, wanted).parts()


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
        hooks, kinds = ", ".join(map(str, suite.hooks)), ", ".join(KINDS)
        raise SageError(
            f"Suite '{suite.id}' has SAEs at {hooks} and does not reach {missing[0]}{more}. Nodes "
            f"of kinds {kinds} that read one of these can be projected onto: `reached` picks them "
            "out."
        )
    for sae in suite.saes.values():
        check_fits(sae, anatomy.d_model)
    ordered = tuple(sorted(nodes))
    streams = EncodedStreams(ordered)
    return ProjectedSuite(name or suite.id, suite, anatomy, ordered, moments, streams, options)


def explained(judged: ProjectedSuite, given: Activations) -> dict[Node, Float[Tensor, "latent"]]:
    """The share of each node's variance that every latent explains alone: 1 - E|y - mean - (alpha_i
    - E alpha_i) u_i|^2 / Var_n."""
    sums = {
        node: torch.zeros(3, judged.sae_at(node).width, dtype=torch.float64, device=value.device)
        for node, value in given.values.items()
    }
    for part in judged.site_codes(given):
        for node, alpha in part.runs[0].codes.items():
            centred = given.values[node][part.rows] - judged.moments.mean[node]
            along = centred @ part.directions[node].T
            added = [alpha.sum(0), alpha.square().sum(0), (alpha * along).sum(0)]
            sums[node][:, part.latents] += torch.stack(added)
    shares: dict[Node, Tensor] = {}
    for node, (total, squares, products) in sums.items():
        mean, length = total / len(given), judged.directions(node).square().sum(-1)
        spread = squares / len(given) - mean.square()
        gained = 2 * products / len(given) - spread * length
        variance = max(judged.moments.variance[node], torch.finfo(torch.float32).tiny)
        shares[node] = (gained / variance).float()
    return shares


def mean_l0(judged: ProjectedSuite, given: Activations) -> dict[Node, float]:
    """Mean number of latents in use that are not 0, before projection, over the tokens but BOS that
    a hook's nodes read."""
    readers: dict[Node, list[Node]] = {}
    for node in given.nodes:
        readers.setdefault(judged.anatomy.source(node), []).append(node)
    l0: dict[Node, float] = {}
    for hook, nodes in readers.items():
        codes, token = judged.streams.of(given, hook, judged.sae_at(nodes[0]))
        counted = token[:, 1:] if given.bos else token
        active = codes.of(counted[counted >= 0]).latent
        if (usable := judged.usable(nodes)) is not None:
            active = active[usable[active]]
        l0[hook] = len(active) / max(1, int((counted >= 0).sum()))
    return l0


@dataclass(frozen=True, eq=False)
class _ProjectedSite:
    """One site of a projected suite in several runs: what does not depend on the prompts."""

    judged: ProjectedSuite
    site: Site
    nodes: tuple[Node, ...]
    runs: tuple[Activations, ...]
    wanted: Int[Tensor, "latent"] | None
    shown: Int[Tensor, "latent"]
    projected: Mapping[Node, Tensor]

    @staticmethod
    def of(
        judged: ProjectedSuite,
        site: Site,
        nodes: tuple[Node, ...],
        runs: tuple[Activations, ...],
        wanted: Int[Tensor, "latent"] | None,
    ) -> _ProjectedSite:
        sae, anatomy = judged.sae_at(nodes[0]), judged.anatomy
        for node in nodes:
            judged.sae_at(node)
        shown = wanted
        if wanted is not None:
            assert judged.options.scale == "frozen", "a recomputed scale needs every active latent"
            assert bool((wanted.diff() > 0).all()), "latents are given in ascending order"
        if shown is None:
            encoded = [judged.streams.of(run, anatomy.source(nodes[0]), sae) for run in runs]
            shown = torch.cat([stream.codes.latent for stream in encoded]).unique().long()
            usable = judged.usable(nodes) if judged.options.scale == "frozen" else None
            shown = shown if usable is None else shown[usable[shown]]
        projected = OnDemand(nodes, lambda: judged.some_directions(nodes, shown))
        return _ProjectedSite(judged, site, nodes, runs, wanted, shown, projected)

    def parts(self) -> Iterator[SiteCodes]:
        """A bounded number of prompts at a time."""
        sae, options = self.judged.sae_at(self.nodes[0]), self.judged.options
        apart = options.sources == "apart"
        depth = self._depth()
        width = len(self.shown) if self.wanted is not None else sae.width
        copies = len(self.nodes) if apart else 1
        step = max(1, CODES_AT_ONCE // max(1, depth * width * copies))
        for first in range(0, len(self.runs[0]), step):
            rows = slice(first, first + step)
            sources = [self._sources(run, rows, depth) for run in self.runs]
            latents = self._latents(sources)
            held = [self._held(source, latents) for source in sources]
            copied = depth if apart else 1
            directions = self._directions(latents, copied)
            if options.codes == "oracle":
                held = [
                    _oracle(codes, directions, run, rows)
                    for codes, run in zip(held, self.runs, strict=True)
                ]
            yield SiteCodes(
                self.site, rows, latents.repeat_interleave(copied), directions, tuple(held)
            )

    def _directions(self, latents: Int[Tensor, "latent"], copies: int) -> Mapping[Node, Tensor]:
        """W~ d of some of the latents shown, each so many times."""
        place = torch.searchsorted(self.shown, latents).repeat_interleave(copies)
        return OnDemand(
            self.nodes, lambda: {node: whole[place] for node, whole in self.projected.items()}
        )

    def _depth(self) -> int:
        """How many tokens back any node reads: at z all from the first."""
        if all(node.kind != "z" for node in self.nodes):
            return 1
        return 1 + max(int(run.index(self.site[1]).max()) for run in self.runs)

    def _latents(self, sources: Sequence[Sources]) -> Int[Tensor, "latent"]:
        """The latents to show: those wanted, else all that are active in any run."""
        if self.wanted is not None:
            return self.wanted
        return torch.cat([source.entries.latent for source in sources]).unique()

    def _sources(self, run: Activations, rows: slice, depth: int) -> Sources:
        judged = self.judged
        sae = judged.sae_at(self.nodes[0])
        encoded = judged.streams.of(run, judged.anatomy.source(self.nodes[0]), sae)
        sources = read_sources(run, self.nodes, rows, depth=depth, sae=sae, encoded=encoded)
        shown = judged.usable(self.nodes) if judged.options.scale == "frozen" else None
        if self.wanted is not None:
            shown = torch.zeros(sae.width, dtype=torch.bool, device=self.wanted.device)
            shown[self.wanted] = True
        if shown is None:
            return sources
        return sources._replace(entries=sources.entries.among(shown))

    def _held(self, sources: Sources, latents: Int[Tensor, "latent"]) -> RunCodes:
        """Codes and bias of a run's nodes; with sources apart a candidate is a latent at one
        source, the sources of a latent side by side."""
        judged, anatomy = self.judged, self.judged.anatomy
        dense = sources.entries.dense(sources.n.numel(), latents)
        f = rearrange(dense, "(prompt back) latent -> prompt back latent", back=sources.n.shape[1])
        x = sources.x
        if judged.options.scale == "recomputed":
            vectors = judged.decoder(judged.sae_at(self.nodes[0]), latents).float()
            x = sources.rest + sources.n[..., None] * (f @ vectors)
        codes: dict[Node, Tensor] = {}
        bias: dict[Node, Tensor] = {}
        shared: dict[tuple[object, ...], Tensor] = {}
        for node, attention in zip(self.nodes, sources.attention, strict=True):
            norm = anatomy.norm_before(node)
            weight = attention / norm.scale(x)[..., 0]
            rest = einsum(weight, sources.rest, "prompt back, prompt back d -> prompt d")
            bias[node] = project_direction(anatomy, node, rest) + offset(anatomy, node)
            key = (node,) if node.kind == "z" or node in judged.kept else (id(norm),)
            if key not in shared:
                shared[key] = self._mixed(node, weight * sources.n, f, latents)
            codes[node] = shared[key]
        return RunCodes(codes, bias)

    def _mixed(
        self,
        node: Node,
        weight: Float[Tensor, "prompt back"],
        f: Float[Tensor, "prompt back latent"],
        latents: Int[Tensor, "latent"],
    ) -> Float[Tensor, "prompt candidate"]:
        """sum_s weight_s f_s of every latent, or each source by itself."""
        kept = self.judged.kept.get(node)
        usable = torch.ones_like(latents, dtype=f.dtype) if kept is None else kept[latents].to(f)
        if self.judged.options.sources == "apart":
            apart = weight[..., None] * f * usable
            return rearrange(apart, "prompt back latent -> prompt (latent back)")
        return einsum(weight, f, "prompt back, prompt back latent -> prompt latent") * usable


def _oracle(
    held: RunCodes, directions: Mapping[Node, Tensor], given: Activations, rows: slice
) -> RunCodes:
    """The same with, for the latents active in each prompt, the non-negative codes that come
    nearest to what the node holds."""
    from scipy.optimize import nnls

    solved_codes: dict[Node, Tensor] = {}
    for node, codes in held.codes.items():
        vectors = directions[node].double().cpu().numpy()
        wanted = (given.values[node][rows] - held.bias[node]).double().cpu().numpy()
        solved = torch.zeros_like(codes)
        for row, active in enumerate((codes != 0).cpu().numpy()):
            if active.any():
                solution, _ = nnls(vectors[active].T, wanted[row], maxiter=30 * int(active.sum()))
                solved[row, torch.from_numpy(active).to(codes.device)] = torch.from_numpy(
                    solution
                ).to(codes)
        solved_codes[node] = solved
    return RunCodes(solved_codes, held.bias)
