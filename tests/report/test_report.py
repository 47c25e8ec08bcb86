"""A report is a folder that needs nothing else: every link leads somewhere, every name is text,
every figure has its data."""

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

from report.made import CONTRAST, MODEL, SUITE, TASK, result, write
from sage.cli import cli
from sage.report import write_report
from sage.report.sources import slug

HOSTILE = slug(TASK, MODEL)


class _Page(HTMLParser):
    """Every element with its attributes, every address, every id, and the text outside scripts and
    styles."""

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
        return [
            found[name] or ""
            for _, found in self.elements
            for name in ("href", "src")
            if name in found
        ]

    @property
    def ids(self) -> set[str]:
        return {found["id"] or "" for _, found in self.elements if "id" in found}


def _pages(report: Path) -> dict[str, _Page]:
    return {path.name: _Page(path) for path in sorted(report.glob("*.html"))}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_there_is_a_page_for_each_task_and_model_an_overview_and_a_comparison(report: Path) -> None:
    own = {
        slug("ioi", "tiny"),
        slug("ioi", "tiny", "seed-1"),
        slug("successor", "tiny"),
        slug("successor", "tiniest"),
        slug("ioi", "tiniest"),
    }
    own |= {HOSTILE, slug("ioi", MODEL)}
    assert {path.name for path in report.glob("*.html")} == {
        "index.html",
        "compare.html",
        *(f"{name}.html" for name in own),
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
                assert parts.fragment in pages[target].ids, f"{name}: {address}"


def test_every_page_is_linked_from_every_page(report: Path) -> None:
    pages = _pages(report)
    for page in pages.values():
        assert set(pages) <= set(page.addresses)


def test_nothing_is_fetched_from_a_network(report: Path) -> None:
    loads = re.compile(
        r"""(?:src|srcset|data|action)\s*=\s*["']?\s*(?:https?:)?//|url\(|@import|\bfetch\(|XMLHttpRequest|<iframe|<object""",
        re.IGNORECASE,
    )
    for path in report.rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            assert not loads.search(path.read_text(encoding="utf-8")), path.name
        if path.suffix == ".svg":
            hrefs = [
                value
                for element in ElementTree.parse(path).iter()
                for key, value in element.attrib.items()
                if key.endswith("href")
            ]
            assert all(value.startswith(("data:", "#")) for value in hrefs), path.name


def test_names_from_files_are_text_and_never_markup(report: Path) -> None:
    for page in _pages(report).values():
        scripts = [found for tag, found in page.elements if tag == "script"]
        assert [found.get("src") for found in scripts] == ["report.js"]
        assert not {tag for tag, _ in page.elements} & {"b", "i", "em"}
    whole = _pages(report)[f"{HOSTILE}.html"].text
    for name in (
        TASK,
        MODEL,
        SUITE,
        CONTRAST,
        "$y$",
        "A note with <em>markup</em>.",
        "https://example.org/?a=1&b=<2>",
    ):
        assert name in whole


def test_names_in_figures_are_text_and_never_markup_or_mathematics(report: Path) -> None:
    drawn = list(report.rglob("*.svg"))
    texts = {
        path: [
            "".join(element.itertext())
            for element in ElementTree.parse(path).iter()
            if element.tag.endswith("}text")
        ]
        for path in drawn
    }
    assert all(texts.values())
    own = [words for path, words in texts.items() if path.parent.name == HOSTILE]
    assert any(SUITE in words for words in own)
    assert any("$y$  1.0.z@END" in words for words in own)
    assert not {
        element.tag.rpartition("}")[2]
        for path in drawn
        for element in ElementTree.parse(path).iter()
    } & {"script", "b", "i"}


def test_every_figure_has_alt_text_a_caption_with_its_n_and_its_data(report: Path) -> None:
    for name, page in _pages(report).items():
        pictures = [found for tag, found in page.elements if tag == "img"]
        assert all(found["alt"] and found["width"] and found["height"] for found in pictures), name
        captions = sum(tag == "figcaption" for tag, _ in page.elements)
        data = [address for address in page.addresses if address.endswith(".csv")]
        assert len(pictures) == captions == len(data), name
        assert page.text.count("n = ") >= captions, name
        assert all(_rows(report / unquote(address)) for address in data), name


def test_the_page_of_a_task_has_all_its_figures(report: Path) -> None:
    names = {path.stem for path in (report / "figures" / "successor--tiny").glob("*.svg")}
    headline = {"f1-topk", "f1-relu", "cosine-topk", "cosine-relu"}
    assert names == {
        "where-number",
        "where-word",
        "features",
        "between",
        "raw",
        "control-over-k",
        *headline,
    }


def test_the_data_of_the_dots_are_the_rows_of_the_result(report: Path) -> None:
    """By hand: topk controls .8 on ioi, .02 is its error, PCA controls .4."""
    rows = {
        (row["suite"], row["dictionary"], row["score"]): row
        for row in _rows(report / "figures" / "ioi--tiny" / "between.csv")
    }
    own = rows["topk", "topk", "control"]
    assert {
        name: float(own[name]) for name in ("value", "low", "high", "stderr", "n")
    } == pytest.approx({"value": 0.8, "low": 0.76, "high": 0.84, "stderr": 0.02, "n": 500})
    assert float(rows["topk", "PCA", "control"]["value"]) == 0.4
    assert (
        rows["nothing", "nothing", "control"]["value"],
        rows["nothing", "nothing", "control"]["status"],
    ) == (
        "NaN",
        "undefined: no node of the section reads an SAE of this suite",
    )


def test_the_data_of_the_curves_are_success_by_k(report: Path) -> None:
    """Accuracy is made to be k/8 of the control, .8 for topk; the others' k max is 4."""
    rows = _rows(report / "figures" / "ioi--tiny" / "control-over-k.csv")
    own = {int(row["k"]): float(row["value"]) for row in rows if row["dictionary"] == "topk"}
    assert own == pytest.approx({0: 0.0, 1: 0.1, 2: 0.2, 4: 0.4, 8: 0.8})
    assert {row["k max"] for row in rows} == {"4"}
    assert {row["dictionary"] for row in rows} == {
        "topk",
        "relu",
        "supervised",
        "PCA",
        "untrained",
        "partial",
    }


def test_the_data_of_a_map_are_the_best_latents_of_each_value(report: Path) -> None:
    """Of value a latent 7 is best (.5), of b latent 3 (.75); matched one to one the cosines are .75
    and 1."""
    f1 = _rows(report / "figures" / "ioi--tiny" / "f1-topk.csv")
    assert [(row["node"], row["row"], row["column"], float(row["f1"])) for row in f1] == [
        ("1.0.z@END", "7", "IO=a", 0.5),
        ("1.0.z@END", "7", "IO=b", 0.0),
        ("1.0.z@END", "3", "IO=a", 0.125),
        ("1.0.z@END", "3", "IO=b", 0.75),
    ]
    cosines = _rows(report / "figures" / "ioi--tiny" / "cosine-topk.csv")
    assert {(row["row"], row["column"]): float(row["cosine"]) for row in cosines} == {
        ("7", "IO=a"): 0.75, ("7", "IO=b"): -0.75, ("3", "IO=a"): -1.0, ("3", "IO=b"): 1.0,
    }  # fmt: skip


def test_the_data_of_the_map_of_nodes_are_the_discovery(report: Path) -> None:
    rows = {
        row["node"]: row
        for row in _rows(report / "figures" / "ioi--tiny" / f"where-{slug('IO')}.csv")
    }
    assert rows["1.0.z@END"]["statistic"] == "1.0"
    assert [row["confirmed"] for row in rows.values()] == ["True", "True", "False", "False"]
    assert rows["0.0.z@END"]["statistic"] == "NaN"


def test_the_comparison_divides_l0_by_the_width_and_sets_pca_at_its_own(report: Path) -> None:
    """topk's SAEs have L0 8 and 8, the model D = 64; PCA has 12."""
    rows = {
        (row["model"], row["suite"], row["dictionary"]): row
        for row in _rows(report / "figures" / "compare" / "control-by-l0-over-d.csv")
    }
    assert (
        float(rows["tiny", "topk", "topk"]["L0"]),
        float(rows["tiny", "topk", "topk"]["L0/D"]),
    ) == (8.0, 0.125)
    assert (
        float(rows["tiny", "topk", "PCA"]["L0"]),
        float(rows["tiny", "topk", "PCA"]["value"]),
    ) == (12.0, 0.4)


def test_two_seeds_of_a_task_are_one_task_of_the_mean(report: Path) -> None:
    """topk: ioi (.8 + .9)/2 = .85, successor .4, mean .625 over two tasks."""
    rows = {
        (row["model"], row["suite"], row["dictionary"], row["score"]): row
        for row in _rows(report / "figures" / "overview" / "suites.csv")
    }
    own = rows["tiny", "topk", "topk", "control"]
    assert (float(own["value"]), own["tasks"]) == (pytest.approx(0.625), "2")


def test_what_is_undefined_is_said_with_its_reason(report: Path) -> None:
    pages = _pages(report)
    assert "no contrast has a control score" in pages[f"{slug('ioi', MODEL)}.html"].text
    reason = "no contrast has a control score (IO: the ground-truth patch changes nothing)"
    assert reason in pages[f"{slug('ioi', MODEL)}.html"].text
    assert "a component is missing everywhere (T2)" in pages[f"{slug('ioi', MODEL)}.html"].text
    assert "no node of the section reads an SAE of this suite" in pages["ioi--tiny.html"].text
    for page in pages.values():
        undefined = [
            found
            for tag, found in page.elements
            if tag == "td" and "undefined" in (found.get("class") or "")
        ]
        assert all(found["title"] and "data-order" not in found for found in undefined)


def test_a_failed_gate_is_said_and_nothing_is_shown_as_scored(report: Path) -> None:
    page = _pages(report)["successor--tiniest.html"]
    assert "Not passed. The model prefers the right answer on 60.0 % of 500 prompts" in page.text
    assert (
        "tiniest does not do this task: accuracy 0.600 on 500 prompts is below 0.75." in page.text
    )
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert "gate not passed" in _pages(report)["index.html"].text


def test_a_result_without_suites_shows_what_was_found(report: Path) -> None:
    page = _pages(report)["ioi--tiniest.html"]
    assert "No suite was given, so there is nothing to score." in page.text
    assert (report / "figures" / "ioi--tiniest").is_dir()


def test_the_first_line_is_the_claim_on_the_page_in_markdown_and_on_the_command_line(
    results: Path, report: Path, tmp_path: Path
) -> None:
    """`partial` has .9 and reaches less. sqrt((.02^2 + .02^2)/4 + .02^2)/2 = .0122, so .625 -+
    .024."""
    line = "The best suite, tiny/topk, controls 0.62 [0.60, 0.65] of what supervised features control, over 2 tasks."
    assert line in _pages(report)["index.html"].text
    assert (report / "report.md").read_text(encoding="utf-8").splitlines()[
        0
    ] == f"# {line.replace('[', chr(92) + '[').replace(']', chr(92) + ']')}"
    found = CliRunner(catch_exceptions=False).invoke(
        cli, ["report", str(results), "--out", str(tmp_path), "--workers", "1"]
    )
    assert (found.exit_code, found.stdout) == (0, f"{line}\n")
    assert str(tmp_path / "index.html") in found.stderr


def test_where_the_time_went_is_shown_by_stage_and_by_run(report: Path) -> None:
    """Seven runs of 12.5 s: .5 s for the gate, 12 s for scores."""
    text = _pages(report)["index.html"].text
    assert "88 seconds of runs in all, 210 clean forward passes" in text
    assert "gate 3.5 4 % 7" in text
    assert "scores 84.0 96 % 203" in text


def test_an_embedded_suite_is_not_named_after_its_model_twice(tmp_path: Path) -> None:
    write(tmp_path / "in", result({"tiny/topk": 0.5, "other/topk": 0.25}))
    found = write_report([tmp_path / "in"], tmp_path / "out")
    assert found.claim.startswith("The best suite, tiny/topk, controls 0.50")
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
    files = {
        path.relative_to(report): path.read_bytes() for path in report.rglob("*") if path.is_file()
    }
    assert {
        path.relative_to(tmp_path): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    } == files


def test_a_report_may_lie_among_the_results(tmp_path: Path) -> None:
    write(tmp_path, result({"a": 0.5}))
    write_report([tmp_path], tmp_path / "report")
    assert write_report([tmp_path], tmp_path / "report").page.is_file()


def test_scores_out_of_all_proportion_are_cut_in_figures_and_whole_in_data(tmp_path: Path) -> None:
    """A floor of -1e8 would flatten every dot; nothing else of the figure changes."""
    made = result({"a": 0.5})
    rows = [
        replace(row, floor=-1e8) if (row.metric, row.dictionary) == ("T2", "a") else row
        for row in made.rows
    ]
    write(tmp_path / "in", replace(made, rows=rows))
    write_report([tmp_path / "in"], tmp_path / "out")
    assert (
        "What lies below -1 or above 2 is not drawn; the data has it."
        in _pages(tmp_path / "out")["ioi--tiny.html"].text
    )
    (row,) = [
        row
        for row in _rows(tmp_path / "out" / "figures" / "ioi--tiny" / "raw.csv")
        if row["component"] == "T2"
    ]
    assert float(row["floor"]) == -1e8


def test_many_suites_are_cut_in_figures_and_whole_in_data(tmp_path: Path) -> None:
    write(tmp_path / "in", result({f"s{number}": number / 100 for number in range(30)}))
    write_report([tmp_path / "in"], tmp_path / "out")
    assert "The best 24 of 30 suites are drawn." in _pages(tmp_path / "out")["ioi--tiny.html"].text
    rows = _rows(tmp_path / "out" / "figures" / "ioi--tiny" / "between.csv")
    assert len({row["suite"] for row in rows}) == 30
