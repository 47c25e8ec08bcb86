"""Where circuits/ioi_smollm2.toml comes from: a discovery, and what its heads do.

    sage discover ioi --model smollm2-135m --contrast repeated --pairs 40 --out ioi.json
    python -m tests.benchmarks.ioi_smollm2 ioi.json --write

Heads are those of the discovery's z nodes with at least a hundredth of E|m| that attend to a named
position by .15 or more; their role follows from where they act, what they attend to, and their
direct effect on 32 fresh prompts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sage.circuits.roles import HeadRole, head_roles
from sage.models.load import load_model
from sage.nodes import parse_node
from sage.task.catalog import load_task
from sage.task.token_audit import audit

MODEL, CIRCUIT = "smollm2-135m", Path(__file__).parents[2] / "circuits" / "ioi_smollm2.toml"
SHARE, ATTENTION, DIRECT, LEAST_DIRECT = 0.01, 0.15, 0.3, 0.1
PROMPTS, SEED = 32, 1
FEEDS = {
    "duplicate token": ["S-inhibition"],
    "induction": ["S-inhibition"],
    "S-inhibition": ["name mover", "negative name mover"],
}


def role_of(head: HeadRole) -> str | None:
    """The role by rule; None for a head that no rule describes."""
    attended, weight = head.attends[0]
    if head.node.position == "S2":
        others = [(name, by) for name, by in head.attends if name in ("S1", "S1+1")]
        attended, weight = max(others, key=lambda item: item[1])
        roles = {"S1": "duplicate token", "S1+1": "induction"}
        return roles[attended] if weight >= ATTENTION else None
    if head.node.position != "END" or weight < ATTENTION or head.direct is None:
        return None
    if attended == "IO":
        role = "name mover" if head.direct > 0 else "negative name mover"
        return role if abs(head.direct) >= LEAST_DIRECT else None
    if attended == "S2":
        return "direct suppression of S" if head.direct > DIRECT else "S-inhibition"
    return "reader of END" if attended == "END" and abs(head.direct) > DIRECT else None


def main() -> None:
    """Print the table of heads; with --write, write the circuit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("discovery", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    finding = json.loads(given.discovery.read_text())["findings"]["repeated"]
    least = SHARE * finding["baseline"]
    nodes = [
        parse_node(row["node"])
        for row in finding["evidence"]
        if row["kept"] and (row["statistic"] or 0) >= least
    ]
    model = load_model(MODEL, device="cpu")
    task = audit(load_task("ioi"), model.tokenizer, bos=model.bos).task
    prompts = [model.tokenize(prompt) for prompt in task.sample(PROMPTS, seed=SEED)]
    heads = head_roles(model, [node for node in nodes if node.kind == "z"], prompts)
    groups: dict[tuple[str, str], list[str]] = {}
    for head in heads:
        role = role_of(head)
        attends = ", ".join(f"{name} {weight:.2f}" for name, weight in head.attends[:3])
        direct = "" if head.direct is None else f"{head.direct:+.2f} +- {head.stderr:.2f}"
        print(f"{head.node!s:12} {role or '-':24} {direct:16} {attends}")
        if role:
            name = f"{head.node.layer}.{head.node.head}"
            groups.setdefault((role, head.node.position), []).append(name)
    if given.write:
        CIRCUIT.write_text(circuit_text(groups, len(model.anatomy.blocks) * model.anatomy.heads))


def circuit_text(groups: dict[tuple[str, str], list[str]], heads: int) -> str:
    """The circuit as TOML."""
    present = {role for role, _ in groups}
    lines = [
        'task = "ioi"',
        f'model = "{MODEL}"',
        'source = "Found by sage itself, in no publication: a regression check"',
        'where = "tests/benchmarks/ioi_smollm2.py: discovery of `repeated`, attention, direct '
        'effects"',
        f"heads_total = {heads}",
        'notes = """',
        "Roles follow by rule from where a head acts, what it attends to and its direct effect, \\",
        'on 32 prompts. The contrast is `repeated`; MLPs and early layers are left out."""',
    ]
    for (role, position), members in groups.items():
        listed = ", ".join(f'"{member}"' for member in members)
        lines += ["", "[[groups]]", f'role = "{role}"', f"heads = [{listed}]"]
        lines += [f'position = "{position}"']
        if fed := [name for name in FEEDS.get(role, []) if name in present]:
            lines.append("feeds = [" + ", ".join(f'"{name}"' for name in fed) + "]")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
