"""A report needs nothing else: links lead somewhere, names are text, figures have their data."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from report.by_hand import (
    CONTRAST,
    MODEL,
    NO_EFFECT,
    QUICK,
    SUITE,
    TASK,
    make_result,
    three_tasks,
    write_old_result,
    write_results,
)
from sage.cli import cli
from sage.errors import SageError
from sage.report import write_report
from sage.report.sources import slug
from sage.result import HEADLINES

HOSTILE = slug(TASK, MODEL)


class _Page(HTMLParser):
    """Every element with its attributes, and the text outside of tags."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def addresses(self) -> list[str]:
        """What the page links to and what it loads."""
        return [*self.attributes("href"), *self.attributes("src")]

    def attributes(self, name: str) -> list[str]:
        """The values of an attribute, wherever it stands."""
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of that name."""
        return [attributes for name, attributes in self.elements if name == tag]


def _pages(report: Path) -> dict[str, _Page]:
    return {path.name: _Page(path) for path in sorted(report.glob("*.html"))}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _texts(path: Path) -> list[str]:
    """The words of a figure."""
    elements = ElementTree.parse(path).iter()
    return ["".join(element.itertext()) for element in elements if element.tag.endswith("}text")]


def test_there_is_a_page_for_each_task_and_model_an_overview_and_a_comparison(report: Path) -> None:
    runs = {
        HOSTILE,
        slug("ioi", MODEL),
        slug("ioi", "tiny"),
        slug("ioi", "tiny", "seed-1"),
        slug("ioi", "tiniest"),
        slug("induction", "tiny"),
        slug("successor", "tiny"),
        slug("successor", "tiniest"),
    }
    assert {path.name for path in report.glob("*.html")} == {
        "index.html",
        "compare.html",
        "frontiers.html",
        "leaderboard.html",
        *(f"{name}.html" for name in runs),
    }
    assert {path.name for path in report.iterdir() if path.suffix != ".html"} == {
        "figures",
        "report.css",
        "report.js",
        "report.md",
    }


def test_every_link_leads_to_a_file_or_a_place_that_is_there(report: Path) -> None:
    pages = _pages(report)
    for name, page in pages.items():
        for address in page.addresses:
            parts = urlsplit(address)
            assert (parts.scheme, parts.netloc) in (("", ""), ("data", "")), f"{name}: {address}"
            target = unquote(parts.path) or name
            if not parts.scheme:
                assert (report / target).is_file(), f"{name}: {address}"
            if parts.fragment:
                assert parts.fragment in pages[target].attributes("id"), f"{name}: {address}"


def test_every_page_is_linked_from_every_page(report: Path) -> None:
    pages = _pages(report)
    for page in pages.values():
        assert set(pages) <= set(page.addresses)


def test_nothing_is_fetched_from_a_network(report: Path) -> None:
    attribute = r"""(?:src|srcset|data|action)\s*=\s*["']?\s*(?:https?:)?//"""
    loads = re.compile(
        rf"{attribute}|url\(|@import|\bfetch\(|XMLHttpRequest|<iframe|<object", re.IGNORECASE
    )
    for path in report.rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            assert not loads.search(path.read_text(encoding="utf-8")), path.name
        if path.suffix == ".svg":
            assert all(href.startswith(("data:", "#")) for href in _hrefs(path)), path.name


def _hrefs(path: Path) -> list[str]:
    """What a figure refers to."""
    attributes = [element.attrib for element in ElementTree.parse(path).iter()]
    return [value for named in attributes for name, value in named.items() if name.endswith("href")]


def test_names_from_files_are_text_and_never_markup(report: Path) -> None:
    for page in _pages(report).values():
        assert page.named("script") == [{"src": "report.js", "defer": None}]
        assert not {tag for tag, _ in page.elements} & {"b", "i", "em"}
    text = _pages(report)[f"{HOSTILE}.html"].text
    for name in (
        TASK,
        MODEL,
        SUITE,
        CONTRAST,
        "$y$",
        "A note with <em>markup</em>.",
        "https://example.org/?a=1&b=<2>",
    ):
        assert name in text


def test_names_in_figures_are_text_and_never_markup_or_mathematics(report: Path) -> None:
    figures = list(report.rglob("*.svg"))
    texts = {path: _texts(path) for path in figures}
    assert all(texts.values())
    hostile = [words for path, words in texts.items() if path.parent.name == HOSTILE]
    assert any(SUITE in words for words in hostile)
    assert any("$y$  1.0.z@END" in words for words in hostile)
    for path in figures:
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert not tags & {"script", "b", "i"}


def test_every_figure_has_alt_text_a_caption_with_its_n_and_its_data(report: Path) -> None:
    for name, page in _pages(report).items():
        pictures, captions = page.named("img"), page.named("figcaption")
        data = [address for address in page.addresses if address.endswith(".csv")]
        assert all(image["alt"] and image["width"] and image["height"] for image in pictures), name
        assert all(figure["aria-label"] for figure in page.named("figure")), name
        assert len(pictures) == len(captions) == len(data), name
        assert page.text.count("n = ") >= len(captions), name
        assert all(_rows(report / unquote(address)) for address in data), name


def test_the_page_of_a_task_has_all_its_figures(report: Path) -> None:
    names = {path.stem for path in (report / "figures" / "successor--tiny").glob("*.svg")}
    matrices = {"f1-topk", "f1-relu", "cosine-topk", "cosine-relu"}
    maps = {"where-number", "where-word", "features"}
    assert names == {"interpretable", "between", "contrasts", "copying", *maps, *matrices}


def test_the_first_figure_of_every_page_is_interpretable_control_against_sparsity(
    report: Path,
) -> None:
    for name in ("index", "ioi--tiny", "successor--tiny", HOSTILE):
        images = _pages(report)[f"{name}.html"].named("img")
        assert str(images[0]["src"]).endswith("/interpretable.svg")
    compared = _pages(report)["compare.html"].named("img")
    assert str(compared[0]["src"]).endswith("/interpretable-by-l0.svg")


def test_the_data_of_the_first_figure_are_suites_and_what_stands_beside_them(report: Path) -> None:
    """topk's L0 is (8 + 8)/2; PCA has 12 and control alone, lookup tables 1."""
    rows = {
        (row["suite"], row["dictionary"]): row
        for row in _rows(report / "figures" / "ioi--tiny" / "interpretable.csv")
    }
    topk, pca = rows["topk", "topk"], rows["topk", "PCA"]
    assert (float(topk["L0"]), float(topk["value"]), topk["score"]) == (8.0, 0.8, "interpretable")
    assert (float(pca["L0"]), float(pca["value"]), pca["score"]) == (12.0, 0.4, "control")
    assert float(rows["topk", "text lookup"]["L0"]) == 1.0
    assert float(rows["topk", "supervised"]["value"]) == 0.95
    assert "topk-soft-frozen-1" in {suite for suite, _ in rows}
    words = _texts(report / "figures" / "ioi--tiny" / "interpretable.svg")
    assert {"supervised", "text lookup", "task lookup", "PCA (T2)", "soft-frozen null"} <= set(
        words
    )
    text = _pages(report)["ioi--tiny.html"].text
    assert "A line marked T2 is control with all its components" in text


def test_the_data_of_the_dots_are_the_rows_of_the_result(report: Path) -> None:
    """By hand: topk scores .8 on ioi, .02 is its error, its best control .2."""
    rows = {
        (row["suite"], row["dictionary"], row["score"]): row
        for row in _rows(report / "figures" / "ioi--tiny" / "between.csv")
    }
    topk = rows["topk", "topk", "interpretable"]
    names = ("value", "low", "high", "stderr", "n", "best control", "gain", "gain low", "gain high")
    assert [float(topk[name]) for name in names] == pytest.approx(
        [0.8, 0.76, 0.84, 0.02, 500, 0.2, 0.6, 0.56, 0.64]
    )
    assert float(topk["supervised"]) == 0.95
    assert float(rows["topk", "PCA", "control"]["value"]) == 0.4
    unmeasured = rows["topk", "PCA", "interpretable"]
    assert unmeasured["status"] == "undefined: not measured for PCA by this plan"
    unreached = rows["nothing", "nothing", "control"]
    assert unreached["value"] == "NaN"
    assert unreached["status"] == "undefined: no node of the section reads an SAE of this suite"


def test_the_data_of_the_curves_are_copying_by_k(report: Path) -> None:
    """Copying is made to be k/8 of the score, .8 for topk; it is in no table of scores."""
    rows = _rows(report / "figures" / "ioi--tiny" / "copying.csv")
    topk = {int(row["k"]): float(row["value"]) for row in rows if row["dictionary"] == "topk"}
    assert topk == pytest.approx({1: 0.1, 2: 0.2, 4: 0.4, 8: 0.8})
    suites = {"topk", "relu", "partial", "topk-soft-frozen-1"}
    beside = {"supervised", "PCA", "text lookup", "task lookup"}
    assert {row["dictionary"] for row in rows} == suites | beside
    scores = _rows(report / "figures" / "ioi--tiny" / "between.csv")
    assert {row["score"] for row in scores} == set(HEADLINES)


def test_the_data_of_a_map_are_the_best_latents_of_each_value(report: Path) -> None:
    """Of value a latent 7 is best (.5), of b latent 3 (.75).

    Matched one to one, the cosines are .75 and 1.
    """
    f1 = _rows(report / "figures" / "ioi--tiny" / "f1-topk.csv")
    shown = [row for row in f1 if row["column"] != "IO=c"]
    assert [(row["node"], row["row"], row["column"], float(row["f1"])) for row in shown] == [
        ("1.0.z@END", "7", "IO=a", 0.5),
        ("1.0.z@END", "7", "IO=b", 0.0),
        ("1.0.z@END", "3", "IO=a", 0.125),
        ("1.0.z@END", "3", "IO=b", 0.75),
    ]
    assert {row["f1"] for row in f1 if row["column"] == "IO=c"} == {"nan"}
    cosines = _rows(report / "figures" / "ioi--tiny" / "cosine-topk.csv")
    numbers = {(row["row"], row["column"]): float(row["cosine"]) for row in cosines}
    assert (numbers["7", "IO=a"], numbers["7", "IO=b"]) == (0.75, -0.75)
    assert (numbers["3", "IO=a"], numbers["3", "IO=b"]) == (-1.0, 1.0)


def test_the_data_of_the_map_of_nodes_are_the_discovery(report: Path) -> None:
    data = _rows(report / "figures" / "ioi--tiny" / f"where-{slug('IO')}.csv")
    rows = {row["node"]: row for row in data}
    assert rows["1.0.z@END"]["statistic"] == "1.0"
    assert [row["confirmed"] for row in rows.values()] == ["True", "True", "False", "False"]
    assert rows["0.0.z@END"]["statistic"] == "NaN"


def test_a_value_with_too_few_positives_is_blank_in_the_map() -> None:
    """Its column has no number, and its squares are the paper's own white."""
    import numpy as np
    from matplotlib import colormaps

    from sage.report.charts.heat_map import F1_SCALE, MapPanel, heat_maps

    values = np.array([[0.0, np.nan]])
    canvas = heat_maps([MapPanel("x", values, ["3"], ["a", "c"])], F1_SCALE)
    image = canvas.drawable.axes[0].images[0]
    shown = image.to_rgba(image.get_array())
    assert tuple(shown[0, 0]) == pytest.approx(colormaps["viridis"](0.0))
    assert shown[0, 1][3] == 0


def test_the_comparison_divides_l0_by_the_width(report: Path) -> None:
    """topk's SAEs have L0 8 and 8, the model D = 64."""
    rows = {
        (row["model"], row["suite"]): row
        for row in _rows(report / "figures" / "compare" / "interpretable-by-l0-over-d.csv")
    }
    topk = rows["tiny", "topk"]
    assert (float(topk["L0"]), float(topk["L0/D"])) == (8.0, 0.125)


def test_two_seeds_of_a_task_are_one_task_of_the_mean(report: Path) -> None:
    """topk: ioi (.8 + .9)/2 = .85, successor .4, induction .7: .65 over three tasks."""
    rows = {
        (row["model"], row["suite"], row["dictionary"], row["score"]): row
        for row in _rows(report / "figures" / "overview" / "suites.csv")
    }
    topk = rows["tiny", "topk", "topk", "interpretable"]
    assert (float(topk["value"]), topk["tasks"]) == (pytest.approx(0.65), "3")


def test_several_seeds_of_every_task_give_an_interval_over_the_seeds(tmp_path: Path) -> None:
    """Means over the three tasks: .5 and .7 by seed; .6 -+ 12.706 x .1, cut to 0 and 1."""
    results = three_tasks({"a": 0.5, "b": 0.1}) + three_tasks({"a": 0.7, "b": 0.1}, seeds=(1,))
    write_results(tmp_path / "in", *results)
    written = write_report([tmp_path / "in"], tmp_path / "out")
    assert "tiny/a 0.60 [0.00, 1.00]" in written.claim
    text = _pages(tmp_path / "out")["index.html"].text
    assert "95 % intervals are t intervals over 2 seeds" in text
    assert "over test prompts only" in _pages(tmp_path / "out")["ioi--tiny--seed-1.html"].text


def test_every_table_has_each_score_beside_its_best_control_and_supervised(report: Path) -> None:
    markdown = (report / "report.md").read_text(encoding="utf-8")
    for label in HEADLINES.values():
        (head,) = re.findall(rf"^\| model \| suite \| {label} \|.*$", markdown, re.MULTILINE)
        assert head == (
            f"| model | suite | {label} | best control | gain | supervised |"
            " L0 | FVU | reach | tasks | contrasts | n |"
        )
    row = r"\| tiny \| topk \| 0\.65 .* \| 8\.0 \| 0\.200 \| 1\.00 \| 3 \| 4 \|"
    assert re.search(row, markdown)


def test_lookup_tables_and_pca_stand_below_the_suites_of_their_model(report: Path) -> None:
    """Made to score .2 and .4 everywhere; PCA has control alone."""
    markdown = (report / "report.md").read_text(encoding="utf-8")
    first, second = markdown.split("**")[2::2][:2]
    row = r"\| tiny \| {} on the nodes of topk \| {} .*\|  \|  \|  \| {} \|  \| 1\.00 \| 3 \| 4 \|"
    assert re.search(row.format("task lookup", r"0\.20", r"1\.0"), first)
    assert "PCA on the nodes of topk" not in first
    assert re.search(row.format("PCA", r"0\.40", r"12\.0"), second)


def test_a_new_score_needs_no_new_word_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HEADLINES, "novelty", "T9")
    write_results(tmp_path / "in", make_result({"a": 0.5}))
    write_report([tmp_path / "in"], tmp_path / "out")
    page = _pages(tmp_path / "out")["ioi--tiny.html"]
    assert "T9: novelty" in page.text
    assert "| T9 |" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "T9: novelty" in _texts(tmp_path / "out" / "figures" / "ioi--tiny" / "between.svg")
    assert (tmp_path / "out" / "figures" / "compare" / "novelty-by-l0.svg").is_file()


def test_lost_contrasts_are_listed_with_their_reason(report: Path) -> None:
    line = "tiny induction lost sage, T2, T1, T4, move all patching these nodes moves the metric"
    assert line in _pages(report)["index.html"].text
    text = _pages(report)["induction--tiny.html"].text
    assert "lost sage, T2, T1, T4, move all patching these nodes moves the metric by 0" in text
    assert "1 of 2" in text


def test_a_contrast_that_a_group_stands_in_for_says_which(tmp_path: Path) -> None:
    result = make_result({"a": 0.5}, grouped={"a": ("IO",)})
    write_results(tmp_path / "in", result)
    write_report([tmp_path / "in"], tmp_path / "out")
    rows = _rows(tmp_path / "out" / "figures" / "ioi--tiny" / "contrasts.csv")
    assert {(row["nodes"], float(row["value"])) for row in rows} == {("IO/z@END", 0.5)}
    assert "IO a sage z@END success 2.0 3 0.50" in _pages(tmp_path / "out")["ioi--tiny.html"].text


def test_details_stand_by_level_by_budget_and_by_part(report: Path) -> None:
    text = _pages(report)["successor--tiny.html"].text
    assert "contrast on the nodes of dictionary score form the score F1 >= 0.1" in text
    assert "number topk topk sage graded 0.20 [0.16, 0.24]" in text
    assert "number topk topk isolation all nodes 0.90 [0.86, 0.94], 6.0 moved" in text
    assert "sufficiency coverage decoding" in text


def test_features_say_what_is_left_out_for_all_alike(report: Path) -> None:
    text = _pages(report)["successor--tiny.html"].text
    assert "number 1.0.z@END number 2 0.750 0.125 0.500 additive yes" in text
    assert "number 0.mlp_in@S2 number 2 0.750 0.125 0.500 additive none: left out" in text


def test_suites_that_were_scored_apart_stand_on_one_page(tmp_path: Path) -> None:
    write_results(tmp_path, make_result({"a": 0.5}), make_result({"b": 0.6}))
    write_report([tmp_path / "0", tmp_path / "1"], tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").glob("*.html")}
    over_all = {"index.html", "compare.html", "frontiers.html", "leaderboard.html"}
    assert names == {*over_all, "ioi--tiny.html"}
    figures = {path.stem for path in (tmp_path / "out" / "figures" / "ioi--tiny").glob("*.svg")}
    assert {"f1-a", "f1-b"} <= figures
    rows = _rows(tmp_path / "out" / "figures" / "ioi--tiny" / "between.csv")
    assert {row["suite"] for row in rows} == {"a", "b"}


def test_results_of_one_cell_that_differ_in_more_than_suites_are_refused(tmp_path: Path) -> None:
    other = make_result({"b": 0.6})
    other = replace(other, gate=replace(other.gate, accuracy=0.9))
    write_results(tmp_path, make_result({"a": 0.5}), other)
    with pytest.raises(SageError, match=r"their gate differ.*0/result\.json, .*1/result\.json"):
        write_report([tmp_path], tmp_path / "out")


def test_scores_of_version_1_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    write_old_result(tmp_path / "in" / "old")
    write_results(tmp_path / "in", make_result({"a": 0.5}))
    write_report([tmp_path / "in"], tmp_path / "out")
    text = _pages(tmp_path / "out")["index.html"].text
    assert "Left out: 1 result of other versions of the scores" in text
    assert [path.name for path in (tmp_path / "out").glob("*--tiny.html")] == ["ioi--tiny.html"]


def test_what_a_quick_plan_saved_on_stands_beside_the_numbers(tmp_path: Path) -> None:
    result = replace(make_result({"a": 0.5}, plan="quick"), notes=QUICK)
    write_results(tmp_path / "in", result)
    write_report([tmp_path / "in"], tmp_path / "out")
    told = "Plan quick: pairs 50 instead of 500; detect 0 instead of 2000."
    for name in ("index.html", "ioi--tiny--quick.html"):
        assert told in _pages(tmp_path / "out")[name].text
    assert told in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_what_is_undefined_is_said_with_its_reason(report: Path) -> None:
    pages = _pages(report)
    text = pages[f"{slug('ioi', MODEL)}.html"].text
    assert f"no contrast has this score (IO: {NO_EFFECT})" in text
    assert "no node of the section reads an SAE of this suite" in pages["ioi--tiny.html"].text
    for page in pages.values():
        for entry in page.named("td"):
            if "undefined" in (entry.get("class") or ""):
                assert entry["title"]
                assert "data-order" not in entry


def test_a_failed_gate_is_said_and_nothing_is_shown_as_scored(report: Path) -> None:
    page = _pages(report)["successor--tiniest.html"]
    assert "Not passed. The model prefers the right answer on 60.0 % of 500 prompts" in page.text
    assert (
        "tiniest does not do this task: accuracy 0.600 on 500 prompts is below 0.75." in page.text
    )
    assert not page.named("img")
    assert "gate not passed" in _pages(report)["index.html"].text


def test_a_result_without_suites_shows_what_was_found(report: Path) -> None:
    page = _pages(report)["ioi--tiniest.html"]
    assert "No suite was given, so there is nothing to score." in page.text
    assert "A suite that reaches a node of a section is needed here." in page.text
    assert (report / "figures" / "ioi--tiniest").is_dir()


def test_the_first_line_is_the_claim_on_the_page_in_markdown_and_on_the_command_line(
    results: Path, report: Path, tmp_path: Path
) -> None:
    """`partial` reaches less. (.85 + .4 + .7)/3 = .65; the errors of the tasks are .02/sqrt 2, .02
    and .02, so that of the mean is .0105, and .65 -+ .021."""
    line = "Highest interpretable control (sage): tiny/topk 0.65 [0.63, 0.67] at L0 8.0."
    assert line in _pages(report)["index.html"].text
    heading = (report / "report.md").read_text(encoding="utf-8").splitlines()[0]
    assert heading.replace("\\", "") == f"# {line}"
    assert "\\[0.63, 0.67\\]" in heading
    command = ["report", str(results), "--out", str(tmp_path), "--workers", "1"]
    done = CliRunner(catch_exceptions=False).invoke(cli, command)
    assert (done.exit_code, done.stdout) == (0, f"{line}\n")
    assert str(tmp_path / "index.html") in done.stderr


def test_where_the_time_went_is_shown_by_stage_and_by_run(report: Path) -> None:
    """Eight runs of 12.5 s: .5 s for the gate, 12 s for scores."""
    text = _pages(report)["index.html"].text
    assert "100 seconds of runs in all, 240 clean forward passes" in text
    assert "gate 4.0 4 % 8" in text
    assert "scores 96.0 96 % 232" in text


def test_an_embedded_suite_is_not_named_after_its_model_twice(tmp_path: Path) -> None:
    write_results(tmp_path / "in", make_result({"tiny/topk": 0.5, "other/topk": 0.25}))
    written = write_report([tmp_path / "in"], tmp_path / "out")
    assert "tiny/topk" in [suite.name for suite in written.suites]
    rows = _rows(tmp_path / "out" / "figures" / "ioi--tiny" / "between.csv")
    assert {row["suite"] for row in rows} == {"tiny/topk", "other/topk"}


def test_the_provenance_is_on_the_page(report: Path) -> None:
    text = _pages(report)["ioi--tiny--seed-1.html"].text
    for fact in (
        "ab12",
        "cd34",
        "D = 64",
        "float32",
        "transformer-lens 3.9.0",
        "sage 0.1.0, plan standard, seed 1",
        "torch 2.13",
        "batch size 64",
        "discover 200, fit 2000, test 500",
    ):
        assert fact in text


def test_the_same_results_give_the_same_bytes_from_one_process_or_two(
    results: Path, report: Path, tmp_path: Path
) -> None:
    write_report([results], tmp_path, workers=2)
    assert _bytes(tmp_path) == _bytes(report)


def _bytes(folder: Path) -> dict[Path, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_a_report_may_lie_among_the_results(tmp_path: Path) -> None:
    write_results(tmp_path, make_result({"a": 0.5}))
    write_report([tmp_path], tmp_path / "report")
    assert write_report([tmp_path], tmp_path / "report").page.is_file()


def test_many_suites_are_cut_in_figures_and_whole_in_data(tmp_path: Path) -> None:
    write_results(
        tmp_path / "in", make_result({f"s{number}": number / 100 for number in range(30)})
    )
    write_report([tmp_path / "in"], tmp_path / "out")
    assert (
        "The sparsest 24 of 30 suites are drawn." in _pages(tmp_path / "out")["ioi--tiny.html"].text
    )
    rows = _rows(tmp_path / "out" / "figures" / "ioi--tiny" / "between.csv")
    assert len({row["suite"] for row in rows}) == 30


def test_the_comparison_has_the_difference_of_suites_paired_by_seed(report: Path) -> None:
    """topk less relu: .2 and .4 in two seeds. .05 takes 7.85 x .02 / .0025 = 62.8 seeds."""
    text = (report / "compare.html").read_text(encoding="utf-8")
    table = text.partition("Differences of two suites, in pairs")[2].partition("</table>")[0]
    assert "+0.30" in table
    assert ">63<" in table


def test_what_heads_do_stands_with_the_largest_direct_effect_first(report: Path) -> None:
    """Attention below a tenth is told only where there is no more."""
    text = _pages(report)["successor--tiny.html"].text
    assert "What heads do, on 32 prompts of the fit" in text
    assert "1.0.z@END number, word IO 0.50, S2 0.25 -0.62 ± 0.12 0.1.z@S2 number S1 0.08" in text
