"""How much an audit draws and trains: the quick one looks, the full one gives figures to quote."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# The seeds from which everything random is drawn anew; those of the audit that this one follows.
SEEDS = (42, 123, 456, 789, 2024)
LENSES = ("reseed", "truth", "discriminability", "transfer", "gaming")


@dataclass(frozen=True)
class AuditPlan:
    """What an audit measures.

    In every planted world: `contrasts` of it, `prompts` to fit on, `pairs` to decide on and to
    report, prompts to `detect` on, the first `probed` prompts to train sparse probes on at each of
    `probe_ks` latents, `biased` pairs of attributes for SCR. SAEs are trained for `steps` from
    `sae_seeds`; snapshots come from `snapshot_seeds`. `edits` are tried by gaming. What is not
    truth or reseed is looked at in the first `worlds` alone; snapshots and nulls of a shipped model
    are scored on `tasks`. `peers` are the metrics of other benchmarks.
    """

    name: str
    contrasts: int
    prompts: int = 2000
    pairs: int = 500
    detect: int = 2000
    probed: int = 1000
    probe_ks: tuple[int, ...] = (1, 2, 5, 10, 16)
    biased: int = 4
    steps: int = 1500
    sae_seeds: tuple[int, ...] = (0, 1)
    snapshot_seeds: tuple[int, ...] = (0, 1, 2)
    seeds: tuple[int, ...] = SEEDS
    edits: int = 100
    worlds: int = 3
    peers: bool = True
    tasks: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """Every setting, as it stands in a result."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


QUICK = AuditPlan(
    "quick", contrasts=2, pairs=200, detect=1000, probed=400, probe_ks=(1, 5), biased=2,
    steps=600, sae_seeds=(0,), worlds=1,
)  # fmt: skip
FULL = AuditPlan(
    "full", contrasts=4,
    tasks=("gendered_pronoun", "subject_verb_agreement", "ioi", "successor"),
)  # fmt: skip
