"""Kills: a run is stopped at random moments and given again, until it ends; nothing may be lost.

python -m tests.attack.kills [--kills 100] [--seed 0] [--only score|demo]

Half of the kills are of a small `sage score`, half of a `sage demo` of two cells and its report.
SIGKILL takes the first process alone, as a machine short of memory does, SIGINT its whole group, as
Ctrl-C does. After each stop: no process may be left after 5 seconds, Ctrl-C ends in a sentence; of
what was finished and kept nothing may be computed again. What the last run comes to must be what an
undisturbed one does, to the last byte, without a half-written file beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import click
import psutil

# As little as a run can do.
LEAST = """
tasks = ["gendered_pronoun"]
model = "tiny-neox"
saes = ["tiny-neox/topk4"]
[plan]
base = "quick"
pairs = 30
discover = 30
decide = 20
fit = 200
controls = ["random"]
copying = []
"""
COMMANDS = {
    "score": ("sage", "score", "--plan", "least.toml", "-q", "--out"),
    "demo": ("tests.attack.small_demo", "demo", "--workers", "2", "-q", "--out"),
}
# After a stop: seconds of the processor until nothing is left, and by the clock of a busy machine.
SECONDS_TO_END, MOST_SECONDS = 5.0, 60.0
MOST_STOPS = 10
# What differs between two runs that compute the same.
OF_THE_TIME = "run"
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{8}-\d+-[0-9a-f]{12}$")
_LOCK = re.compile(r"\..*\.lock")


@dataclass
class Place:
    """Where the runs of one round work, one after another, and what was found wrong there."""

    folder: Path
    command: str
    wrong: list[str] = field(default_factory=list[str])
    kept: dict[Path, int] = field(default_factory=dict[Path, int])

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self) -> subprocess.Popen[str]:
        """The run, in a session of its own."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "least.toml").write_text(LEAST)
        cache = str(self.folder / "cache")
        environment = {**os.environ, "SAGE_CACHE": cache, "HF_HUB_OFFLINE": "1"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        return subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[self.command], "out"],
            env=environment, cwd=self.folder, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def stop(self, run: subprocess.Popen[str], how: signal.Signals) -> None:
        """Stop a run, and look at what it left."""
        if how is signal.SIGINT:
            os.killpg(run.pid, how)
        else:
            run.send_signal(how)
        until, before = time.monotonic() + MOST_SECONDS, processor_seconds(run.pid)
        left = before
        while left and time.monotonic() < until:
            time.sleep(0.05)
            left = processor_seconds(run.pid)
            if sum(max(0.0, left[p] - before.get(p, 0.0)) for p in left) > SECONDS_TO_END:
                break
        if left:
            self.wrong.append(f"{how.name}: {len(left)} processes are left")
            os.killpg(run.pid, signal.SIGKILL)
        _, said = run.communicate()
        has_begun = run.returncode != -signal.SIGINT or said
        if how is signal.SIGINT and has_begun and "Interrupted" not in said:
            self.wrong.append(f"{how.name}: exit {run.returncode}, {said[-600:]}")
        self.look()

    def look(self) -> None:
        """What was kept before must still be the same files, unless its cell is finished."""
        now = finished_files(self.folder)
        for path, inode in self.kept.items():
            is_joined = ".scoring" in path.parts and path not in now
            if now.get(path) != inode and not is_joined:
                self.wrong.append(f"{path.relative_to(self.folder)} was written again or is gone")
        self.kept = now

    def finish(self, expected: Mapping[str, object] | None = None) -> Mapping[str, object]:
        """Let a run end; what it comes to, compared with what is expected."""
        run = self.start()
        _, said = run.communicate()
        if run.returncode:
            self.wrong.append(f"the last run ended with {run.returncode}: {said[-600:]}")
            return {}
        self.look()
        found = results_in(self.out)
        if expected is not None and found != expected:
            self.wrong.append("the result is not that of an undisturbed run")
        self.wrong += [f"{path.relative_to(self.folder)} is left" for path in leftovers(self.out)]
        return found


def processor_seconds(leader: int) -> dict[int, float]:
    """The processes of a session that run, and what each has taken of the processor."""
    found: dict[int, float] = {}
    for process in psutil.process_iter(["pid", "status", "cpu_times"]):
        times = process.info["cpu_times"]
        try:
            is_of = os.getsid(process.pid) == leader
        except OSError:
            continue
        if is_of and times and process.info["status"] != psutil.STATUS_ZOMBIE:
            found[process.pid] = times.user + times.system
    return found


def finished_files(folder: Path) -> dict[Path, int]:
    """What a run has finished and kept, for itself or for later ones, with the inode of each: a
    file that is written again has another."""
    entries = [*folder.rglob("*.safetensors"), *folder.rglob("result.json")]
    return {path: path.stat().st_ino for path in entries if path.is_file()}


def results_in(out: Path) -> dict[str, object]:
    """Every result below a folder, but for what tells of its time, the arrays, and which pages of
    a report there are."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name == "result.json":
            content = json.loads(path.read_text())
            found[name] = {key: content[key] for key in content if key != OF_THE_TIME}
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.is_file() and not _LOCK.fullmatch(path.name):
            found[name] = None
    return found


def leftovers(out: Path) -> list[Path]:
    """What a writer left half written, and parts of cells that are finished."""
    return [
        path
        for path in out.rglob(".*")
        if _HALF_WRITTEN.search(path.name) or path.name == ".scoring"
    ]


def stop_at_random(place: Place, rng: Random, *, seconds: float, most: int) -> list[str]:
    """Stop one run after another, each within those seconds, until one ends by itself; how each was
    stopped."""
    stops: list[str] = []
    while len(stops) < most:
        run = place.start()
        try:
            run.communicate(timeout=rng.uniform(0.3, seconds))
            break
        except subprocess.TimeoutExpired:
            how = rng.choice((signal.SIGKILL, signal.SIGINT))
            place.stop(run, how)
            stops.append(how.name)
    return stops


def attack(command: str, kills: int, rng: Random, folder: Path) -> int:
    """Kill so many runs of a command; how many rounds went wrong."""
    began = time.monotonic()
    whole = Place(folder / f"{command}-whole", command)
    expected = whole.finish()
    seconds = time.monotonic() - began
    places, stops = [whole], list[str]()
    while len(stops) < kills:
        place = Place(folder / f"{command}-{len(places)}", command)
        most = min(MOST_STOPS, kills - len(stops))
        stops += stop_at_random(place, rng, seconds=seconds, most=most)
        place.finish(expected)
        places.append(place)
    for place in places:
        for wrong in place.wrong:
            click.echo(f"{place.folder.name}: {wrong}")
    bad = sum(1 for place in places if place.wrong)
    told = ", ".join(f"{count} {how}" for how, count in Counter(stops).items())
    click.echo(f"{command}: {told}, in {len(places) - 1} rounds: {bad} went wrong")
    return bad


def main() -> int:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(COMMANDS))
    given = parser.parse_args()
    # Started in the background of a script it would hand on that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    commands = [given.only] if given.only else list(COMMANDS)
    rng = Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="sage-kills-") as made:
        kills = -(-given.kills // len(commands))
        bad = sum(attack(command, kills, rng, Path(made)) for command in commands if kills)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
