"""Where `sage real` keeps what it makes, and what its stages are called."""

from __future__ import annotations

from pathlib import Path

from sage.nodes import Node
from sage.real.plan import RealSuite
from sage.saes.sae import hook_label

RESULTS = "results"
STREAMS = "streams"
HELD_OUT = "held out"


def model_folder(out: Path, model: str) -> Path:
    """What is made of one model."""
    return out / "models" / Path(model).name


def sae_folder(folder: Path, suite: RealSuite, hook: Node) -> Path:
    """Where an SAE lies below its model's folder."""
    return folder / "saes" / suite.name / hook_label(hook)


def is_trained(folder: Path, suite: RealSuite, hook: Node) -> bool:
    """Whether an SAE lies there, trained to its end."""
    return (sae_folder(folder, suite, hook) / "cfg.json").is_file()


def training_stage(suite: RealSuite, hook: Node) -> str:
    """`topk32 20.resid_pre`."""
    return f"{suite.name} {hook_label(hook)}"
