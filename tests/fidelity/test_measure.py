"""Fidelity is what a literal loop over sequences says, and has its zero and its one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sage.errors import SageError, Unsupported
from sage.fidelity import splice
from sage.fidelity.measure import measure_fidelity
from sage.fidelity.result import FidelityResult
from sage.fidelity.sequences import Sequences, sequences_of
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import EVERYWHERE, Node
from sage.saes.architectures.relu import ReLU
from sage.saes.releases import load_suite
from sage.saes.residual_tokens import windows, without_bos
from sage.saes.sae import SAE
from sage.saes.suite import Suite, assemble
from tests.fidelity import twin as literal

NAMES = ("tiny-gpt2", "tiny-neox", "tiny-gemma2")
TEXT = """
When Mary and John went to the store, John gave a book to Mary
When Anna and Tom went to the park, Tom gave a ball to Anna
Then Alice and Bob went to the school, and Bob gave a drink to Alice
After James and Sarah went to the office, Sarah gave a ring to James
The boy that the teachers saw is here
The boys near the teacher are here
Mary had a book and John had a ball
John said that the store was near the park
""".strip().splitlines()


@cache
def model(name: str) -> Model:
    return load_model(name, device="cpu")


@cache
def text(name: str) -> Sequences:
    """Sentences of several lengths."""
    return sequences_of(model(name), windows(model(name), TEXT, window=32), source="text")


def questions(name: str) -> Sequences:
    """The same without their last token, which is asked for, in some by a word it might have been
    as well."""
    prompts = [
        replace(prompt, ids=prompt.ids[:-1], answers=(prompt.ids[-1], *extra))
        for prompt, extra in zip(text(name).prompts, [(5,), ()] * 4, strict=True)
    ]
    return Sequences(tuple(prompts), "answers", "questions")


def suite_at(name: str, layer: int, *, reads_bos: bool | None = None) -> Suite:
    suite = load_suite(f"{name}/topk4")
    sae = suite.saes[Node("resid_pre", layer)]
    return assemble("topk4", [sae if reads_bos is None else replace(sae, reads_bos=reads_bos)])


def values(result: FidelityResult) -> dict[str, float]:
    (measures,) = result.measures
    return {name: sampled.value for name, sampled in measures.items()}


def handmade(d: int, hook: Node, *, name: str, signs: Tensor, b_dec: Tensor) -> SAE:
    """An SAE with one latent along each axis and each of these signs of it."""
    directions = torch.cat([sign * torch.eye(d) for sign in signs])
    return SAE(name, ReLU(directions.T.contiguous(), torch.zeros(len(directions))), directions,
               b_dec, hook)  # fmt: skip


def identity(d: int, hook: Node) -> SAE:
    """relu(x) - relu(-x) is x."""
    return handmade(d, hook, name="identity", signs=torch.tensor([1.0, -1.0]), b_dec=torch.zeros(d))


def constant(vector: Tensor, hook: Node) -> SAE:
    """Its latents push nowhere: it returns b_dec whatever it reads."""
    sae = identity(len(vector), hook)
    return replace(sae, id="constant", W_dec=torch.zeros_like(sae.W_dec), b_dec=vector)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reads_bos", [True, False])
def test_on_text_it_is_what_a_literal_loop_says(name: str, reads_bos: bool) -> None:
    suite = suite_at(name, 1, reads_bos=reads_bos)
    (sae,) = suite.saes.values()
    result = measure_fidelity(model(name), [suite], text(name))
    twin = literal.Twin(name, 1)
    sequences = [(prompt.ids, None) for prompt in text(name).prompts]
    assert len({len(ids) for ids, _ in sequences}) > 1
    expected = literal.measure(twin, sae, sequences, model(name).bos)
    assert values(result) == pytest.approx(expected, rel=2e-4, abs=2e-6)
    start = int(model(name).bos or reads_bos != model(name).bos)
    shares = literal.latent_shares(twin, sae, [ids for ids, _ in sequences], start)
    (measured,) = result.saes
    assert (measured.dead.whole, measured.dense.whole) == pytest.approx(shares)


@pytest.mark.parametrize("name", NAMES)
def test_on_a_task_it_is_what_a_literal_loop_says_at_the_answer(name: str) -> None:
    suite = suite_at(name, 0)
    (sae,) = suite.saes.values()
    sequences = questions(name)
    result = measure_fidelity(model(name), [suite], sequences)
    assert result.text.asked == "answers"
    asked = [(prompt.ids, prompt.answers) for prompt in sequences.prompts]
    expected = literal.measure(literal.Twin(name, 0), sae, asked, model(name).bos)
    measured = {name: value for name, value in values(result).items() if value == value}
    assert len(measured) >= len(expected) - 2
    assert measured == pytest.approx(
        {name: expected[name] for name in measured}, rel=5e-4, abs=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["resid_pre", "resid_mid", "resid_post"])
def test_the_identity_keeps_everything(name: str, where: str) -> None:
    anatomy = model(name).anatomy
    if anatomy.parallel and where == "resid_mid":
        pytest.skip("blocks of this model have no resid_mid")
    layer = anatomy.layers - 1
    suite = assemble("identity", [identity(anatomy.d_model, Node(where, layer))])
    measured = values(measure_fidelity(model(name), [suite], text(name)))
    assert measured["kl"] == pytest.approx(0, abs=1e-6)
    assert measured["loss_recovered_zero"] == pytest.approx(1, abs=1e-6)
    assert measured["loss_recovered_mean"] == pytest.approx(1, abs=1e-6)
    assert measured["fvu"] == pytest.approx(0, abs=1e-10)
    assert (measured["cosine"], measured["bias"]) == pytest.approx((1, 1))
    assert measured["l0"] == pytest.approx(anatomy.d_model, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reads_bos", [True, False])
def test_a_dictionary_that_returns_the_mean_explains_and_recovers_nothing(
    name: str, reads_bos: bool
) -> None:
    hook = Node("resid_pre", 1)
    prompts = text(name).prompts
    stream = model(name).read([hook.at(EVERYWHERE)], prompts)[hook.at(EVERYWHERE)]
    start = model(name).bos or reads_bos != model(name).bos
    mean = without_bos(stream, prompts, bos=start).double().mean(0).float()
    suite = assemble("constant", [replace(constant(mean, hook), reads_bos=reads_bos)])
    measured = values(measure_fidelity(model(name), [suite], text(name)))
    assert 1 - measured["fvu"] == pytest.approx(0, abs=1e-5)
    assert measured["loss_recovered_mean"] == pytest.approx(0, abs=1e-4)
    assert measured["kl_recovered_mean"] == pytest.approx(0, abs=1e-4)
    assert measured["cross_entropy_sae"] == pytest.approx(measured["cross_entropy_mean"], abs=1e-4)


def test_a_dictionary_that_returns_zero_recovers_nothing_of_zero_ablation() -> None:
    hook, d = Node("resid_pre", 2), model("tiny-gpt2").anatomy.d_model
    suite = assemble("zero", [constant(torch.zeros(d), hook)])
    measured = values(measure_fidelity(model("tiny-gpt2"), [suite], text("tiny-gpt2")))
    assert measured["loss_recovered_zero"] == pytest.approx(0, abs=1e-6)
    assert measured["cosine"] == 0


def test_neither_batches_nor_chunks_of_logits_change_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite = suite_at("tiny-neox", 1)
    whole = values(measure_fidelity(model("tiny-neox"), [suite], text("tiny-neox")))
    monkeypatch.setattr(splice, "LOGITS_AT_ONCE", 3 * model("tiny-neox").anatomy.d_vocab)
    one_by_one = replace(model("tiny-neox"), batch_size=1)
    assert values(measure_fidelity(one_by_one, [suite], text("tiny-neox"))) == pytest.approx(
        whole, rel=1e-5, abs=1e-7
    )


class _Counting:
    """An engine that counts its forward passes."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.name, self.passes = engine, engine.name, 0

    def forward(self, *arguments: Any, **options: Any) -> Any:
        self.passes += 1
        return self.engine.forward(*arguments, **options)

    def gradients(self, *arguments: Any, **options: Any) -> Any:
        return self.engine.gradients(*arguments, **options)


def test_clean_and_ablated_runs_are_made_once_for_all_saes_of_a_hook() -> None:
    saes = [suite_at("tiny-gpt2", 1).saes[Node("resid_pre", 1)]] * 3
    suites = [assemble(f"copy {number}", [sae]) for number, sae in enumerate(saes)]
    counting = _Counting(model("tiny-gpt2").engine)
    sequences = text("tiny-gpt2")
    lengths = len({len(prompt.ids) for prompt in sequences.prompts})
    measure_fidelity(replace(model("tiny-gpt2"), engine=counting), suites, sequences)
    mean, clean, ablated, spliced = 1, 1, 2, 3
    assert counting.passes == lengths * (mean + clean + ablated + spliced)


def test_a_suite_is_the_mean_over_its_hooks() -> None:
    result = measure_fidelity(
        model("tiny-neox"), [load_suite("tiny-neox/topk4")], text("tiny-neox")
    )
    (suite,) = result.suites
    assert suite.hooks == ("0.resid_pre", "1.resid_pre")
    first, second = result.measures
    assert suite.measures["fvu"].value == pytest.approx(
        (first["fvu"].value + second["fvu"].value) / 2
    )
    assert suite.latents["dead"].value == pytest.approx(
        sum(sae.dead.whole for sae in result.saes) / 2
    )
    means = [row for row in result.rows() if row.sae == "mean over hooks"]
    assert {row.hook for row in means} == {"0.resid_pre 1.resid_pre"}
    assert len(result.rows()) == 3 * len(means)
    assert len(result.table()) == len(result.rows())
    with pytest.raises(SageError, match="topk4"):
        result.suite("topk5")


def test_every_measure_has_an_error_over_sequences() -> None:
    result = measure_fidelity(model("tiny-gpt2"), [suite_at("tiny-gpt2", 1)], text("tiny-gpt2"))
    rows = {row.measure: row for row in result.rows()}
    assert {"kl", "bias", "dead", "dense", "loss_recovered_mean"} <= set(rows)
    assert all(row.stderr is not None and row.n == 8 for row in rows.values())
    assert all(row.stderr > 0 for row in rows.values() if row.measure not in ("l0", "dense"))


@pytest.mark.parametrize(
    ("suites", "message"),
    [
        ([], "at least one"),
        ([suite_at("tiny-neox", 1), suite_at("tiny-neox", 0)], "different names"),
        ([assemble("deep", [identity(64, Node("resid_pre", 9))])], "does not have"),
    ],
)
def test_suites_that_cannot_be_measured_are_refused(suites: Sequence[Suite], message: str) -> None:
    with pytest.raises(SageError, match=message):
        measure_fidelity(model("tiny-neox"), suites, text("tiny-neox"))


def test_a_model_whose_weights_are_elsewhere_is_refused() -> None:
    with pytest.raises(Unsupported, match="partial"):
        measure_fidelity(
            replace(model("tiny-gpt2"), partial=None), [suite_at("tiny-gpt2", 1)], text("tiny-gpt2")
        )
