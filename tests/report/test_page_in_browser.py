"""The page as a person has it: opened as a file, in a browser, without a network."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from answer.recorded import record
from report.pages import content

from harness.answer.report import report as write
from harness.report.page import render

LABELS = [f"batch_size={2**place}" for place in range(40)]


@dataclass
class Opened:
    """A page in a browser, and what it complained of or asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def drawn(self) -> Any:
        """Return the chart once it is drawn."""
        self.page.locator("#curves").scroll_into_view_if_needed()
        chart = self.page.locator("#curves .chart svg")
        chart.wait_for()
        return chart

    def keys(self) -> int:
        """Return how many settings the chart's legend names."""
        return int(self.page.locator("#curves .legend button").count())

    def rows(self) -> list[str]:
        found: list[str] = self.page.locator("#table tbody tr:visible th").all_inner_texts()
        return found


@pytest.fixture(scope="module")
def browser(require: Callable[[object, str], None]) -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    require(path, "no Chromium is installed: the report cannot be opened in it")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    given = content(LABELS, epochs=4)
    page = render(replace(given, axes=(replace(given.axes[0], name="size"),)))
    path.write_text(page, encoding="utf-8")
    return path


_GO = """(fragment) => new Promise((done) => {
  history.replaceState(null, "", "#elsewhere");
  addEventListener("hashchange", () => setTimeout(done), { once: true });
  location.hash = fragment || "#";
})"""


@pytest.fixture(scope="module")
def load(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Open a file in a browser window of its own."""
    contexts: list[Any] = []

    def load(
        path: Path, fragment: str = "", *, width: int = 1400, scheme: str = "light", scripts: bool = True
    ) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        contexts.append(context)
        opened = Opened(page=context.new_page())
        bad = ("error", "warning")
        opened.page.on("console", lambda message: opened.errors.append(message.text) if message.type in bad else 0)
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.on("request", lambda request: opened.asked.append(request.url))
        opened.page.set_default_timeout(120_000)
        opened.page.goto(path.as_uri() + fragment)
        return opened

    yield load
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def visit(load: Callable[..., Opened], report: Path) -> Callable[..., Opened]:
    """Open the page, or go to another place in the one that is open, which is quicker and does the same."""
    shared: list[Opened] = []

    def visit(
        fragment: str = "", *, width: int = 1400, scheme: str = "light", scripts: bool = True, fresh: bool = False
    ) -> Opened:
        usual = (width, scheme, scripts, fresh) == (1400, "light", True, False)
        if usual and shared:
            shared[0].page.mouse.move(0, 0)
            shared[0].page.evaluate(_GO, fragment)
            return shared[0]
        opened = load(report, fragment, width=width, scheme=scheme, scripts=scripts)
        if usual:
            shared.append(opened)
        return opened

    return visit


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_the_page_draws_itself_without_a_network_and_without_an_error(
    visit: Callable[..., Opened], width: int, scheme: str
) -> None:
    opened = visit(width=width, scheme=scheme)
    opened.drawn()
    assert opened.errors == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    colour = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 22, 26)")


def test_a_point_says_what_it_is(visit: Callable[..., Opened]) -> None:
    opened = visit()
    opened.drawn().locator(".mark-symbol path").first.hover(force=True)
    tooltip = opened.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "batch_size=" in tooltip.inner_text()


def test_the_filter_holds_for_the_table_and_for_the_charts(visit: Callable[..., Opened]) -> None:
    opened = visit()
    opened.drawn()
    assert opened.keys() == 25
    assert "25 of 40 settings drawn" in opened.page.locator("#curves .below").inner_text()
    some = [label for label in LABELS if "size=6" in label]
    opened.page.fill("#words", "size=6")
    opened.page.locator("#count", has_text=f"{len(some)} of 40").wait_for()
    assert opened.rows() == some
    assert opened.keys() == len(some)
    assert opened.page.evaluate("location.hash") == "#&q=size%3D6"
    opened.page.click("#clear")
    assert len(opened.rows()) == 40


def test_settings_can_be_chosen_by_the_values_of_an_axis(visit: Callable[..., Opened]) -> None:
    opened = visit()
    opened.page.click("details.axis summary")
    opened.page.check("details.axis input >> nth=3")
    assert opened.rows() == ["batch_size=8"]
    again = visit(opened.page.evaluate("location.hash"))
    assert again.rows() == ["batch_size=8"]
    assert again.page.locator("details.axis .chosen-values").inner_text() == "batch_size=8"


def test_a_link_to_a_setting_shows_it(visit: Callable[..., Opened]) -> None:
    opened = visit("#setting-000000000026", fresh=True)
    row = opened.page.locator("tr.chosen")
    assert row.locator("th").inner_text() == LABELS[38]
    box = row.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 900
    opened.drawn()
    assert opened.page.locator("#curves .legend [aria-pressed=true]").inner_text() == LABELS[38]


def test_a_click_on_a_point_or_its_name_chooses_the_setting(visit: Callable[..., Opened]) -> None:
    opened = visit()
    chart = opened.drawn()
    chart.locator(".mark-symbol path").first.click(force=True)
    opened.page.locator("tr.chosen").wait_for()
    assert opened.page.evaluate("location.hash").startswith("#setting-")
    opened.page.locator("#curves .legend button >> nth=4").click()
    assert opened.page.locator("tr.chosen th").inner_text() == LABELS[4]
    assert opened.page.evaluate("document.activeElement.textContent") == LABELS[4]  # the keyboard goes on from there
    opened.page.keyboard.press("Escape")
    assert opened.page.locator("tr.chosen").count() == 0


def test_what_is_chosen_above_a_chart_is_drawn_and_kept_in_the_address(visit: Callable[..., Opened]) -> None:
    opened = visit()
    chart = opened.drawn()
    chart.get_by_text("time_s", exact=True).wait_for()
    opened.page.locator("#curves .choice span", has_text="epochs").click()
    opened.page.locator("#curves .chart svg").get_by_text("epoch", exact=True).wait_for()
    assert opened.page.evaluate("location.hash") == "#&curves.over=epoch"
    again = visit("#&curves.over=epoch", fresh=True)
    again.drawn().get_by_text("epoch", exact=True).wait_for()


def test_the_table_is_sorted_by_the_keyboard_too(visit: Callable[..., Opened]) -> None:
    opened = visit(fresh=True)
    button = opened.page.locator("#table thead button", has_text="Time")
    button.focus()
    opened.page.keyboard.press("Enter")
    opened.page.keyboard.press("Enter")
    assert opened.page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert opened.rows()[0] == LABELS[-1]


def test_dark_and_light_can_be_chosen_and_paper_is_light(visit: Callable[..., Opened]) -> None:
    opened = visit(fresh=True)
    opened.drawn()
    ink = "getComputedStyle(document.querySelector('#curves .chart svg text')).fill"
    light = opened.page.evaluate(ink)
    opened.page.click("#theme")
    opened.page.click("#theme")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    assert opened.page.evaluate(ink) != light
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.page.evaluate(ink) == light


def _reports(folder: Path) -> Iterator[Path]:
    """Yield the report of the run that is in the repository, of one with names that are hard to show, and the other."""
    example = Path(__file__).parents[2] / "results" / "example"
    if example.is_dir():
        yield write([str(example)], output=folder / "example.html", results=folder)
    long = ["x" * 200, 'line1\nline2\ttab, "x"', "<script>alert(1)</script>", "", "word " * 50]
    yield write([str(record(folder, "odd", names=long, repeats=2))], output=folder / "odd.html", results=folder)
    given = os.environ.get("HARNESS_TESTED_REPORT")
    if given:
        yield Path(given).resolve()


@pytest.mark.parametrize("width", [1280, 400])
def test_reports_of_real_runs_can_be_used_without_a_complaint(
    load: Callable[..., Opened], tmp_path: Path, width: int
) -> None:
    """The environment variable HARNESS_TESTED_REPORT may name one more report, of any run, that is to pass too."""
    for path in _reports(tmp_path):
        opened = load(path, width=width)
        page = opened.page
        page.locator("#curves").scroll_into_view_if_needed()
        page.locator("#curves .chart svg").wait_for()
        page.locator("#curves .chart .mark-symbol path").last.hover(force=True)
        page.locator("#vg-tooltip-element.visible").wait_for()
        page.mouse.move(0, 0)
        page.fill("#words", "no setting has this in its name")
        page.locator("#none").wait_for()
        page.click("#clear")
        link = page.locator("#table tbody th a").last
        link.click()
        page.locator("tr.chosen").wait_for()
        assert page.evaluate("location.hash") == link.get_attribute("href")
        for chart in page.locator(".chart").all():
            chart.scroll_into_view_if_needed()
            chart.locator("svg").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("body", has_text="could not be drawn, which").count() == 0
        assert opened.errors == []
        assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_without_scripts_all_settings_are_there(visit: Callable[..., Opened]) -> None:
    opened = visit(scripts=False)
    assert len(opened.rows()) == 40
    assert opened.page.locator("noscript .notice").is_visible()
    assert not opened.page.locator("#filter").is_visible()


def test_a_chart_can_be_saved_with_the_colours_that_it_has(visit: Callable[..., Opened]) -> None:
    opened = visit()
    opened.drawn()
    with opened.page.expect_download() as download:
        opened.page.locator("#curves .save").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert not re.search(r"var\(|light-dark\(", text)
    assert download.value.suggested_filename == "curves.svg"
