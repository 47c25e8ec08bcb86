"""Kills: a run is killed at random moments and given again, until it ends; nothing may be lost.

python -m tests.attack.kills [--kills 100] [--seed 0]

`sage score` of one suite on tiny-neox is killed with SIGKILL after a random time, again and again;
then it is left to end. Its result must be what a run that was never killed gives, no process and no
half-written file may be left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

import click

COMMAND = (
    "score", "gendered_pronoun", "--model", "tiny-neox", "--sae", "tiny-neox/topk4",
    "--plan", "quick", "-q", "--out",
)  # fmt: skip
# What differs between two runs that compute the same.
OF_THE_TIME = ("run",)


def start(out: Path, cache: Path) -> subprocess.Popen[str]:
    """The run, in a process group of its own."""
    environment = {**os.environ, "SAGE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", "sage", *COMMAND, str(out)]
    return subprocess.Popen(
        words, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def result_in(out: Path) -> dict[str, object]:
    """The one result below a folder, but for what tells of its time."""
    (file,) = (path for path in out.rglob("result.json") if ".scoring" not in path.parts)
    content = json.loads(file.read_text())
    return {name: value for name, value in content.items() if name not in OF_THE_TIME}


def half_written(folder: Path) -> list[str]:
    """Files that a writer left."""
    return [path.name for path in folder.rglob(".*") if path.name.count("-") >= 2]


def main() -> int:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, bad = Random(given.seed), 0
    with tempfile.TemporaryDirectory(prefix="sage-kills-") as made:
        folder = Path(made)
        _, said = start(folder / "whole", folder / "cache-whole").communicate()
        whole = result_in(folder / "whole")
        kills = rounds = 0
        while kills < given.kills:
            out, cache = folder / f"out{rounds}", folder / f"cache{rounds}"
            for _ in range(10):
                run = start(out, cache)
                try:
                    run.communicate(timeout=rng.uniform(1.0, 30.0))
                    break
                except subprocess.TimeoutExpired:
                    os.killpg(run.pid, signal.SIGKILL)
                    run.communicate()
                    kills += 1
            run = start(out, cache)
            _, said = run.communicate()
            lost = run.returncode != 0 or result_in(out) != whole
            left = half_written(out)
            if lost or left:
                bad += 1
                click.echo(f"round {rounds}: lost {lost}, left {left}: {said[-300:]}")
            rounds += 1
        click.echo(f"{kills} kills in {rounds} runs: {bad} runs lost something or left files")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
