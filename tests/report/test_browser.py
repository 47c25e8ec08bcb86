"""In a browser, from disk: all loads, figures are drawn, tables sort, no phone scrolls sideways."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from report.by_hand import MODEL, TASK
from sage.report.sources import slug

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PAGES = ("index", "compare", "ioi--tiny", "successor--tiniest", slug(TASK, MODEL))
# The first line of each entry of a column of the first table of suites.
COLUMN = """(column) => Array.from(
    document.querySelector('#suites tbody').rows,
    (row) => row.cells[column].innerText.split('\\n')[0],
)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page(browser: sync_api.Browser) -> Iterator[sync_api.Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


def _open(page: sync_api.Page, report: Path, name: str) -> None:
    page.goto((report / f"{name}.html").as_uri())


def _watch(page: sync_api.Page) -> list[str]:
    """What goes wrong on the page from now on: errors, dialogs, what it asks a network for."""
    troubles: list[str] = []

    def on_console(message: sync_api.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            troubles.append(message.text)

    def on_dialog(dialog: sync_api.Dialog) -> None:
        troubles.append(dialog.message)
        dialog.dismiss()

    def on_request(request: sync_api.Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            troubles.append(request.url)

    page.on("console", on_console)
    page.on("dialog", on_dialog)
    page.on("request", on_request)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("requestfailed", lambda request: troubles.append(request.url))
    return troubles


@pytest.mark.parametrize("name", PAGES)
def test_pages_open_from_disk_without_an_error_and_draw_every_figure(
    browser: sync_api.Browser, report: Path, name: str
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    troubles = _watch(page)
    _open(page, report, name)
    widths = page.evaluate(
        "Array.from(document.images, (image) => image.complete ? image.naturalWidth : 0)"
    )
    page.close()
    assert troubles == []
    assert all(width > 0 for width in widths)
    assert bool(widths) == (name != "successor--tiniest")


@pytest.mark.parametrize("name", PAGES)
def test_no_page_scrolls_sideways_on_a_phone(
    browser: sync_api.Browser, report: Path, name: str
) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    _open(page, report, name)
    page.evaluate(
        "document.querySelectorAll('details.fold').forEach((fold) => { fold.open = true; })"
    )
    width = page.evaluate("document.documentElement.scrollWidth")
    page.locator("details.menu summary").click()
    with_menu = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert (width, with_menu) == (390, 390)


def test_a_heading_sorts_numbers_with_undefined_last_both_ways(
    page: sync_api.Page, report: Path
) -> None:
    _open(page, report, "index")
    heading = page.locator("#suites th", has_text=re.compile("^sage$")).first
    place = heading.evaluate("(element) => element.cellIndex")
    heading.locator("button").click()
    falling = page.evaluate(COLUMN, place)
    assert heading.get_attribute("aria-sort") == "descending"
    heading.locator("button").click()
    rising = page.evaluate(COLUMN, place)
    assert heading.get_attribute("aria-sort") == "ascending"
    numbers = [value for value in falling if not value.startswith("undefined")]
    assert len(numbers) > 2
    assert numbers == sorted(numbers, key=float, reverse=True)
    assert [value for value in rising if not value.startswith("undefined")] == numbers[::-1]
    for shown in (falling, rising):
        undefined = [value.startswith("undefined") for value in shown]
        assert undefined == sorted(undefined)
        assert undefined[-1]


def test_the_keyboard_sorts_too_and_one_heading_at_a_time(
    page: sync_api.Page, report: Path
) -> None:
    _open(page, report, "index")
    first = page.locator("#suites table").first
    first.locator("th button", has_text="suite").focus()
    page.keyboard.press("Enter")
    names = [name.partition(" on the nodes of ")[0] for name in page.evaluate(COLUMN, 1)]
    assert names == sorted(names, key=str.lower)
    first.locator("th button", has_text="L0").focus()
    page.keyboard.press("Space")
    assert first.locator("th[aria-sort]").count() == 1
    assert first.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_a_long_table_is_searched_by_words(page: sync_api.Page, report: Path) -> None:
    """Rows stay that hold every word, whatever its capitals; short tables have no search."""
    _open(page, report, "index")
    table = page.locator("#suites .table").first
    rows = table.locator("tbody tr")
    assert rows.count() >= 8
    table.locator("input[type=search]").fill("TOPK tiny")
    texts = [text.lower() for text in rows.all_inner_texts()]
    visible = [rows.nth(number).is_visible() for number in range(len(texts))]
    assert visible == ["topk" in text and "tiny" in text for text in texts]
    assert 0 < sum(visible) < len(texts)
    assert f"{sum(visible)} of {len(texts)} rows" in table.locator("[role=status]").inner_text()
    table.locator("input[type=search]").fill("")
    assert all(rows.nth(number).is_visible() for number in range(len(texts)))


def test_the_headline_is_seen_on_a_phone_without_scrolling(
    page: sync_api.Page, report: Path
) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    for name in ("index", "ioi--tiny"):
        _open(page, report, name)
        heading = page.locator("th", has_text=re.compile("^sage$")).first
        box = heading.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390


def test_paper_shows_what_is_folded_and_no_navigation(page: sync_api.Page, report: Path) -> None:
    _open(page, report, "ioi--tiny")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    folded = page.evaluate(
        "Array.from(document.querySelectorAll('details.fold'), (fold) => fold.open)"
    )
    page_has_bar = page.locator("header.bar").is_visible()
    page.emulate_media(media="screen")
    assert folded
    assert all(folded)
    assert not page_has_bar
