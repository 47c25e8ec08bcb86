"""Results are found where they lie, told apart by task, model and seed, and named for files without
clashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.made import result, write
from sage.errors import BadFile, SageError
from sage.report.sources import find_sources, slug


def test_results_are_found_below_a_folder_smaller_models_first(tmp_path: Path) -> None:
    write(
        tmp_path,
        result({}, task="b", model="large", d_model=128),
        result({}, task="b", d_model=64),
        result({}, task="a", d_model=64),
    )
    found = find_sources([tmp_path])
    assert [(one.model, one.task) for one in found] == [
        ("tiny", "a"),
        ("tiny", "b"),
        ("large", "b"),
    ]
    assert [one.slug for one in found] == ["a--tiny", "b--tiny", "b--large"]


def test_a_folder_given_twice_or_within_another_counts_once(tmp_path: Path) -> None:
    write(tmp_path, result({}))
    assert len(find_sources([tmp_path, tmp_path / "0", tmp_path / "0" / "result.json"])) == 1


def test_hidden_folders_hold_unfinished_results_and_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, result({}))
    write(tmp_path / ".unfinished", result({}, task="other"))
    assert [one.task for one in find_sources([tmp_path])] == ["ioi"]


def test_two_results_of_one_task_model_and_seed_clash(tmp_path: Path) -> None:
    write(tmp_path, result({}), result({}))
    with pytest.raises(
        SageError,
        match=r"0/result\.json and .*1/result\.json are both of task 'ioi' on tiny with seed 0",
    ):
        find_sources([tmp_path])


def test_another_seed_has_a_page_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, result({}), result({}, seed=1))
    assert [one.slug for one in find_sources([tmp_path])] == ["ioi--tiny", "ioi--tiny--seed-1"]


def test_a_folder_without_results_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"no result\.json in .* or below it\. `sage score"):
        find_sources([tmp_path])
    with pytest.raises(BadFile, match="no folder"):
        find_sources([tmp_path / "nowhere"])


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"schema": 1, "task": {"name": "ioi"')
    with pytest.raises(BadFile, match=r"result\.json is not a result of sage"):
        find_sources([tmp_path])


def test_what_a_result_is_of_is_found_wherever_it_stands_in_the_file(tmp_path: Path) -> None:
    """Another program may write the rows first."""
    path = (
        write(tmp_path, result({"a": 0.5, "b": 0.5, "c": 0.5}, contrasts=("x", "y", "z")))
        / "0"
        / "result.json"
    )
    turned = dict(reversed(json.loads(path.read_text()).items()))
    path.write_text(json.dumps(turned))
    assert next(iter(turned)) == "schema"
    assert [(one.task, one.model, one.seed, one.d_model) for one in find_sources([tmp_path])] == [
        ("ioi", "tiny", 0, 64)
    ]


def test_plain_names_are_their_own_slugs() -> None:
    assert slug("subject_verb_agreement", "tiny-gpt2") == "subject_verb_agreement--tiny-gpt2"


@given(
    st.lists(st.text(min_size=1), min_size=2, max_size=2),
    st.lists(st.text(min_size=1), min_size=2, max_size=2),
)
def test_slugs_are_safe_and_differ_where_names_do_even_by_case(
    one: list[str], other: list[str]
) -> None:
    for name in (slug(*one), slug(*other)):
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        assert 0 < len(name) <= 80
        assert not name.startswith(".")
    assert (slug(*one) == slug(*other)) == (one == other)


def test_names_that_join_alike_have_different_slugs() -> None:
    assert len({slug("a--b", "c"), slug("a", "b--c"), slug("A", "b--c"), slug("a", "b", "c")}) == 4
