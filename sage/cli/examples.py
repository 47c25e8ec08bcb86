"""Examples for the help of every command, which the tests parse."""

from __future__ import annotations

from collections.abc import Mapping

import click

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "tasks": (
        "sage tasks",
        "sage tasks ioi --model tiny-gpt2",
        "sage tasks my_task.py --model gpt2-small --explain",
    ),
    "models": ("sage models",),
    "saes": (
        "sage saes --scorable",
        "sage saes --model gpt2-small",
        "sage saes tiny-gpt2/topk8",
    ),
    "new-task": (
        "sage new-task my_task --model tiny-gpt2",
        "sage new-task my_task --folder tasks",
    ),
    "discover": (
        "sage discover ioi --model tiny-gpt2",
        "sage discover ioi --model tiny-gpt2 -c IO --out found.json",
    ),
    "check": (
        "sage check ioi --model gpt2-small",
        "sage check ioi_smollm2 --contrast repeated --pairs 50",
    ),
    "score": (
        "sage score ioi -m tiny-gpt2 --sae tiny-gpt2/topk8 --plan quick --out out",
        "sage score ioi --model gpt2-small --sae gpt2-small-res-jb --out out",
        "sage score ioi --model tiny-gpt2 --sae tiny-gpt2 --plan quick --screen",
    ),
    "sweep": (
        "sage sweep --example > sweep.toml",
        "sage sweep sweep.toml --dry-run",
        "sage sweep sweep.toml --workers 4",
        "sage sweep sweep.toml --ray auto --gpus 1 --screen",
    ),
    "fidelity": ("sage fidelity --model tiny-gpt2 --sae tiny-gpt2/topk4 --out out/fidelity",),
    "frontier": ("sage frontier out/fidelity --out out/frontier",),
    "compare": ("sage compare out/half out/whole", "sage compare out --out out/report"),
    "probe": (
        "sage probe gendered_pronoun -m tiny-gpt2 --sae tiny-gpt2/topk8",
        "sage probe reviews.csv -m gpt2-small --sae gpt2-small-res-jb -k 5",
    ),
    "export": ("sage export out --out rows.csv", "sage export out --out saebench"),
    "report": ("sage report out --out out/report",),
    "train-sae": (
        "sage train-sae --model tiny-gpt2 --hook 2.resid_pre --task ioi --out my_sae",
        "sage train-sae -m gpt2-small --hook 5.resid_pre --text my.txt --out my_sae",
    ),
    "toy": ("sage toy composite", "sage toy composite --world larger --out out/composite"),
    "demo": ("sage demo", "sage demo --all --out out/everything"),
    "real": (
        "sage real --estimate",
        "sage real",
        "sage real --fetch gemma-3-270m",
        "sage real --task gendered_pronoun --hook 23.resid_pre --tokens 60000",
    ),
    "cache": ("sage cache", "sage cache --clear --kind discovery"),
}


def show_examples(commands: Mapping[str, click.Command]) -> None:
    """Every command with its examples below its options."""
    for name, examples in EXAMPLES.items():
        if name in commands:
            lines = "\n".join(f"  {example}" for example in examples)
            commands[name].epilog = f"\b\nExamples:\n{lines}"
