from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report.pages import Page, content, everywhere

from harness.report import page
from harness.report.content import Content
from harness.report.page import finite, render, rounded

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\"><img src=x onerror='alert(1)'>",
    "a, 'b'\n\"c\"; {{ 7 * 7 }} {% raw %} &amp; \\u003c",
    "x" * 200,
    "größer ≥ 0.9 · 数",
]


def shown(given: Content) -> Page:
    page = Page(render(given))
    assert page.wrong == []
    return page


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_ever_markup(text: str) -> None:
    page, plain = shown(everywhere(text)), shown(everywhere("plain"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert text in page.text
    assert page.data["settings"][0]["label"] == text
    assert page.data["axes"][0]["name"] == text


def test_only_the_pages_own_two_scripts_may_run() -> None:
    page = shown(content(["a"]))
    (policy,) = [given["content"] for _, given in page.tags if given.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    running = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    assert len(running) == 2
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert scripts == "script-src " + " ".join(f"'sha256-{digest}'" for digest in digests)
    assert policy.startswith("default-src 'none';")


def test_nothing_is_loaded_from_anywhere() -> None:
    page = shown(everywhere("https://example.org/x.js"))
    for tag, given in page.tags:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base"}
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            assert (given.get(name) or "#").startswith("#"), (tag, given)
        assert not any(name.startswith("on") for name in given)
    styles = page.html[page.html.index("<style>") : page.html.index("</style>")]
    assert "url(" not in styles
    assert "@import" not in styles


def test_each_setting_has_a_row_that_can_be_linked_to() -> None:
    page = shown(content(["a", "b"]))
    rows = [given["id"] for tag, given in page.tags if tag == "tr" and "id" in given]
    assert rows == ["setting-000000000000", "setting-000000000001"]
    links = [given["href"] for tag, given in page.tags if tag == "a"]
    assert {f"#{row}" for row in rows} <= set(links)


def test_links_of_the_page_lead_somewhere() -> None:
    page = shown(everywhere("a"))
    places = [given["id"] for _, given in page.tags if "id" in given]
    assert len(places) == len(set(places))
    assert {(given["href"] or "").removeprefix("#") for tag, given in page.tags if tag == "a"} <= set(places)


def test_a_page_without_settings_charts_or_failures_is_whole() -> None:
    page = shown(content([], figures=(), datasets={}))
    assert "Failures" not in page.text
    assert page.data["figures"] == {}


def test_a_column_that_several_data_sets_have_is_stored_once() -> None:
    frame = pd.DataFrame({"key": ["a", "b"], "value": [1.5, math.nan]})
    one = shown(content(["a"], datasets={"one": frame}))
    two = shown(content(["a"], datasets={"one": frame, "two": frame.assign(other=[1, 2])}))
    cells = [[json.loads(text) for given, text in page.scripts if "data-cells" in given] for page in (one, two)]
    assert cells[0] == [["a", "b"], [0, 1], [1.5, None]]
    assert cells[1] == [*cells[0], [1, 2]]


def test_numbers_keep_five_digits_and_no_more() -> None:
    given = np.array([0.1234567, 123456.789, 1e-12 / 3, 0.3, 2.0, 0.0, -0.0004567891, math.nan, math.inf])
    assert rounded(given) == [0.12346, 123460, 3.3333e-13, 0.3, 2, 0, -0.00045679, None, None]


def test_what_json_cannot_hold_is_null_or_text() -> None:
    assert finite({"a": [math.nan, np.float64(1.5), pd.NA, True, pd.Timestamp("2026-01-01")]}) == {
        "a": [None, 1.5, None, True, "2026-01-01 00:00:00"]
    }


def test_a_setting_that_no_choice_of_an_axis_names_is_on_the_page_all_the_same() -> None:
    page = shown(content([f"setting {place}" for place in range(40)]))
    assert page.data["settings"][-1]["axes"] == [-1]


def test_the_script_of_the_charts_is_kept_and_never_taken_from_a_file_that_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[str] = []
    monkeypatch.setattr(page, "_bundle", lambda: [made.append("made"), "the script"][1])
    fetch = page._charts.__wrapped__
    assert [fetch(), fetch()] == ["the script"] * 2
    assert made == ["made"]
    (kept,) = (tmp_path / "harness").iterdir()
    kept.write_text(kept.read_text()[:-1])
    assert fetch() == "the script"
    assert len(made) == 2
