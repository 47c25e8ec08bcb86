"""Metrics of other benchmarks for SAEs of a model, on a task's attributes or on labelled texts.

k-sparse probing, TPP and SCR (method, section 7) of what an SAE's residual stream holds at one
token, beside what the same metrics say of an untrained SAE of as many latents and as large an L0,
and beside a ridge read-out of the activation itself. Everything is measured on several draws of
which prompts train and which test: the standard error is over these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from sage.audit.labelled_texts import LabelledTexts
from sage.audit.peers import probing, scr, tpp
from sage.audit.peers.arrays import LabelledNode, NodeCodes, label_node
from sage.dictionaries.activations import Activations
from sage.dictionaries.controls.setting import unit_vectors
from sage.errors import SageError, unknown
from sage.models.base import Model
from sage.nodes import Node
from sage.saes.architectures.topk import TopK
from sage.saes.sae import SAE, hook_label
from sage.task.prompt import Label, Prompt
from sage.task.task import END, Task
from sage.task.token_audit import audit
from sage.task.tokens import Tokenized, encode

# The attribute that labelled texts have.
LABEL = "label"
# Prompts of each value, in each split, that a value must have to be probed for; of each combination
# of two values for SCR.
FEWEST = 12
# Of the activation's mean squared size on train: how strongly the dense read-out is held back.
RIDGE = 0.01
ACTIVATION, UNTRAINED = "the activation itself", "untrained"


@dataclass(frozen=True)
class ProbeSettings:
    """How many prompts train and test, at which k latents are probed, over how many draws."""

    train: int = 1000
    test: int = 500
    ks: tuple[int, ...] = probing.KS
    draws: int = 3
    metrics: tuple[str, ...] = (probing.NAME, tpp.NAME, scr.NAME)


@dataclass(frozen=True)
class ProbeRow:
    """One metric of one dictionary: the mean over draws, its standard error, and on how many
    prompts each is tested. `size` is the k of probing or the N of TPP and SCR, None for the
    read-out of the activation; `classes` are how many values are told apart."""

    data: str
    attribute: str
    hook: str
    sae: str
    dictionary: str
    metric: str
    size: int | None
    value: float
    stderr: float | None
    n: int
    classes: int


@dataclass(frozen=True)
class Labelled:
    """Prompts to probe: what they are of, the position that is read, the attributes."""

    name: str
    prompts: tuple[Tokenized, ...]
    position: str
    attributes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def of_task(
    model: Model,
    task: Task,
    settings: ProbeSettings,
    *,
    position: str = END,
    attributes: Sequence[str] = (),
) -> Labelled:
    """Prompts of a task that this tokenizer can run, with these of its attributes, irrelevant ones
    too if they are named; by default all that are not. SageError for a position or an attribute
    that there is not."""
    usable = audit(task, model.tokenizer, bos=model.bos).task
    drawn = usable.sample(settings.train + settings.test, seed=0)
    prompts = tuple(model.tokenize(prompt) for prompt in drawn)
    if position not in prompts[0].index:
        known = ", ".join(prompts[0].index)
        raise SageError(f"Prompts of {task.name} have no position '{position}'. Known: {known}.")
    every = (*usable.attributes, *usable.irrelevant)
    for name in attributes:
        if name not in every:
            raise unknown(f"attribute of {task.name}", name, every)
    return Labelled(task.name, prompts, position, tuple(attributes or usable.attributes))


def of_texts(model: Model, given: LabelledTexts) -> Labelled:
    """Texts as the model reads them, at their last token; long ones from as late a token as it has
    positions for. Texts with a word that its vocabulary has not are left out, and counted."""
    bos = model.tokenizer.bos_token_id
    beginning = (bos,) if model.bos and isinstance(bos, int) else ()
    room = None if model.positions is None else model.positions - len(beginning)
    prompts: list[Tokenized] = []
    left_out = cut = 0
    for text, label in zip(given.texts, given.labels, strict=True):
        tokens = encode(text, model.tokenizer)
        if tokens.unknown or not tokens.ids:
            left_out += 1
            continue
        ids = tokens.ids if room is None else tokens.ids[-room:]
        cut += len(ids) < len(tokens.ids)
        prompt = Prompt(text, given.name, given.name, {}, {LABEL: label}, {}, (), ())
        whole = (*beginning, *ids)
        prompts.append(Tokenized(prompt, whole, {END: len(whole) - 1}, (), ()))
    if not prompts:
        raise SageError(
            f"No text of {given.name} can be read: all have words that {model.name} does not know."
        )
    counted = ((left_out, "left out: words that the model does not know"), (cut, "cut at the left"))
    notes = tuple(
        f"{count} of {len(given.texts)} texts {what}." for count, what in counted if count
    )
    return Labelled(given.name, tuple(prompts), END, (LABEL,), notes)


def probe(
    model: Model, given: Labelled, saes: Mapping[str, SAE], settings: ProbeSettings
) -> list[ProbeRow]:
    """Every metric of every SAE, of its untrained control, and of the activation. SageError where
    no attribute has two values with enough prompts."""
    nodes = {name: Node(sae.site.kind, sae.site.layer, None, given.position)
             for name, sae in saes.items()}  # fmt: skip
    values = model.read(sorted({*nodes.values()}), given.prompts)
    rows: list[ProbeRow] = []
    for name, sae in saes.items():
        held = {nodes[name]: values[nodes[name]].cpu()}
        at = Activations(model.anatomy, given.prompts, held, {}, {})
        measured = [dict(_draw(at, given, sae, settings, seed)) for seed in range(settings.draws)]
        rows += _rows(given.name, name, sae, measured)
    if not rows:
        raise SageError(
            f"{given.name} has no attribute with two values of {FEWEST} prompts or more each to "
            f"train and to test on: it has {len(given.prompts)} prompts."
        )
    return rows


_Key = tuple[str, str, str, int | None]
"""Attribute, dictionary, metric and size."""


@dataclass(frozen=True)
class _Value:
    value: float
    n: int
    classes: int


def _draw(
    given: Activations, labelled: Labelled, sae: SAE, settings: ProbeSettings, seed: int
) -> Iterator[tuple[_Key, _Value]]:
    """Every figure on one draw of which prompts train and which test."""
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(given), generator=random).tolist()
    share = settings.train / (settings.train + settings.test)
    cut = min(settings.train, round(share * len(order)))
    train, test = given.select(order[:cut]), given.select(order[cut:][: settings.test])
    (node,) = given.nodes
    judged = {"": sae, UNTRAINED: _untrained(sae, train.values[node], seed)}
    for attribute in labelled.attributes:
        at = label_node(node, train, test, attribute, fewest=FEWEST)
        if at is not None:
            yield from _told_apart(at, attribute, judged, settings, seed)
    if scr.NAME in settings.metrics:
        for pair in combinations(labelled.attributes, 2):
            yield from _removed(node, train, test, pair, judged, seed)


def _told_apart(
    at: LabelledNode,
    attribute: str,
    judged: Mapping[str, SAE],
    settings: ProbeSettings,
    seed: int,
) -> Iterator[tuple[_Key, _Value]]:
    """Probing and TPP of one attribute's values."""
    count, classes = len(at.test), len(at.values)
    codes = {
        name: _node_codes(sae, at.train.values[at.node], at.test.values[at.node])
        for name, sae in judged.items()
    }
    if probing.NAME in settings.metrics:
        for name, held in codes.items():
            for k, area in probing.probing(at, held, ks=settings.ks).items():
                yield (attribute, name, probing.NAME, k), _Value(area, count, classes)
        yield (attribute, ACTIVATION, probing.NAME, None), _Value(_dense(at), count, classes)
    if tpp.NAME in settings.metrics:
        fitted = tpp.class_probes(at, seed=seed)
        for name, held in codes.items():
            for n, value in tpp.tpp(at, held, fitted).items():
                yield (attribute, name, tpp.NAME, n), _Value(value, count, classes)


def _dense(at: LabelledNode) -> float:
    """The area under the ROC curve of a ridge read-out of the activation, the mean over values."""
    train, test = (run.values[at.node].double() for run in (at.train, at.test))
    mean, target = train.mean(0), at.is_value("train").double()
    centred = train - mean
    gram = centred.T @ centred
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    read = torch.linalg.solve(gram + ridge, centred.T @ (target - target.mean(1, keepdim=True)).T)
    return float(probing.area(((test - mean) @ read).T, at.is_value("test")).mean())


def _removed(
    node: Node,
    train: Activations,
    test: Activations,
    pair: Sequence[str],
    judged: Mapping[str, SAE],
    seed: int,
) -> Iterator[tuple[_Key, _Value]]:
    """SCR of two attributes by the two most frequent values of each, where all four combinations
    have enough prompts."""
    chosen = [_two_most_frequent(train, name) for name in pair]
    first, second = (_two_way(node, run, pair, chosen) for run in (train, test))
    if min(len(rows) for way in (first, second) for rows in way.cells().values()) < FEWEST:
        return
    fitted = scr.biased_probes(first, second, seed=seed)
    for name, sae in judged.items():
        for n, value in scr.scr(fitted, _node_codes(sae, first.values, second.values)).items():
            key = (", ".join(pair), name, scr.NAME, n)
            yield key, _Value(float(value), len(second.given), 2)


def _two_way(
    node: Node, given: Activations, pair: Sequence[str], chosen: Sequence[Sequence[Label]]
) -> scr.TwoWay:
    """The prompts on which both attributes have one of their chosen values."""
    labels = [given.labels(name) for name in pair]
    sides = list(zip(labels, chosen, strict=True))
    kept = [row for row in range(len(given)) if all(values[row] in two for values, two in sides)]
    seconds = [torch.tensor([values[row] == two[-1] for row in kept], dtype=torch.bool)
               for values, two in sides]  # fmt: skip
    return scr.TwoWay(given.select(kept), node, *seconds)


def _two_most_frequent(given: Activations, attribute: str) -> list[Label]:
    labels = given.labels(attribute)
    return sorted(set(labels), key=lambda value: (-labels.count(value), repr(value)))[:2]


def _node_codes(
    sae: SAE, train: Float[Tensor, "train d"], test: Float[Tensor, "test d"]
) -> NodeCodes:
    return NodeCodes(_codes(sae, train), _codes(sae, test), sae.W_dec.cpu())


def _codes(sae: SAE, values: Float[Tensor, "prompt d"]) -> Float[Tensor, "prompt latent"]:
    """Codes in the activation's own units: what is added is these times the decoder's rows."""
    given = sae.normalise(values.to(sae.W_dec.device))
    return (sae.encoder.encode(given.x_in) * given.n).cpu()


def _untrained(sae: SAE, train: Float[Tensor, "prompt d"], seed: int) -> SAE:
    """Random directions, as many and as many active at a time; the mean is taken off before."""
    rows = unit_vectors(sae.width, sae.d_model, f"untrained/{hook_label(sae.hook)}/{seed}")
    active = max(1, round(float((_codes(sae, train) != 0).float().sum(-1).mean())))
    zeros = torch.zeros(len(rows))
    encoder = TopK(rows.T.contiguous(), zeros, zeros + 1, min(active, len(rows)))
    return SAE(UNTRAINED, encoder, rows, train.mean(0), sae.hook, subtract_b_dec=True)


def _rows(
    data: str, name: str, sae: SAE, draws: Sequence[Mapping[_Key, _Value]]
) -> Iterator[ProbeRow]:
    """The mean over those draws in which a figure could be had."""
    for key in dict.fromkeys(key for draw in draws for key in draw):
        figures = [draw[key] for draw in draws if key in draw]
        values = torch.tensor([figure.value for figure in figures], dtype=torch.float64)
        error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None
        attribute, dictionary, metric, size = key
        yield ProbeRow(
            data, attribute, hook_label(sae.hook), name, dictionary or name, metric, size,
            float(values.mean()), error, figures[0].n, figures[0].classes,
        )  # fmt: skip
