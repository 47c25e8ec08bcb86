"""Full-size models with random weights and real tokenizers, random SAEs of released width, and the
nodes of a published circuit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from sage.circuits.catalog import load_circuit
from sage.models.anatomy import Anatomy
from sage.nodes import Node, Section
from sage.saes.architectures.topk import TopK
from sage.saes.sae import SAE
from sage.saes.suite import Suite, assemble

TOKENIZERS = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
WIDTH, L0 = 24_576, 60
# Which input of a role's heads reads what the roles before it wrote, and where.
READS = {"name mover": ("q", "END"), "S-inhibition": ("v", "S2"), "induction": ("k", "S1+1")}


def save_full_size(folder: Path, size: str) -> Path:
    """GPT-2 small (124M parameters) or a model of Pythia-70M's size, from its configuration;
    returns its folder."""
    import transformers

    torch.manual_seed(0)
    if size == "gpt2-small":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    else:
        sizes = {
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_attention_heads": 8,
            "num_hidden_layers": 6,
            "vocab_size": 50304,
        }
        model = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**sizes))
    model.save_pretrained(folder)
    source = TOKENIZERS / ("gpt2" if size == "gpt2-small" else "pythia")
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def circuit_section(contrast: str, anatomy: Anatomy) -> Section:
    """The nodes of circuits/ioi: every head's output where it acts, and the inputs through which
    the circuit's roles read each other.

    In a model of another size a head stands at the same relative depth.
    """
    nodes: set[Node] = set()
    for group in load_circuit("ioi").groups:
        for name in group.heads if group.position else ():
            layer, head = (int(part) for part in name.split("."))
            place = (layer * anatomy.layers // 12, head * anatomy.heads // 12)
            nodes.add(Node("z", *place, group.position))
            if group.role in READS:
                kind, position = READS[group.role]
                nodes.add(Node(kind, *place, position))
    return Section(contrast, dict.fromkeys(sorted(nodes), 1.0))


def hooks_of(section: Section, anatomy: Anatomy, *, count: int, last: bool = False) -> list[Node]:
    """The first residual streams that the section reads, or the last."""
    hooks = sorted({anatomy.source(node) for node in section.nodes})
    return hooks[-count:] if last else hooks[:count]


def random_suite(
    name: str, hooks: Sequence[Node], anatomy: Anatomy, *, width: int = WIDTH, seed: int = 0
) -> Suite:
    """TopK SAEs with random weights."""
    return assemble(
        name, [_random_sae(f"{name}/{hook}", hook, anatomy.d_model, width, seed) for hook in hooks]
    )


def _random_sae(name: str, hook: Node, d_model: int, width: int, seed: int) -> SAE:
    generator = torch.Generator().manual_seed(seed * 1000 + hook.layer)
    W_dec = torch.nn.functional.normalize(torch.randn(width, d_model, generator=generator), dim=-1)
    return SAE(
        name,
        TopK(W_dec.T.contiguous(), torch.zeros(width), torch.ones(width), L0),
        W_dec,
        torch.zeros(d_model),
        hook,
    )
