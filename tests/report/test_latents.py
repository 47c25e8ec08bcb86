"""The table of latents: which stand behind each contrast of a suite, and on which prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from report.by_hand import make_result, write_results
from sage.errors import SageError, UnknownName
from sage.report import write_report
from sage.report.scored_run import index_run
from sage.report.sources import Source
from sage.report.tables.latents import MOST_ROWS, latent_tables
from sage.result import MovedLatent, MoveExample, Result

UNCHANGED = MoveExample("Mary saw <b>Tom</b> and", "John saw Tom and", "Mary", "John", "Mary")
CHANGED = MoveExample("Kate saw Tom and", "John saw Tom and", "Kate", "John", "John")


def latent(number: int, **changes: object) -> MovedLatent:
    fields: dict[str, object] = {
        "contrast": "IO", "section": "IO", "suite": "a", "sae": "a/0", "site": "2.resid_pre@END",
        "latent": number, "value": "IO=Mary", "f1": 0.875, "feature": "IO=John", "cosine": 0.5,
        "share": 0.25, "pairs": 3, "n": 50, **changes,
    }  # fmt: skip
    return MovedLatent(**fields)


def with_latents(*latents: MovedLatent) -> Result:
    return replace(make_result({"a": 0.5, "b": 0.4}), moved=list(latents))


def tables(result: Result) -> dict[str, list[list[str]]]:
    source = Source((), "ioi", "tiny", 0, 64)
    shown = latent_tables(index_run(source, result, {}))
    return {
        label: [[entry.text for entry in row] for row in of.rows] for label, of in shown.items()
    }


def test_a_latent_has_its_number_meaning_and_a_prompt_that_the_edit_changes() -> None:
    result = with_latents(
        latent(7, examples=[UNCHANGED, CHANGED]), latent(9, suite="b", cosine=None, feature="")
    )
    assert tables(result) == {
        "a": [
            ["IO", "7", "25 %", "IO=Mary", "0.88", "2.resid_pre@END", "IO=John", "0.50", "3/50",
             "Kate saw Tom and"],
        ],
        "b": [["IO", "9", "25 %", "IO=Mary", "0.88", "2.resid_pre@END", "", "", "3/50", ""]],
    }  # fmt: skip


def test_of_many_latents_those_moved_most_are_shown() -> None:
    result = with_latents(*(latent(number) for number in range(30)))
    assert [row[1] for row in tables(result)["a"]] == [str(n) for n in range(MOST_ROWS)]


def test_the_page_links_a_latent_and_shows_prompts_as_text(tmp_path: Path) -> None:
    linked = latent(7, page="https://www.neuronpedia.org/x/7", examples=[UNCHANGED])
    write_results(tmp_path / "in", with_latents(linked))
    write_report([tmp_path / "in"], tmp_path / "out")
    page = (tmp_path / "out" / "ioi--tiny.html").read_text(encoding="utf-8")
    assert '<a href="https://www.neuronpedia.org/x/7">7</a>' in page
    assert "Mary saw &lt;b&gt;Tom&lt;/b&gt; and" in page
    assert "Mary → Mary (wanted John)" in page
    compare = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    overview = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    claim = overview.partition('<h1 class="claim">')[2].partition("</h1>")[0]
    assert claim
    assert claim in compare


def test_a_figure_of_a_result_is_one_that_a_notebook_shows() -> None:
    result = make_result({"a": 0.5, "b": 0.4})
    assert isinstance(result.figure("contrasts"), Figure)
    with pytest.raises(UnknownName, match="Did you mean 'where'"):
        result.figure("wehre")
    with pytest.raises(SageError, match="nothing to draw of 'f1'"):
        result.figure("f1")
