from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from saes.examples import NAMES, D, encoder, inputs, sae
from sage.errors import BadFile, SageError, SageWarning, Unsupported
from sage.nodes import Node
from sage.saes.architectures._prolu_function import prolu
from sage.saes.architectures.jumprelu import JumpReLU
from sage.saes.architectures.prolu import ProLU
from sage.saes.architectures.relu import ReLU
from sage.saes.sae import (
    SAE,
    Normalisation,
    Stated,
    check_fits,
    fold_decoder_norms,
    fold_factor,
    measure,
)
from sage.saes.suite import assemble


def twin(
    name: str, weights: dict[str, np.ndarray], settings: dict[str, object], x: np.ndarray
) -> np.ndarray:
    """The codes of one token, latent by latent, from the papers' definitions."""
    codes = []
    p = [sum(x * column) for column in weights["W_enc"].T]
    for i, m in enumerate(p):
        pre = m + weights["b_enc"][i] if "b_enc" in weights else m
        if name == "relu":
            codes.append(max(0.0, pre))
        elif name == "gated":
            open_gate = m + weights["b_gate"][i] > 0
            codes.append(
                max(0.0, m * np.exp(weights["r_mag"][i]) + weights["b_mag"][i])
                if open_gate
                else 0.0
            )
        elif name == "topk":
            stronger = sum(p[j] + weights["b_enc"][j] > pre for j in range(len(p)))
            codes.append(max(0.0, pre) if stronger < settings["k"] else 0.0)
        elif name == "prolu":
            codes.append(m if m > 0 and pre > 0 else 0.0)
        else:
            codes.append(max(0.0, pre) if pre > weights["threshold"][i] else 0.0)
    return np.array(codes)


@pytest.mark.parametrize("name", NAMES)
def test_codes_equal_a_literal_twin(name: str) -> None:
    example = encoder(name)
    weights = {key: value.double().numpy() for key, value in example.tensors().items()}
    x = inputs()
    literal = np.stack(
        [twin(example.name, weights, example.settings(), token) for token in x.double().numpy()]
    )
    assert np.abs(example.encode(x).numpy() - literal).max() < 1e-5
    assert 0 < (literal > 0).mean() < 1


def test_codes_do_not_depend_on_the_shape_of_the_batch() -> None:
    for name in NAMES:
        x = inputs(tokens=12)
        assert torch.equal(
            sae(name).encode(x.reshape(3, 4, D)), sae(name).encode(x).reshape(3, 4, -1)
        )


def test_prolu_is_a_jumprelu_with_threshold_max_of_minus_b_and_zero() -> None:
    example = encoder("prolu")
    assert isinstance(example, ProLU)
    jump = JumpReLU(example.W_enc, torch.zeros_like(example.b_enc), (-example.b_enc).clamp(min=0))
    assert torch.equal(example.encode(inputs()), jump.encode(inputs()))


@pytest.mark.parametrize("variant", ["relu", "ste"])
def test_prolu_passes_back_the_stated_gradient(variant: str) -> None:
    # Latents: open, shut by the bias, shut by the sign, open with a negative bias.
    m = torch.tensor([[2.0, 0.5, -1.0, 3.0], [0.25, 4.0, 2.0, 0.5]], requires_grad=True)
    b = torch.tensor([1.0, -1.0, 5.0, -2.0], requires_grad=True)
    grad = torch.tensor([[1.0, 10.0, 100.0, 0.5], [2.0, 3.0, 5.0, 7.0]])
    out = prolu(m, b, gradient=variant)
    assert out.tolist() == [[2.0, 0.0, 0.0, 3.0], [0.25, 4.0, 2.0, 0.0]]
    out.backward(grad)
    g = torch.tensor([[1.0, 0.0, 0.0, 0.5], [2.0, 3.0, 5.0, 0.0]])
    assert m.grad is not None
    assert b.grad is not None
    if variant == "relu":
        assert torch.equal(m.grad, g)
        assert b.grad.tolist() == [3.0, 3.0, 5.0, 0.5]
    else:
        assert torch.equal(m.grad, g + g * m.detach())
        assert b.grad.tolist() == [1 * 2 + 2 * 0.25, 3 * 4.0, 5 * 2.0, 0.5 * 3]


NORMALISATIONS = (
    Normalisation(),
    Normalisation("expected_average_only_in", 0.37),
    Normalisation("constant_norm_rescale"),
    Normalisation("layer_norm"),
)


def normalised_by_hand(x: np.ndarray, how: Normalisation) -> tuple[np.ndarray, float, float]:
    """One token as SAELens normalises it: the input, the factor and the shift that its output
    undoes it with."""
    if how.kind == "expected_average_only_in":
        return x * how.factor, 1 / how.factor, 0.0
    if how.kind == "constant_norm_rescale":
        coefficient = np.sqrt(len(x)) / np.sqrt((x**2).sum())
        return x * coefficient, 1 / coefficient, 0.0
    if how.kind == "layer_norm":
        deviation = (x - x.mean()).std(ddof=1)
        return (x - x.mean()) / (deviation + 1e-5), deviation, x.mean()
    return x, 1.0, 0.0


@pytest.mark.parametrize("how", NORMALISATIONS, ids=lambda how: how.kind)
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("subtract", [False, True])
def test_a_reconstruction_is_n_times_the_dictionary_plus_mu(
    how: Normalisation, centred: bool, subtract: bool
) -> None:
    example = sae("relu", normalisation=how, centred=centred, subtract_b_dec=subtract)
    x = inputs()
    f = example.encode(x)
    _, n, mu = example.normalise(x)
    assert n.shape == (len(x), 1)
    assert mu.shape == x.shape
    x_hat = (
        n * (sum(f[:, i, None] * example.W_dec[i] for i in range(example.width)) + example.b_dec)
        + mu
    )
    assert (x_hat - example.reconstruct(x)).abs().max() < 1e-5
    weights = example.encoder.tensors()
    for token, code, rebuilt in zip(
        x.double().numpy(), f.numpy(), example.reconstruct(x).numpy(), strict=True
    ):
        mean = token.mean() if centred else 0.0
        inside, factor, shift = normalised_by_hand(token - mean, how)
        inside = inside - example.b_dec.numpy() if subtract else inside
        literal = np.maximum(0, inside @ weights["W_enc"].numpy() + weights["b_enc"].numpy())
        assert np.abs(literal - code).max() < 1e-4
        assert (
            np.abs(
                (literal @ example.W_dec.numpy() + example.b_dec.numpy()) * factor
                + shift
                + mean
                - rebuilt
            ).max()
            < 1e-3
        )


def test_a_token_of_zeros_is_normalised_to_zeros() -> None:
    for how in NORMALISATIONS:
        given = sae("relu", normalisation=how).normalise(torch.zeros(2, D))
        assert all(torch.isfinite(part).all() for part in given)


@pytest.mark.parametrize("name", NAMES)
def test_folding_decoder_norms_leaves_reconstructions_unchanged(name: str) -> None:
    example, x = sae(name), inputs()
    folded = fold_decoder_norms(example)
    assert (folded.W_dec.norm(dim=-1) - 1).abs().max() < 1e-6
    assert (folded.reconstruct(x) - example.reconstruct(x)).abs().max() < 1e-4
    assert torch.equal(folded.active(x), example.active(x))


def test_folding_leaves_a_latent_without_a_direction_alone() -> None:
    example = sae("topk")
    example.W_dec[4] = 0
    folded = fold_decoder_norms(example)
    assert torch.equal(folded.W_dec[4], torch.zeros(D))
    assert torch.equal(folded.encode(inputs())[:, 4], example.encode(inputs())[:, 4])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("subtract", [False, True])
def test_folding_the_factor_leaves_codes_and_reconstructions_unchanged(
    name: str, subtract: bool
) -> None:
    example, x = (
        sae(
            name,
            normalisation=Normalisation("expected_average_only_in", 0.37),
            subtract_b_dec=subtract,
        ),
        inputs(),
    )
    folded = fold_factor(example)
    assert folded.normalisation == Normalisation()
    assert (folded.encode(x) - example.encode(x)).abs().max() < 1e-5
    assert (folded.reconstruct(x) - example.reconstruct(x)).abs().max() < 1e-4


def test_fidelity_is_counted_by_hand() -> None:
    # Two latents read the two axes; the third reads nothing and is dead.
    W_enc = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    example = SAE(
        "axes",
        ReLU(W_enc, torch.tensor([0.0, 0.0, -1.0])),
        W_enc.T.contiguous(),
        torch.zeros(2),
        Node("resid_pre", 1),
    )
    x = torch.tensor([[1.0, 0.0], [3.0, -2.0], [2.0, 2.0]])
    # Active: 1, 1, 2 latents. Lost: 4 (the -2). About the mean (2, 0): 1 + 5 + 4 = 10.
    fidelity = measure(example, x)
    assert fidelity.l0 == pytest.approx(4 / 3)
    assert fidelity.fvu == pytest.approx(0.4)
    assert fidelity.dead == pytest.approx(1 / 3)
    assert fidelity.n == 3


def test_an_l0_more_than_30_percent_off_the_stated_one_is_warned_of() -> None:
    x = inputs()
    l0 = measure(sae("jumprelu"), x).l0
    with pytest.warns(SageWarning, match="its release states"):
        measure(sae("jumprelu", stated=Stated(l0=l0 * 1.5)), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(sae("jumprelu", stated=Stated(l0=l0 * 1.25)), x)


def test_position_0_is_passed_through_where_training_treated_bos_otherwise() -> None:
    trained_with, trained_without = sae("relu"), sae("relu", reads_bos=False)
    assert not trained_with.passes_first(bos=True)
    assert trained_with.passes_first(bos=False)
    assert trained_without.passes_first(bos=True)
    assert not trained_without.passes_first(bos=False)


def test_an_sae_of_another_width_than_the_model_is_refused() -> None:
    check_fits(sae("relu"), D)
    with pytest.raises(BadFile, match=r"W_dec is \[10, 6\]; expected \[10, 8\]"):
        check_fits(sae("relu"), 8)


def test_what_leaves_a_layer_is_what_enters_the_next() -> None:
    leaving, entering = (
        sae("relu", hook=Node("resid_post", 4)),
        sae("topk", hook=Node("resid_pre", 2)),
    )
    suite = assemble("both", [leaving, entering])
    assert suite.hooks == (Node("resid_pre", 2), Node("resid_pre", 5))
    assert suite.at(Node("resid_pre", 5, None, "END")) is leaving
    assert suite.at(Node("resid_post", 4)) is leaving
    assert suite.at(Node("resid_post", 1)) is entering
    assert suite.at(Node("resid_mid", 5)) is None


def test_a_suite_has_one_sae_at_each_point() -> None:
    first, second = sae("relu", hook=Node("resid_post", 4)), sae("topk", hook=Node("resid_pre", 5))
    with pytest.raises(SageError, match=r"two SAEs at 5\.resid_pre@\*: 'relu' .*'topk'"):
        assemble("both", [first, second])
    with pytest.raises(SageError, match="has no SAE"):
        assemble("none", [])
    with pytest.raises(SageError, match="different models"):
        assemble("mixed", [first, sae("topk", d=8, hook=Node("resid_pre", 1))])
    with pytest.raises(Unsupported, match=r"reads 4\.mlp_out@\*"):
        assemble("mlp", [replace(first, hook=Node("mlp_out", 4))])


def test_weights_move_together() -> None:
    moved = sae("gated").to("cpu")
    assert torch.equal(moved.reconstruct(inputs()), sae("gated").reconstruct(inputs()))
