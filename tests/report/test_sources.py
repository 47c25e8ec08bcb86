"""Results are found where they lie, told apart by what they are of, and named without clashes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.by_hand import make_result, write_old_result, write_results
from sage.errors import BadFile, SageError
from sage.report.sources import find_sources, slug
from sage.result_file import save_result


def test_results_are_found_below_a_folder_smaller_models_first(tmp_path: Path) -> None:
    write_results(
        tmp_path,
        make_result({}, task="b", model="large"),
        make_result({}, task="b"),
        make_result({}, task="a"),
    )
    sources, outdated = find_sources([tmp_path])
    assert outdated == 0
    assert [source.is_of for source in sources] == [
        ("tiny", "standard", "a", 0),
        ("tiny", "standard", "b", 0),
        ("large", "standard", "b", 0),
    ]
    assert [source.slug for source in sources] == ["a--tiny", "b--tiny", "b--large"]


def test_a_folder_given_twice_or_within_another_counts_once(tmp_path: Path) -> None:
    write_results(tmp_path, make_result({}))
    given = [tmp_path, tmp_path / "0", tmp_path / "0" / "result.json"]
    (source,) = find_sources(given).listed
    assert source.paths == (tmp_path / "0" / "result.json",)


def test_hidden_folders_hold_unfinished_results_and_are_passed_over(tmp_path: Path) -> None:
    write_results(tmp_path, make_result({}))
    write_results(tmp_path / ".unfinished", make_result({}, task="other"))
    assert [source.task for source in find_sources([tmp_path]).listed] == ["ioi"]


def test_results_of_one_cell_are_one_source(tmp_path: Path) -> None:
    write_results(tmp_path, make_result({"a": 0.5}), make_result({"b": 0.6}))
    (source,) = find_sources([tmp_path]).listed
    assert [path.parent.name for path in source.paths] == ["0", "1"]


def test_another_seed_or_plan_has_a_page_of_its_own(tmp_path: Path) -> None:
    results = [make_result({}), make_result({}, seed=1), make_result({}, plan="quick")]
    sources = find_sources([write_results(tmp_path, *results)]).listed
    assert [source.slug for source in sources] == [
        "ioi--tiny--quick",
        "ioi--tiny",
        "ioi--tiny--seed-1",
    ]
    assert [source.model_and_plan for source in sources] == [
        "tiny, plan quick",
        "tiny, plan standard",
        "tiny, plan standard",
    ]


def test_the_plan_goes_without_saying_where_all_results_have_the_same(tmp_path: Path) -> None:
    write_results(tmp_path, make_result({}, plan="quick"))
    (source,) = find_sources([tmp_path]).listed
    assert source.model_and_plan == "tiny"


def test_results_of_other_versions_are_counted_and_left_out(tmp_path: Path) -> None:
    """One of version 1, one that says no version, one in which a score was defined otherwise."""
    write_old_result(tmp_path / "old")
    made = make_result({"a": 0.5})
    before = {**made.run.scores, "interpretable": made.run.scores["interpretable"] - 1}
    for name, scores in (("silent", {}), ("before", before)):
        save_result(replace(made, run=replace(made.run, scores=scores)), tmp_path / name)
    write_results(tmp_path / "today", made)
    found = find_sources([tmp_path])
    assert ([source.task for source in found.listed], found.outdated) == (["ioi"], 3)
    assert (found.left_out or "").startswith("Left out: 3 results of other versions of the scores")


def test_where_all_results_are_of_version_1_there_is_no_report(tmp_path: Path) -> None:
    write_old_result(tmp_path)
    with pytest.raises(SageError, match=r"All results here \(1\) are of other versions of the"):
        find_sources([tmp_path])


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
    suites = {"a": 0.5, "b": 0.5, "c": 0.5}
    write_results(tmp_path, make_result(suites, contrasts=("x", "y", "z")))
    path = tmp_path / "0" / "result.json"
    turned = dict(reversed(json.loads(path.read_text()).items()))
    path.write_text(json.dumps(turned))
    assert next(iter(turned)) == "schema"
    (source,) = find_sources([tmp_path]).listed
    assert (source.is_of, source.d_model) == (("tiny", "standard", "ioi", 0), 64)


def test_plain_names_are_their_own_slugs() -> None:
    assert slug("subject_verb_agreement", "tiny-gpt2") == "subject_verb_agreement--tiny-gpt2"


@given(
    st.lists(st.text(min_size=1), min_size=2, max_size=2),
    st.lists(st.text(min_size=1), min_size=2, max_size=2),
)
def test_slugs_are_safe_and_differ_where_names_do_even_by_case(
    parts: list[str], others: list[str]
) -> None:
    for name in (slug(*parts), slug(*others)):
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        assert 0 < len(name) <= 80
        assert not name.startswith(".")
    assert (slug(*parts) == slug(*others)) == (parts == others)


def test_names_that_join_alike_have_different_slugs() -> None:
    assert len({slug("a--b", "c"), slug("a", "b--c"), slug("A", "b--c"), slug("a", "b", "c")}) == 4
