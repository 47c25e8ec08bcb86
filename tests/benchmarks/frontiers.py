"""Simulated frontiers: how often 95 % intervals hold planted parameters, and whom the warning hits.

    python -m tests.benchmarks.frontiers [--frontiers 200]

Hill curves with x_half = .2 and k = .8, measured at L0 from 4 to 128. Over SAEs, log hits stray
from the curve by .1; over sequences, hits follow the curve and are measured on 60 sequences. The
warning of a half far outside is due where the planted half lies beyond five times the sparsest SAE.
"""

from __future__ import annotations

import argparse

import numpy as np

from sage.frontier.fit import Over
from tests.frontier.planted import coverage, warned

CASES: tuple[tuple[Over, int], ...] = (
    ("SAEs", 4), ("SAEs", 5), ("SAEs", 8), ("sequences", 6), ("sequences", 10),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frontiers", type=int, default=200)
    frontiers = parser.parse_args().frontiers
    print(f"Planted parameters in their 95 % intervals, of {frontiers} frontiers")
    for over, saes in CASES:
        held = coverage(over, frontiers=frontiers, saes=saes, seed=0)
        shares = ", ".join(f"{name} {count / frontiers:.3f}" for name, count in held.items())
        print(f"  over {over}, {saes} SAEs: {shares}")
    told = warned(frontiers=frontiers, saes=6, seed=0)
    given, due = [one for one in told if one.given], [one for one in told if one.due]
    print(f"The warning, of {frontiers} frontiers")
    print(f"  given {len(given)}, due {len(due)}")
    print(f"  precision {np.mean([one.due for one in given]):.3f}")
    print(f"  recall {np.mean([one.given for one in due]):.3f}")
    for name, of in (("with", given), ("without", [one for one in told if not one.given])):
        factor = np.exp(np.median([one.miss for one in of]))
        print(f"  median factor by which x_half is missed {name} it: {factor:.2f}")


if __name__ == "__main__":
    main()
