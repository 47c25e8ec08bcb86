"""Damaged and hostile files: every one is refused with a SageError.

Or it loads with finite numbers, where only a weight was touched.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file as read_safetensors
from safetensors.torch import save_file as write_safetensors

from saes.examples import NAMES, inputs, sae
from sage.errors import BadFile, SageError
from sage.saes.formats import dictionary_learning, gemma_scope, load_file, saelens, sparsify
from sage.saes.sae import SAE, Stated

GEMMA_SCOPE_FOLDER = "gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_82"
# As dictionary_learning and sparsify train them.
RAW = {"subtract_b_dec": True, "reads_bos": False, "stated": Stated(l0=3.0, model="gpt2")}
HEALTHY: dict[str, tuple[object, str, SAE]] = {
    **{f"saelens {name}": (saelens, "sae", sae(name)) for name in NAMES},
    "gemma_scope": (gemma_scope, GEMMA_SCOPE_FOLDER, sae("jumprelu", reads_bos=False)),
    "sparsify": (sparsify, "layers.3", sae("topk", subtract_b_dec=True, reads_bos=False)),
    **{
        f"dictionary_learning {name}": (dictionary_learning, "ae", sae(name, **RAW))
        for name in ("relu", "gated", "topk", "matryoshka")
    },
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One healthy folder of each kind, by name."""
    root = tmp_path_factory.mktemp("healthy")
    for name, (form, folder, original) in HEALTHY.items():
        form.save(original, root / name / folder)
    return root


def fresh(shelf: Path, name: str, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of a healthy folder to damage, and its weight file."""
    shutil.rmtree(tmp_path / name, ignore_errors=True)
    shutil.copytree(shelf / name, tmp_path / name)
    folder = tmp_path / name / HEALTHY[name][1]
    return folder, next(
        file for file in folder.iterdir() if file.suffix in (".safetensors", ".npz", ".pt")
    )


def refused(folder: Path) -> None:
    with pytest.raises(SageError):
        load_file(folder)


def read(file: Path) -> dict[str, np.ndarray]:
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    loaded = (
        read_safetensors(file)
        if file.suffix == ".safetensors"
        else torch.load(file, weights_only=True)
    )
    return {name: array.numpy() for name, array in loaded.items()}


def write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    if file.suffix == ".npz":
        np.savez(file, **arrays)
        return
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
    if file.suffix == ".safetensors":
        write_safetensors(tensors, file)
    else:
        torch.save(tensors, file)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_file_loads(name: str, shelf: Path, tmp_path: Path) -> None:
    folder, file = fresh(shelf, name, tmp_path)
    write(file, read(file))
    assert torch.isfinite(load_file(folder).reconstruct(inputs())).all()


@pytest.mark.parametrize("name", HEALTHY)
def test_a_file_cut_short_is_refused(name: str, shelf: Path, tmp_path: Path) -> None:
    """20 cuts of each weight file and 5 of each configuration: 335 files."""
    draw = random.Random(f"cut {name}")
    folder, file = fresh(shelf, name, tmp_path)
    for damaged, cuts in ((file, 20), *((config, 5) for config in folder.glob("*.json"))):
        whole = damaged.read_bytes()
        for _ in range(cuts):
            damaged.write_bytes(whole[: draw.randrange(len(whole) - 1)])
            refused(folder)
        damaged.write_bytes(whole)
        load_file(folder)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_missing_misshapen_or_non_finite_array_is_refused(
    name: str, shelf: Path, tmp_path: Path
) -> None:
    """Each array in turn: gone, renamed, one row short, one row long, flattened, NaN, infinite.
    About 400 files."""
    draw = random.Random(f"array {name}")
    folder, file = fresh(shelf, name, tmp_path)
    healthy = read(file)
    for key, array in healthy.items():
        damage: list[dict[str, np.ndarray]] = [{}, {key + "_": array}]
        if array.ndim:
            damage += [
                {key: array[:-1]},
                {key: np.concatenate([array, array[:1]])},
                {key: array.reshape(1, -1)},
            ]
        if array.dtype.kind == "f":
            for value in (np.nan, np.inf, -np.inf):
                broken = array.copy().reshape(-1)
                broken[draw.randrange(broken.size)] = value
                damage.append({key: broken.reshape(array.shape)})
            damage.append({key: array.astype(np.int32)})
        for replacement in damage:
            optional = (
                not replacement
                and HEALTHY[name][0] is dictionary_learning
                and (key == "k" or (key == "threshold" and "topk" in name))
            )
            write(
                file,
                {
                    **{other: value for other, value in healthy.items() if other != key},
                    **replacement,
                },
            )
            if not optional:
                refused(folder)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_flipped_bit_is_refused_or_loads_with_finite_numbers(
    name: str, shelf: Path, tmp_path: Path
) -> None:
    """40 flips anywhere in each weight file: 560 files. No other exception, no number that is not
    finite."""
    draw = random.Random(f"flip {name}")
    folder, file = fresh(shelf, name, tmp_path)
    whole = file.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        try:
            loaded = load_file(folder)
        except SageError:
            continue
        for array in (*loaded.encoder.tensors().values(), loaded.W_dec, loaded.b_dec):
            assert torch.isfinite(array).all()


@pytest.mark.parametrize("name", HEALTHY)
def test_a_scrambled_configuration_is_refused_or_read(
    name: str, shelf: Path, tmp_path: Path
) -> None:
    """Every field in turn takes values of every wrong type; what loads nonetheless computes finite
    numbers."""
    folder, _ = fresh(shelf, name, tmp_path)
    for file in folder.glob("*.json"):
        config = json.loads(file.read_text())
        inner = [value for value in config.values() if isinstance(value, dict)]
        fields = [(parent, key) for parent in (config, *inner) for key in parent]
        for parent, key in fields:
            healthy = parent[key]
            for value in (None, -1, 0, 7, 1e300, "", "x", [], [[]], {}, {"a": {}}, True):
                parent[key] = value
                file.write_text(json.dumps(config))
                try:
                    loaded = load_file(folder)
                except SageError:
                    continue
                assert torch.isfinite(loaded.W_dec).all()
            parent[key] = healthy
        file.write_text(json.dumps(config))
        load_file(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '"cfg"',
        "{",
        "[" * 100_000,
        '{"d_in": ' + "9" * 5000 + "}",
        "\x00",
        '{"d_in": NaN}',
    ],
)
@pytest.mark.parametrize("name", ["saelens relu", "sparsify", "dictionary_learning relu"])
def test_a_configuration_that_is_no_object_is_refused(
    text: str, name: str, shelf: Path, tmp_path: Path
) -> None:
    folder, _ = fresh(shelf, name, tmp_path)
    next(folder.glob("*.json")).write_text(text)
    with pytest.raises(BadFile, match=r"\.json"):
        load_file(folder)


def test_a_safetensors_header_that_lies_is_refused(shelf: Path, tmp_path: Path) -> None:
    folder, file = fresh(shelf, "saelens relu", tmp_path)
    whole = file.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def rewritten(change: Callable[[dict[str, dict[str, object]]], object]) -> None:
        changed = json.loads(json.dumps(header))
        change(changed)
        text = json.dumps(changed).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + body)
        refused(folder)

    rewritten(lambda h: h["W_enc"].update(shape=[10, 6]))
    rewritten(lambda h: h["W_enc"].update(shape=[2**31, 2**31]))
    rewritten(lambda h: h["W_enc"].update(data_offsets=[0, 2**40]))
    rewritten(lambda h: h["W_enc"].update(dtype="F64"))
    rewritten(lambda h: h["W_enc"].update(dtype="F4"))
    rewritten(lambda h: h["b_dec"].update(data_offsets=h["W_enc"]["data_offsets"]))
    rewritten(lambda h: h.pop("W_dec"))
    for size in (0, 7, 2**40, 2**63):
        file.write_bytes(struct.pack("<Q", size) + whole[8:])
        refused(folder)


def test_an_npz_header_that_lies_is_refused(shelf: Path, tmp_path: Path) -> None:
    folder, file = fresh(shelf, "gemma_scope", tmp_path)
    healthy = read(file)

    def member(header: dict[str, object], body: bytes) -> bytes:
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, header)
        return stream.getvalue() + body

    body = healthy["W_enc"].tobytes()
    lies = [
        member({"shape": (6, 10**12), "fortran_order": False, "descr": "<f4"}, body),
        member({"shape": (6, -10), "fortran_order": False, "descr": "<f4"}, body),
        member({"shape": (6, 10), "fortran_order": False, "descr": "|O"}, pickle.dumps([1])),
        member({"shape": (6, 10), "fortran_order": False, "descr": "<c8"}, body * 2),
        member({"shape": (6, 10), "fortran_order": False, "descr": "<f4"}, body[:-1]),
        b"\x93NUMPY\x09\x00" + body,
        b"not an array",
        b"",
    ]
    for lie in lies:
        with zipfile.ZipFile(file, "w") as archive:
            for key, array in healthy.items():
                archive.writestr(
                    f"{key}.npy",
                    lie
                    if key == "W_enc"
                    else member(np.lib.format.header_data_from_array_1_0(array), array.tobytes()),
                )
        refused(folder)


EXECUTED: list[str] = []


def notice(what: str) -> None:
    """Reached only where a file got code of its choice to run."""
    EXECUTED.append(what)


class Hostile:
    """Asks whoever unpickles it to call `notice`."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return notice, ("code from a file",)


PAYLOADS: dict[str, object] = {
    "a call": Hostile(),
    "a call in a list": [Hostile()],
    "a call beside tensors": {"W_enc": torch.zeros(6, 10), "threshold": Hostile()},
    "a class of ours": Stated(),
    "a lookup": getattr,
    "a module's function": shutil.rmtree,
    "a range": {"k": range(3)},
}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_foreign_pickle_is_refused_before_it_runs(
    payload: str, protocol: int, shelf: Path, tmp_path: Path
) -> None:
    folder, file = fresh(shelf, "dictionary_learning relu", tmp_path)
    torch.save(PAYLOADS[payload], file, pickle_protocol=max(protocol, 1))
    with pytest.raises(BadFile, match="It was not opened"):
        load_file(folder)
    file.write_bytes(
        pickle.dumps(
            PAYLOADS[payload] if payload != "a call beside tensors" else [Hostile()],
            protocol=protocol,
        )
    )
    refused(folder)
    assert EXECUTED == []


def test_a_pickle_is_refused_in_the_other_formats_too(shelf: Path, tmp_path: Path) -> None:
    for name in ("saelens relu", "gemma_scope", "sparsify"):
        folder, file = fresh(shelf, name, tmp_path)
        file.write_bytes(pickle.dumps(Hostile()))
        refused(folder)
    folder, file = fresh(shelf, "gemma_scope", tmp_path)
    np.savez(file, **{**read(file), "threshold": np.array([Hostile()] * 10, dtype=object)})
    refused(folder)
    assert EXECUTED == []


@pytest.mark.parametrize(
    "name", [name for name in HEALTHY if name.startswith("dictionary_learning")]
)
def test_a_pickle_rewritten_byte_by_byte_is_refused_or_loads_with_finite_numbers(
    name: str, shelf: Path, tmp_path: Path
) -> None:
    """60 changes to each data.pkl with the archive's checksums made right again, so that only the
    audit and torch stand guard."""
    draw = random.Random(f"pickle {name}")
    folder, file = fresh(shelf, name, tmp_path)
    with zipfile.ZipFile(file) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    (inner,) = (entry for entry in members if entry.endswith("data.pkl"))
    for _ in range(60):
        changed = bytearray(members[inner])
        changed[draw.randrange(len(changed))] = draw.randrange(256)
        with zipfile.ZipFile(file, "w") as archive:
            for entry, content in members.items():
                archive.writestr(entry, bytes(changed) if entry == inner else content)
        try:
            loaded = load_file(folder)
        except SageError:
            continue
        assert torch.isfinite(loaded.W_dec).all()
    assert EXECUTED == []


def test_an_archive_with_two_pickles_or_none_is_refused(shelf: Path, tmp_path: Path) -> None:
    folder, file = fresh(shelf, "dictionary_learning relu", tmp_path)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("other/data.pkl", pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(BadFile, match="2 pickles"):
        load_file(folder)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ae/version", b"3")
    with pytest.raises(BadFile, match="0 pickles"):
        load_file(folder)
    assert EXECUTED == []


def test_a_tensor_that_claims_more_than_its_record_is_refused(shelf: Path, tmp_path: Path) -> None:
    """A rebuilt tensor may be larger than its storage, which torch would then grow with whatever
    lies in memory."""
    folder, file = fresh(shelf, "dictionary_learning relu", tmp_path)
    arrays = torch.load(file, weights_only=True)
    torch.save({**arrays, "bias": torch.zeros(4)}, file)
    with zipfile.ZipFile(file) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    (inner,) = (entry for entry in members if entry.endswith("data.pkl"))
    before = members[inner]
    start = before.rindex(b"bias")
    members[inner] = before[:start] + before[start:].replace(b"K\x04\x85", b"K\x06\x85", 1)
    assert members[inner] != before
    with zipfile.ZipFile(file, "w") as archive:
        for entry, content in members.items():
            archive.writestr(entry, content)
    refused(folder)
