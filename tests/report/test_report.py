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

from report.by_hand import CONTRAST, MODEL, SUITE, TASK, make_result, write_results
from sage.cli import cli
from sage.report import write_report
from sage.report.sources import slug

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
        slug("successor", "tiny"),
        slug("successor", "tiniest"),
    }
    assert {path.name for path in report.glob("*.html")} == {
        "index.html",
        "compare.html",
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
    assert names == {"between", "raw", "control-over-k", *maps, *matrices}


def test_the_data_of_the_dots_are_the_rows_of_the_result(report: Path) -> None:
    """By hand: topk controls .8 on ioi, .02 is its error, PCA controls .4."""
    rows = {
        (row["suite"], row["dictionary"], row["score"]): row
        for row in _rows(report / "figures" / "ioi--tiny" / "between.csv")
    }
    topk = rows["topk", "topk", "control"]
    numbers = {name: float(topk[name]) for name in ("value", "low", "high", "stderr", "n")}
    assert numbers == pytest.approx(
        {"value": 0.8, "low": 0.76, "high": 0.84, "stderr": 0.02, "n": 500}
    )
    assert float(rows["topk", "PCA", "control"]["value"]) == 0.4
    unreached = rows["nothing", "nothing", "control"]
    assert unreached["value"] == "NaN"
    assert unreached["status"] == "undefined: no node of the section reads an SAE of this suite"


def test_the_data_of_the_curves_are_success_by_k(report: Path) -> None:
    """Accuracy is made to be k/8 of the control, .8 for topk; the others' k max is 4."""
    rows = _rows(report / "figures" / "ioi--tiny" / "control-over-k.csv")
    topk = {int(row["k"]): float(row["value"]) for row in rows if row["dictionary"] == "topk"}
    assert topk == pytest.approx({0: 0.0, 1: 0.1, 2: 0.2, 4: 0.4, 8: 0.8})
    assert {row["k max"] for row in rows} == {"4"}
    suites = {"topk", "relu", "partial"}
    assert {row["dictionary"] for row in rows} == suites | {"supervised", "PCA", "untrained"}


def test_the_data_of_a_map_are_the_best_latents_of_each_value(report: Path) -> None:
    """Of value a latent 7 is best (.5), of b latent 3 (.75).

    Matched one to one, the cosines are .75 and 1.
    """
    f1 = _rows(report / "figures" / "ioi--tiny" / "f1-topk.csv")
    assert [(row["node"], row["row"], row["column"], float(row["f1"])) for row in f1] == [
        ("1.0.z@END", "7", "IO=a", 0.5),
        ("1.0.z@END", "7", "IO=b", 0.0),
        ("1.0.z@END", "3", "IO=a", 0.125),
        ("1.0.z@END", "3", "IO=b", 0.75),
    ]
    cosines = _rows(report / "figures" / "ioi--tiny" / "cosine-topk.csv")
    assert {(row["row"], row["column"]): float(row["cosine"]) for row in cosines} == {
        ("7", "IO=a"): 0.75,
        ("7", "IO=b"): -0.75,
        ("3", "IO=a"): -1.0,
        ("3", "IO=b"): 1.0,
    }


def test_the_data_of_the_map_of_nodes_are_the_discovery(report: Path) -> None:
    data = _rows(report / "figures" / "ioi--tiny" / f"where-{slug('IO')}.csv")
    rows = {row["node"]: row for row in data}
    assert rows["1.0.z@END"]["statistic"] == "1.0"
    assert [row["confirmed"] for row in rows.values()] == ["True", "True", "False", "False"]
    assert rows["0.0.z@END"]["statistic"] == "NaN"


def test_the_comparison_divides_l0_by_the_width_and_sets_pca_at_its_own(report: Path) -> None:
    """topk's SAEs have L0 8 and 8, the model D = 64; PCA has 12."""
    rows = {
        (row["model"], row["suite"], row["dictionary"]): row
        for row in _rows(report / "figures" / "compare" / "control-by-l0-over-d.csv")
    }
    topk, pca = rows["tiny", "topk", "topk"], rows["tiny", "topk", "PCA"]
    assert (float(topk["L0"]), float(topk["L0/D"])) == (8.0, 0.125)
    assert (float(pca["L0"]), float(pca["value"])) == (12.0, 0.4)


def test_two_seeds_of_a_task_are_one_task_of_the_mean(report: Path) -> None:
    """topk: ioi (.8 + .9)/2 = .85, successor .4, mean .625 over two tasks."""
    rows = {
        (row["model"], row["suite"], row["dictionary"], row["score"]): row
        for row in _rows(report / "figures" / "overview" / "suites.csv")
    }
    topk = rows["tiny", "topk", "topk", "control"]
    assert (float(topk["value"]), topk["tasks"]) == (pytest.approx(0.625), "2")


def test_what_is_undefined_is_said_with_its_reason(report: Path) -> None:
    pages = _pages(report)
    text = pages[f"{slug('ioi', MODEL)}.html"].text
    why = "no contrast has a control score (IO: the ground-truth patch changes nothing)"
    assert why in text
    assert "a component is missing everywhere (T2)" in text
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
    """`partial` has .9 and reaches less.

    sqrt((.02^2 + .02^2)/4 + .02^2)/2 = .0122, so .625 -+ .024.
    """
    line = (
        "The best suite, tiny/topk, controls 0.62 [0.60, 0.65] of what supervised features control,"
        " over 2 tasks."
    )
    assert line in _pages(report)["index.html"].text
    heading = (report / "report.md").read_text(encoding="utf-8").splitlines()[0]
    assert heading.replace("\\", "") == f"# {line}"
    assert "\\[0.60, 0.65\\]" in heading
    command = ["report", str(results), "--out", str(tmp_path), "--workers", "1"]
    done = CliRunner(catch_exceptions=False).invoke(cli, command)
    assert (done.exit_code, done.stdout) == (0, f"{line}\n")
    assert str(tmp_path / "index.html") in done.stderr


def test_where_the_time_went_is_shown_by_stage_and_by_run(report: Path) -> None:
    """Seven runs of 12.5 s: .5 s for the gate, 12 s for scores."""
    text = _pages(report)["index.html"].text
    assert "88 seconds of runs in all, 210 clean forward passes" in text
    assert "gate 3.5 4 % 7" in text
    assert "scores 84.0 96 % 203" in text


def test_an_embedded_suite_is_not_named_after_its_model_twice(tmp_path: Path) -> None:
    write_results(tmp_path / "in", make_result({"tiny/topk": 0.5, "other/topk": 0.25}))
    written = write_report([tmp_path / "in"], tmp_path / "out")
    assert written.claim.startswith("The best suite, tiny/topk, controls 0.50")
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
        "sage 0.1.0, seed 1",
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


def test_scores_out_of_all_proportion_are_cut_in_figures_and_whole_in_data(tmp_path: Path) -> None:
    """A floor of -1e8 would flatten every dot; nothing else of the figure changes."""
    result = make_result({"a": 0.5})
    rows = [
        replace(row, floor=-1e8) if (row.metric, row.dictionary) == ("T2", "a") else row
        for row in result.rows
    ]
    write_results(tmp_path / "in", replace(result, rows=rows))
    write_report([tmp_path / "in"], tmp_path / "out")
    text = _pages(tmp_path / "out")["ioi--tiny.html"].text
    assert "What lies below -1 or above 2 is not drawn; the data has it." in text
    data = _rows(tmp_path / "out" / "figures" / "ioi--tiny" / "raw.csv")
    (row,) = [row for row in data if row["component"] == "T2"]
    assert float(row["floor"]) == -1e8


def test_many_suites_are_cut_in_figures_and_whole_in_data(tmp_path: Path) -> None:
    write_results(
        tmp_path / "in", make_result({f"s{number}": number / 100 for number in range(30)})
    )
    write_report([tmp_path / "in"], tmp_path / "out")
    assert "The best 24 of 30 suites are drawn." in _pages(tmp_path / "out")["ioi--tiny.html"].text
    rows = _rows(tmp_path / "out" / "figures" / "ioi--tiny" / "between.csv")
    assert len({row["suite"] for row in rows}) == 30
