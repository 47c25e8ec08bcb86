"""ProLU beside ReLU, gated and topk on one hook: frontiers, and what its biases do in training.

    python -m tests.benchmarks.prolu OUT [--model tiny-neox] [--hook 1.resid_pre] [--steps 600]
        [--series topk relu]

Trains five sparsities of each architecture on text like that of the model's corpus, ProLU with both
gradients, measures loss recovered against mean ablation on other text, and fits frontiers as `sage
frontier` does. Of ProLU at its middle penalty it prints the share of negative biases before, during
and after training, with deciles, and draws their histograms. What stands in OUT is not done again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sage.fidelity.measure import measure_fidelity
from sage.fidelity.result import FidelityResult
from sage.fidelity.result_file import save_fidelity
from sage.fidelity.sequences import sequences_of
from sage.frontier.panels import make_panels
from sage.frontier.points import fidelity_points
from sage.models.base import Model
from sage.models.loaded import load_model
from sage.nodes import parse_node
from sage.report.frontiers import (
    FIDELITY_HIT,
    FIDELITY_NAME,
    FrontierPicture,
    remarks,
    summary_rows,
    write_frontiers,
)
from sage.saes.architectures.prolu import ProLU
from sage.saes.formats import saelens
from sage.saes.sae import SAE
from sage.saes.suite import Suite
from sage.saes.train import shuffled, train
from sage.saes.training import Training
from sage.saes.training_settings import TrainingSettings
from sage.zoo.text import corpus_prompts

SPARSITIES = (2, 4, 8, 16, 32)
PENALTIES = (0.5, 1.0, 2.0, 4.0, 8.0)
GRADIENTS = ("relu", "ste")
SERIES = ("topk", "relu", "gated", "prolu-relu", "prolu-ste")
MIDDLE = 2.0
BATCH, RATE = 256, 4e-3
MEASURED = 400


class Trained(NamedTuple):
    """One SAE to train: what its series is called, and its settings."""

    series: str
    strength: float
    settings: TrainingSettings

    @property
    def name(self) -> str:
        return f"{self.series} {self.strength:g}"


def recipes(width: int, steps: int) -> Iterator[Trained]:
    """Five SAEs of every series; ProLU at its middle penalty keeps snapshots."""
    base = TrainingSettings(
        "relu",
        width=width,
        steps=steps,
        batch=BATCH,
        learning_rate=RATE,
        decay=steps // 5,
    )
    for k in SPARSITIES:
        yield Trained("topk", k, replace(base, architecture="topk", k=float(k)))
    for penalty in PENALTIES:
        for name in ("relu", "gated"):
            yield Trained(name, penalty, replace(base, architecture=name, penalty=penalty))
        prolu = replace(base, architecture="prolu", penalty=penalty)
        for gradient in GRADIENTS:
            kept = snapshots(steps) if penalty == MIDDLE else ()
            settings = replace(prolu, options={"gradient": gradient}, snapshots=kept)
            yield Trained(f"prolu-{gradient}", penalty, settings)


def snapshots(steps: int) -> tuple[int, ...]:
    """Before the first step, and after 3, 12 and 48 % of them."""
    return (0, round(0.03 * steps), round(0.12 * steps), round(0.48 * steps))


def tokens_at(model: Model, hook: str, texts: slice) -> Tensor:
    """Every token but BOS of these texts of the model's corpus."""
    prompts = corpus_prompts(model)[texts]
    (stream,) = model.read([parse_node(hook)], prompts).values()
    return torch.cat([row[1 : len(p.ids)] for row, p in zip(stream, prompts, strict=True)])


def biases(folder: Path, steps: int) -> dict[int, Tensor]:
    """The learned biases of a ProLU before each of its snapshots, and at the end."""
    places = {step: folder / "snapshots" / f"step_{step:06d}" for step in snapshots(steps)}
    learned: dict[int, Tensor] = {}
    for step, place in {**places, steps: folder}.items():
        encoder = saelens.load(place).encoder
        assert isinstance(encoder, ProLU)
        learned[step] = encoder.b_enc
    return learned


def draw_biases(by_gradient: dict[str, dict[int, Tensor]], out: Path) -> Path:
    """Histograms, a row for each gradient and a column for each moment."""
    from matplotlib.figure import Figure

    from sage.report.charts.look import BLUE, INK, look

    with look():
        columns = len(next(iter(by_gradient.values())))
        figure = Figure(figsize=(2.0 * columns, 3.4), layout="constrained")
        axes = figure.subplots(len(by_gradient), columns, squeeze=False)
        for row, (gradient, moments) in zip(axes, by_gradient.items(), strict=True):
            for place, (step, bias) in zip(row, moments.items(), strict=True):
                negative = (bias < 0).float().mean()
                place.hist(bias.numpy(), bins=30, color=BLUE)
                place.axvline(0, color=INK, linewidth=0.7)
                place.set_title(f"{gradient}, step {step}: {negative:.0%} negative", size=7)
        figure.savefig(out / "biases.svg", metadata={"Date": None, "Creator": None})
    return out / "biases.svg"


def picture_of(result: FidelityResult) -> FrontierPicture:
    """Frontiers with a series for each gradient of ProLU, and their table printed."""
    points = [
        replace(point, series=series, architecture=series)
        for point in fidelity_points([result])
        for series in [point.suite.split()[0]]
    ]
    (panel,) = panels = make_panels(points)
    for row in summary_rows(panel):
        print(*(f"{name} {value}" for name, value in row.items()), sep=", ")
    print(*remarks(panel), sep="\n")
    for placed in sorted(panel.points, key=lambda placed: placed.point.suite):
        point = placed.point
        print(f"{point.suite}: L0 {point.l0_value:.2f}, hit {point.hit_value:.4f}")
    return FrontierPicture(FIDELITY_NAME, FIDELITY_HIT, panels)


def print_biases(out: Path, gradients: Sequence[str], steps: int) -> None:
    """The share of biases on either side of 0 at every moment, with deciles, and their picture."""
    learned = {
        gradient: biases(out / "saes" / f"prolu-{gradient}-{MIDDLE:g}", steps)
        for gradient in gradients
    }
    for gradient, moments in learned.items():
        for step, bias in moments.items():
            deciles = bias.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
            told = ", ".join(f"{value:.3f}" for value in deciles)
            print(
                f"{gradient}, step {step}: {(bias < 0).float().mean():.3f} negative,"
                f" {(bias > 0).float().mean():.3f} positive, deciles 1 5 9: {told}"
            )
    print(draw_biases(learned, out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="tiny-neox")
    parser.add_argument("--hook", default="1.resid_pre")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--series", nargs="+", default=SERIES, choices=SERIES)
    given = parser.parse_args()
    model = load_model(given.model)
    seen = tokens_at(model, given.hook, slice(MEASURED, None))
    d_model, hook = model.anatomy.d_model, parse_node(given.hook)
    suites: list[Suite] = []
    for recipe in recipes(4 * d_model, given.steps):
        if recipe.series not in given.series:
            continue
        training = Training(recipe.settings, model.name, hook, d_model, reads_bos=False)
        folder = given.out / "saes" / recipe.name.replace(" ", "-")
        sae: SAE = train(training, shuffled(seen, batch=BATCH), out=folder)
        sys.stderr.write(f"{recipe.name}: L0 {sae.stated.l0:.1f}, FVU {sae.stated.fvu:.3f}\n")
        suites.append(Suite(recipe.name, {hook: sae}))
    held_out = sequences_of(model, corpus_prompts(model)[:MEASURED], source="corpus")
    result = measure_fidelity(model, suites, held_out)
    save_fidelity(result, given.out / "fidelity")
    write_frontiers([picture_of(result)], given.out)
    gradients = [gradient for gradient in GRADIENTS if f"prolu-{gradient}" in given.series]
    if gradients:
        print_biases(given.out, gradients, given.steps)


if __name__ == "__main__":
    main()
