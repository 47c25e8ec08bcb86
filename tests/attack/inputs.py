"""Every class of input that comes from strangers, and how it is attacked."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from sage.saes.formats import (
    describe_file,
    dictionary_learning,
    gemma_scope,
    load_file,
    saelens,
    sparsify,
)
from sage.saes.sae import Stated
from tests.attack.mutate import TEXTS, changed, damaged, json_text
from tests.attack.outcome import Attack, Wrong
from tests.saes.examples import inputs, sae
from tests.small_results import RUN, result
from tests.tiny import save_random_model

GEMMA_SCOPE = "gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_82"
_RAW: dict[str, Any] = {"subtract_b_dec": True, "reads_bos": False}
_FOLDERS: dict[str, tuple[Any, str, Any]] = {
    **{f"saelens {n}": (saelens, "sae", sae(n)) for n in ("relu", "topk", "jumprelu", "gated")},
    "gemma scope": (gemma_scope, GEMMA_SCOPE, sae("jumprelu", reads_bos=False)),
    "sparsify": (sparsify, "layers.3", sae("topk", **_RAW)),
    "dictionary_learning": (
        dictionary_learning, "ae", sae("topk", **_RAW, stated=Stated(l0=3.0, model="gpt2")),
    ),
}  # fmt: skip


@cache
def healthy(name: str) -> dict[str, bytes]:
    """The files of a healthy SAE, by their paths, which begin with its folder."""
    form, folder, original = _FOLDERS[name]
    with tempfile.TemporaryDirectory() as made:
        form.save(original, Path(made) / folder)
        files = sorted(path for path in Path(made).rglob("*") if path.is_file())
        return {str(path.relative_to(made)): path.read_bytes() for path in files}


def fill(folder: Path, files: dict[str, bytes]) -> None:
    """Make a folder hold these files alone."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def sae_files(rng: Random, folder: Path) -> None:
    """One field of a configuration, or the bytes of one file, of an SAE in any format."""
    name = rng.choice(list(_FOLDERS))
    files = dict(healthy(name))
    target = rng.choice([*files, *(path for path in files if path.endswith(".json"))])
    if target.endswith(".json") and rng.random() < 0.8:
        files[target] = json_text(changed(json.loads(files[target]), rng))
    elif target.endswith(".npz") and rng.random() < 0.5:
        files[target] = _npz(rng)
    else:
        files[target] = damaged(files[target], rng)
    fill(folder, files)
    place = folder / _FOLDERS[name][1]
    describe_file(place)
    loaded = load_file(place)
    if not bool(torch.isfinite(loaded.reconstruct(inputs(d=loaded.d_model, tokens=4))).all()):
        raise Wrong(f"{name}: what it reconstructs is not finite")


def _npz(rng: Random) -> bytes:
    """An archive whose headers lie, or whose members are no arrays."""
    header = rng.choice(["((((", "{", "{'descr': '<f4'}", "1", "{'descr':'O','fortran_order':0}"])
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W_enc.npy", rng.choice([array, b"", b"\x93NUMPY", b"pickle"]))
        if rng.random() < 0.3:
            archive.writestr("W_dec.npy", bytes(20_000_000))
    return content.getvalue()


_PAIR = {
    "clean_prefix": "The cat by the car",
    "patch_prefix": "The cats by the car",
    "clean_answer": " is",
    "patch_answer": " are",
    "case": "singular",
}


def pairs(rng: Random, folder: Path) -> None:
    """A JSONL of prompt pairs with one bad line, or with damaged bytes."""
    from sage.task.pairs import load_pairs

    lines = [json_text(_PAIR) for _ in range(3)]
    if rng.random() < 0.7:
        lines[1] = json_text(changed(_PAIR, rng))
    else:
        lines[1] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
    data = b"\n".join(lines)
    if rng.random() < 0.3:
        data = damaged(data, rng)
    file = folder / rng.choice(("pairs.jsonl", "a b.jsonl", ".jsonl", "..x.jsonl", "=1.jsonl"))
    fill(folder, {file.name: data})
    task = load_pairs(file)
    for prompt in task.sample(3, seed=0):
        prompt.text.encode()


_TASK = """from sage import Task
task = Task(
    name={name}, source="x", templates={templates}, slots={slots}, answer={answer}, foil={foil},
    attributes={attributes}, irrelevant={irrelevant}, contrasts={contrasts}, {more}
)
"""
_FIELDS = {
    "name": '"t"',
    "templates": '{"f": {"v": "A {a}, a {c} by the {b} is", "w": "By the {b} a {a}, a {c} is"}}',
    "slots": '{"a": ("cat", "dog"), "b": ("car", "house"), "c": ("one", "two")}',
    "answer": '"a"',
    "foil": '"c"',
    "attributes": '("a", "c")',
    "irrelevant": '("b",)',
    "contrasts": '("a",)',
    "more": "",
}
_WORSE = (
    "None", "5", "()", "[]", "{}", "'x'", "('x',)", "(1,)", "'../../escaped'", "'a\\0b'",
    "'x' * 300", "lambda prompt: 1 / 0", "lambda prompt: None", "lambda prompt: exit(0)",
    "lambda: 0", "object()", "float('nan')", "{'a': None}", "{'f': {'v': '{'}}",
    "{'f': {'v': '{a}{b}{c}'}}", "lambda prompt: [None]", "lambda prompt: 5", "1 / 0",
)  # fmt: skip
_PROGRAMS = (
    "raise RuntimeError('x')", "raise NotImplementedError", "import sys; sys.exit(0)", "exit(1)",
    "def f(): f()\nf()", "import nowhere", "1 +", "task = 5", "", "\0", "raise BaseException('x')",
    "raise MemoryError", "task = None", "raise SystemExit('bye')", "assert False",
)  # fmt: skip


def task_files(rng: Random, folder: Path) -> None:
    """A task file with a bad field, or a program that fails."""
    from sage.task.catalog import load_task

    if rng.random() < 0.2:
        text = rng.choice(_PROGRAMS[:10] + _PROGRAMS[11:])
    else:
        fields = dict(_FIELDS)
        name = rng.choice(list(_FIELDS))
        worse = rng.choice(_WORSE)
        fields[name] = f"keep={worse}" if name == "more" else worse
        text = _TASK.format(**fields)
    fill(folder, {"t.py": text.encode()})
    load_task(str(folder / "t.py")).sample(5, seed=0)


def toml_files(rng: Random, folder: Path) -> None:
    """A circuit, or a run's settings, with a bad value."""
    from sage.circuits.drawing import draw_circuit
    from sage.circuits.reading import read_circuit
    from sage.run_file import read_run_file

    is_circuit = rng.random() < 0.5
    text = _CIRCUIT if is_circuit else _RUN
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    name = lines[at].partition(" = ")[0]
    worse = rng.choice(_TOML_VALUES)
    lines[at] = f"{name} = {worse}" if rng.random() < 0.8 else worse
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    fill(folder, {"x.toml": damaged(data, rng) if rng.random() < 0.2 else data})
    if not is_circuit:
        read_run_file(folder / "x.toml")
    elif (circuit := read_circuit(folder / "x.toml")) and rng.random() < 0.05:
        draw_circuit(circuit, folder / "x.svg")


_CIRCUIT = """task = "ioi"
model = "gpt2-small"
source = "x"
where = "Figure 2"
heads_total = 144
[[groups]]
role = "a"
heads = ["7.3", "7.9"]
position = "END"
feeds = ["b"]
[[groups]]
role = "b"
mlps = [8]
carries = ["IO"]"""
_RUN = """tasks = ["ioi"]
model = "tiny-gpt2"
saes = ["x"]
seeds = 1
out = "x"
[plan]
name = "quick"
pairs = 50
seed = 0"""
_TOML_VALUES = (
    "-1", "0", "1.5", "nan", "inf", "true", '""', '"x"', "[]", "[[]]", "{}", "[1]", '["x", "x"]',
    "99999999999", "9" * 5000, "[" * 10_000, '["99999999999.0"]', "[99999999999]", "1979-05-27",
    '"\\u0000"', "x", "=", '"../../x"',
)  # fmt: skip


@lru_cache
def _result_text() -> bytes:
    run = replace(RUN, started="2026-01-01T00:00:00+00:00")
    return json.dumps(asdict(result("a", "b", run=run))).encode()


def results(rng: Random, folder: Path) -> None:
    """A result with one bad field or damaged arrays, loaded and exported."""
    from sage.export import export_results
    from sage.result_file import load_arrays, load_result

    data = _result_text()
    worse = json_text(changed(json.loads(data), rng)) if rng.random() < 0.85 else damaged(data, rng)
    fill(folder, {"result.json": worse, "result.safetensors": damaged(healthy_arrays(), rng)})
    loaded = load_result(folder)
    if rng.random() < 0.5:
        load_arrays(folder)
    file = export_results([folder], folder / rng.choice(("x.csv", "x.json")))
    if file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8") as rows:
            if any(cell[:1] in ("=", "+", "@") for row in csv.reader(rows) for cell in row):
                raise Wrong("a cell is a formula")
    loaded.overview()


@lru_cache
def healthy_arrays() -> bytes:
    """An array as it stands beside a result."""
    from safetensors.numpy import save

    return save({"IO|a|a|f1|1.mlp_out@END": np.zeros((2, 2), dtype=np.float32)})


_COMMANDS = (
    ("tasks", "{word}"),
    ("saes", "--model", "{word}"),
    ("discover", "ioi", "--model", "{word}", "--tau", "{number}", "--seed", "{number}"),
    ("check", "{word}", "--seed", "{number}", "--draw", "{path}"),
    ("score", "{word}", "--model", "tiny-x", "--sae", "{word}", "--seed", "{number}", "--out", "o"),
    ("score", "ioi", "--model", "{word}", "--sae", "{word}", "--pairs", "30", "--out", "{path}"),
    ("score", "ioi", "--plan", "{path}.toml", "--save-plan", "{path}"),
    ("fidelity", "--model", "{word}", "--sae", "x", "--length", "{number}"),
    ("fidelity", "--model", "{word}", "--sae", "x", "--prompts", "{number}"),
    ("frontier", "{path}", "--out", "{path}"),
    ("export", "{path}", "--out", "{path}"),
    ("report", "{path}", "--out", "{path}", "--workers", "{number}"),
    ("new-task", "{word}", "--folder", "{path}"),
    ("train-sae", "--model", "{word}", "--hook", "{word}", "--k", "{number}", "--out", "{path}"),
    ("train-sae", "--model", "x", "--hook", "2.z", "--width", "{number}", "--out", "{path}"),
    ("train-sae", "--model", "x", "--hook", "2.z", "--penalty", "{number}", "--out", "{path}"),
    ("cache", "--kind", "{word}"),
)  # fmt: skip
_WORDS = (
    "", " ", "x", "ioi", "../x", "a/b", "a/b/c", "/", ".", "..", "~", "~nobody/x", "x" * 5000, "-",
    "=", "a\u2028b", "tiny-gpt2/", "tiny-gpt2/nothing", "+", "a+b", "gpt2-small-res-jb/x", "ioi.py",
    "x.jsonl", "x.toml", "\udcff", "\U0001f600", "%s", "{x}", "[b]", "../../../../../../etc/passwd",
)  # fmt: skip
_NUMBERS = (
    "-1", "0", "1", "1e5", "nan", "inf", "-inf", "1.5", "x", "", "18446744073709551616", "9" * 5000,
    "0x10", "1_0", "\u0663", "1e400",
)  # fmt: skip


def run(words: list[str], folder: Path) -> tuple[int, str]:
    """A command line in this process, in a folder: its exit status and all that it says."""
    from sage.cli import main

    said = io.StringIO()
    before, argv = Path.cwd(), sys.argv
    try:
        os.chdir(folder)
        sys.argv = ["sage", *words]
        with redirect_stdout(said), redirect_stderr(said):
            main()
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()
    finally:
        os.chdir(before)
        sys.argv = argv
    return 0, said.getvalue()


def command_lines(rng: Random, folder: Path) -> None:
    """A command with bad arguments: it ends with 1 or 2 and says one sentence, or it is done."""
    fill(folder, {"file": b"x", "folder/file": b"x"})
    paths = (*_WORDS, str(folder / "file" / "x"), str(folder / "file"), str(folder / "new"))
    parts = {"word": _WORDS, "number": _NUMBERS, "path": paths}
    words: list[str] = []
    for part in rng.choice(_COMMANDS):
        for kind, choices in parts.items():
            part = part.replace("{" + kind + "}", rng.choice(choices))
        words.append(part)
    code, said = run(words, folder)
    if code not in (0, 1, 2) or (code and not said.strip()):
        raise Wrong(f"{words} ends with {code} and says {said!r}")
    if "Traceback" in said:
        raise Wrong(f"{words} says {said[-300:]!r}")


@cache
def model_files() -> dict[str, bytes]:
    """The files of a small GPT-2 with random weights."""
    with tempfile.TemporaryDirectory() as made:
        folder = save_random_model(Path(made) / "gpt2", "gpt2")
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def model_folders(rng: Random, folder: Path) -> None:
    """A model with one bad field or damaged bytes, and what it says to a prompt."""
    from sage.models.load import load_model

    files = dict(model_files())
    target = rng.choice([*files, "config.json", "config.json", "tokenizer.json"])
    if target == "model.safetensors" and rng.random() < 0.5:
        index = {"metadata": {}, "weight_map": {"transformer.wte.weight": "model.safetensors"}}
        files["model.safetensors.index.json"] = json_text(changed(index, rng))
        if rng.random() < 0.5:
            files["model-1.safetensors"] = files.pop("model.safetensors")
    elif target.endswith(".json") and rng.random() < 0.8:
        files[target] = json_text(changed(json.loads(files[target]), rng))
    else:
        files[target] = damaged(files[target], rng)
    fill(folder, files)
    model = load_model(str(folder), device="cpu")
    if not bool(torch.isfinite(model.engine.forward(torch.tensor([[0, 1, 2]]))[0]).all()):
        raise Wrong("what the model says is not finite")


CLASSES: dict[str, Attack] = {
    "SAE files": sae_files,
    "prompt pairs": pairs,
    "task files": task_files,
    "circuits and run files": toml_files,
    "results": results,
    "command lines": command_lines,
    "model folders": model_folders,
}
CHEAP = ("SAE files", "prompt pairs", "circuits and run files", "results")
