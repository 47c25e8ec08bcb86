"""Whether prompts begin with BOS is the user's to say, and parts all that comes of it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sage.cells import cell_name
from sage.cli.options import ModelChoice, model_options
from sage.errors import Unsupported
from sage.models.base import Model
from sage.models.load import load_model
from sage.record import model_info
from sage.run import make_plan
from sage.run_file import RunFile, read_run_file, save_run_file
from sage.store.key import run_keys
from sage.task.catalog import load_task
from sage.task.splits import Splits
from tests.tiny import save_random_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose prompts begin with BOS by default."""
    return save_random_model(tmp_path_factory.mktemp("model"), "gpt2", sage_bos=True)


def load(folder: Path, bos: bool | None) -> Model:
    return load_model(str(folder), backend="nnsight", device="cpu", bos=bos)


def test_models_that_begin_prompts_otherwise_share_no_result_and_nothing_kept(
    folder: Path,
) -> None:
    usual, said, without = (load(folder, bos) for bos in (None, True, False))
    task, plan = load_task("ioi"), make_plan("quick")
    name = f"ioi--{folder.name}-{usual.revision[:6]}"
    assert [cell_name(task, model, plan) for model in (usual, said, without)] == [
        f"{name}--quick--seed0", f"{name}--quick--seed0", f"{name}-no-bos--quick--seed0",
    ]  # fmt: skip
    assert [model.bos for model in (usual, said, without)] == [True, True, False]
    assert model_info(said) == model_info(usual)
    assert model_info(without) != model_info(usual)
    none = Splits({}, {}, (), {}, {}, {}, {}, (), {})
    keys = [run_keys(model, task, none, plan).model for model in (usual, said, without)]
    assert keys[0] == keys[1] != keys[2]


def test_a_tokenizer_without_the_token_is_refused(tmp_path: Path) -> None:
    folder = save_random_model(tmp_path, "gpt2")
    config = folder / "tokenizer_config.json"
    config.write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(Unsupported, match="has no BOS token"):
        load(folder, True)


@pytest.mark.parametrize(("said", "bos"), [([], None), (["--bos"], True), (["--no-bos"], False)])
def test_every_command_that_takes_a_model_takes_the_option(
    said: list[str], bos: bool | None
) -> None:
    chosen: list[ModelChoice] = []
    command = click.command()(model_options(required=True)(lambda model: chosen.append(model)))
    told = CliRunner().invoke(command, ["--model", "m", *said])
    assert (told.exit_code, chosen[0].bos) == (0, bos)


def test_a_run_file_keeps_it(tmp_path: Path) -> None:
    for bos, expected in (("default", None), ("yes", True), ("no", False)):
        run = RunFile(("ioi",), "m", bos=bos, saes=("s",))
        again = read_run_file(save_run_file(run, tmp_path / f"{bos}.toml"))
        assert (again, again.begin_with_bos) == (run, expected)
