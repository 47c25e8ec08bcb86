"""Sparse codes: what of a code matrix is not 0, in the order in which it stands there."""

from __future__ import annotations

import pytest
import torch

from saes.examples import NAMES, inputs, sae
from sage.saes import sae as sae_module
from sage.saes.architectures.topk import TopK
from sage.saes.sae import SAE, fold_decoder_norms
from sage.saes.sparse import sparse_codes


def listed(example: SAE, x: torch.Tensor) -> list[tuple[int, int, float]]:
    """Token, latent and code of every code that is not 0, entry by entry."""
    codes = example.encode(x).tolist()
    return [
        (token, latent, code)
        for token, row in enumerate(codes)
        for latent, code in enumerate(row)
        if code != 0
    ]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_they_are_those_of_the_matrix_whatever_the_chunks(
    name: str, folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folded decoders change what latents are compared by."""
    example, x = sae(name), inputs(tokens=7)
    example = fold_decoder_norms(example) if folded else example
    monkeypatch.setattr(sae_module, "CODES_AT_ONCE", 3 * example.width)
    sparse = sparse_codes(example, x)
    entries = sparse.of(torch.arange(len(x)))
    found = list(
        zip(entries.token.tolist(), entries.latent.tolist(), entries.code.tolist(), strict=True)
    )
    expected = listed(example, x)
    assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
    assert [entry[2] for entry in found] == pytest.approx([entry[2] for entry in expected])


def test_a_winner_that_is_not_positive_is_not_among_them() -> None:
    """Of -1, 2 and -3 the two largest win, and -1 has the code 0."""
    encoder = TopK(torch.eye(3), torch.zeros(3), torch.ones(3), k=2)
    token, latent, code = encoder.encode_sparse(torch.tensor([[-1.0, 2.0, -3.0]]))
    assert (token.tolist(), latent.tolist(), code.tolist()) == ([0], [1], [2.0])
