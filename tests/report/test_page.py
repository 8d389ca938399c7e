"""The sign-off page in headless Chromium, opened from disk."""

import contextlib
import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from harness import registry
from harness.language import speaking
from harness.report import views
from harness.report.formats import estimate
from harness.report.page import page_from_release
from harness.report.table_values import VariantRow
from harness.report.values import CellLine
from tests.bare_onnx import slow_fast_spec

CELL = "nonlocal_r50-ascend310-bs4"
TINY = registry.model_spec("nonlocal_tiny")


@pytest.fixture
def open_page(browser, site):
    """Return what opens the page at a fragment; errors and requests end the test."""
    with contextlib.ExitStack() as stack:

        def opened(fragment="", **options):
            context = stack.enter_context(
                contextlib.closing(browser.new_context(offline=True, **options))
            )
            page = context.new_page()
            page.errors, page.requests = [], []
            page.on("console", lambda message: page.errors.append(message.text))
            page.on("pageerror", lambda error: page.errors.append(str(error)))
            page.on("request", lambda request: page.requests.append(request.url))
            page.goto((site / "signoff.html").as_uri() + fragment)
            return page

        yield opened


def after_hashchange(page, act):
    """Do what follows a link, and wait until the page has followed it."""
    page.evaluate(
        "void (window.followed = new Promise("
        "(done) => addEventListener('hashchange', () => setTimeout(done), { once: true })))"
    )
    act()
    page.evaluate("window.followed")


def shown(page):
    return page.locator("details.cell:visible").count()


def test_opens_from_disk_without_an_error_or_a_request(open_page, site):
    page = open_page()
    assert page.errors == []
    asked = [url for url in page.requests if not url.startswith("data:")]
    assert asked == [(site / "signoff.html").as_uri()]
    assert page.title().startswith("DO NOT SHIP")


def test_the_first_screen_says_it_all(open_page):
    page = open_page(viewport={"width": 1280, "height": 900})
    heading = page.get_by_role("heading", level=1)
    assert heading.inner_text().endswith("DO NOT SHIP")
    assert "Not yet: " in page.locator("#decision").inner_text()
    for name in ("What to do", "What was seen", "Waivers"):
        box = page.get_by_role("heading", name=name, exact=True).bounding_box()
        assert box["y"] + box["height"] <= 900
    tasks = page.locator("ul.tasks > li summary").all_inner_texts()
    assert tasks[0].startswith("1 check needs an Ascend 310")
    assert not page.locator("ul.tasks details[open]").count()


def test_a_task_copies_its_command(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the command: 1 check is not decided").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("pytest acceptance -m 'ascend310 and throughput' --tier release")
    assert copied.endswith("--budget-minutes 10")


def test_what_did_not_run_is_first_in_the_matrix(open_page):
    rows = open_page().locator(".matrix tbody tr").all_inner_texts()
    gaps = ["not run" in row for row in rows if "yes" in row.split()]
    assert any(gaps)
    assert not all(gaps)
    assert gaps == sorted(gaps, reverse=True)


def test_outcomes_are_words_and_not_colour_alone(open_page):
    page = open_page()
    words = set(page.locator(".matrix td .o").all_inner_texts())
    found = {word.split(maxsplit=1)[1] for word in words}
    assert found == {
        *("pass", "fail", "error", "invalid", "inconclusive", "not run", "no device", "waived")
    }


def test_filters_by_device_model_and_outcome(open_page):
    page = open_page()
    every = shown(page)
    page.get_by_role("combobox", name="Device").select_option("ascend310p")
    assert 0 < shown(page) < every
    assert page.locator("details.cell:visible[data-device=ascend310p]").count() == shown(page)
    page.get_by_role("combobox", name="Model").select_option("timesformer")
    assert shown(page) == 1
    assert page.get_by_role("status").inner_text() == f"1 of {every} cells shown"
    page.get_by_role("button", name="Show all").click()
    page.get_by_role("combobox", name="Outcome").select_option("inconclusive")
    assert shown(page) == 1
    assert page.locator(".matrix tbody tr:visible").count() == 1
    assert page.errors == []


def test_the_export_shows_what_the_device_model_says_of_itself(open_page):
    page = open_page(f"#{CELL}:export")
    facts = page.locator(f"details#{CELL}").inner_text()
    assert re.search(r"AI-CPU operators\s+Softmax_3", facts)


def test_a_filter_is_a_link(open_page):
    page = open_page()
    page.get_by_role("combobox", name="Device").select_option("cuda")
    fragment = page.evaluate("location.hash")
    assert fragment == "#device=cuda"
    again = open_page(fragment)
    assert again.get_by_role("combobox", name="Device").input_value() == "cuda"
    assert shown(again) == shown(page)
    assert shown(open_page("#device=nothing")) == shown(open_page())


@pytest.mark.parametrize("fragment", [CELL, f"{CELL}:accuracy"])
def test_deep_links_open_what_they_name(open_page, fragment):
    page = open_page(f"#{fragment}")
    assert page.locator(f"details#{CELL}").evaluate("cell => cell.open")
    box = page.locator(f"[id='{fragment}']").bounding_box()
    assert -5 <= box["y"] <= page.viewport_size["height"]


def test_how_the_host_was_stands_beside_each_session(open_page):
    page = open_page(f"#{CELL}:throughput")
    part = page.locator(f"details#{CELL}").get_by_role("heading", name="Around the sessions")
    sessions = part.locator("xpath=following-sibling::ol[1]").get_by_role("listitem")
    texts = sessions.all_inner_texts()
    assert texts == [f"host: load {number}.00 before <b>" for number in range(len(texts))]
    assert len(texts) >= 2


def test_a_deep_link_shows_a_cell_that_the_filter_hides(open_page):
    page = open_page("#device=cuda")
    page.evaluate(f"location.hash = '{CELL}'")
    page.wait_for_function(f"document.getElementById('{CELL}').open")
    assert page.locator(f"details#{CELL}").is_visible()


def test_a_link_that_cannot_be_read_changes_nothing(open_page):
    page = open_page("#%E0%A4%A")
    assert page.errors == []
    assert shown(page) == page.locator("details.cell").count()


def test_the_matrix_leads_to_the_check(open_page):
    page = open_page()
    link = page.locator(".matrix").get_by_role("link", name="inconclusive")
    target = link.get_attribute("href").removeprefix("#")
    after_hashchange(page, link.click)
    assert page.locator(f"[id='{target}']").is_visible()
    assert page.evaluate("document.activeElement.id") == target


def test_works_by_keyboard(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    after_hashchange(page, lambda: page.keyboard.press("Enter"))
    assert page.evaluate("document.activeElement.id") == "cells"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")


def test_opens_and_closes_all_cells(open_page):
    page = open_page()
    page.get_by_role("button", name="Open or close all").click()
    assert page.locator("details.cell[open]").count() == shown(page)
    page.get_by_role("button", name="Open or close all").click()
    assert page.locator("details.cell[open]").count() == 0


def test_prints_everything(open_page):
    # A4 within margins of 10 mm.
    page = open_page(viewport={"width": 718, "height": 1000})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("#filters").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.locator(".matrix thead").bounding_box()["height"] > 10
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.cell[open]").count() == 0


@pytest.mark.parametrize("is_open", [False, True])
def test_fits_a_phone(open_page, is_open):
    page = open_page(viewport={"width": 360, "height": 740})
    if is_open:
        page.get_by_role("button", name="Open or close all").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_no_violation(open_page, scheme, width):
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    # One cell of each kind: axe looks at each of thousands of elements, and the others are alike.
    page.evaluate(
        """for (const cell of document.querySelectorAll("details.cell")) {
             if (!cell.textContent.includes("taken for") && !cell.querySelector(".frames"))
               cell.remove();
           }
           document.querySelectorAll("details.cell ~ details.cell ~ details.cell ~ details.cell")
             .forEach((cell) => cell.remove());
           document.querySelectorAll("details").forEach((one) => { one.open = true; });"""
    )
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_two_schemes_differ(open_page):
    colours = {
        open_page(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    }
    assert len(colours) == 2


class TestHostileNames:
    def test_nothing_of_them_runs(self, open_page):
        page = open_page()
        assert page.title().startswith("DO NOT SHIP")
        assert page.locator("script:not([type])").count() == 1
        assert page.locator("img").count() == 0
        assert page.errors == []

    def test_they_are_text(self, open_page, hostile):
        page = open_page()
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        seen = page.locator("body").inner_text()
        for name in hostile:
            assert re.sub(r"\s+", " ", name) in re.sub(r"\s+", " ", seen)

    def test_a_cell_of_a_hostile_model_has_a_link_that_works(self, open_page, hostile):
        page = open_page()
        link = page.locator(".matrix").get_by_role("link", name=hostile[0])
        after_hashchange(page, link.click)
        assert page.locator("details.cell[open]").count() == 1

    def test_they_do_not_break_the_summary(self, site):
        text = (site / "signoff.md").read_text("utf-8")
        assert "<script>" not in text
        assert "<img" not in text
        assert len(text.encode()) < 2**20


def test_what_is_not_decided_not_run_and_failed_differ_without_colour(open_page):
    page = open_page()
    looks = {
        word: page.locator(f".matrix td.b-{word}").first.evaluate(
            "cell => { const style = getComputedStyle(cell); "
            "return style.backgroundImage + style.borderLeftWidth + style.borderLeftStyle; }"
        )
        for word in ("pass", "fail", "inconclusive", "not-run")
    }
    assert len({*looks.values()}) == len(looks)


def test_words_that_need_it_are_explained_below_the_matrix(open_page):
    words = open_page().locator("#matrix ~ dl dt").all_inner_texts()
    assert {"inconclusive", "invalid", "waived", "not run", "no device"} == {*words}


def test_the_matrix_is_a_card_a_cell_on_a_phone(open_page):
    page = open_page(viewport={"width": 390, "height": 844})
    row = page.locator(".matrix tbody tr").first
    boxes = [one.bounding_box() for one in row.locator("td").all()]
    assert len({box["x"] for box in boxes}) == 1
    assert all(box["x"] + box["width"] <= 390 for box in boxes)
    labels = row.locator("td").evaluate_all("all => all.map(one => one.dataset.label)")
    assert labels == ["Required", "export", "parity", "accuracy", "throughput"]


@pytest.mark.parametrize(
    "table",
    [
        ".findings",
        "#versions ~ div table",
        "#accuracy ~ div table",
        "#throughput ~ div table.stack",
    ],
)
def test_a_table_of_numbers_is_a_list_on_a_phone(open_page, table):
    page = open_page("#nonlocal_r50-ascend310-bs4:accuracy", viewport={"width": 390, "height": 844})
    row = page.locator(f"{table}:visible tbody tr").first
    boxes = [one.bounding_box() for one in row.locator("td:visible").all()]
    assert len(boxes) > 3
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    assert all(row.locator("td").evaluate_all("all => all.map(one => one.dataset.label)"))


def test_a_device_that_no_run_had_is_one_folded_row(
    browser, make_run, release_cells, decide, tmp_path
):
    here = [cell for cell in release_cells if cell.device == "cpu"]
    release = decide(make_run("run", here))
    (tmp_path / "page.html").write_text(page_from_release(release, {}), "utf-8")
    with contextlib.closing(browser.new_context(offline=True)) as context:
        page = context.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        assert page.locator(".matrix tbody tr").count() == len(here) + len(
            {cell.device for cell in release_cells} - {"cpu"}
        )
        row = page.locator(".matrix tr.absent[data-device=ascend310]")
        cells = [cell.id for cell in release_cells if cell.device == "ascend310"]
        assert f"{len(cells)} cells" in row.inner_text()
        row.locator("summary").click()
        assert row.get_by_role("link").all_inner_texts() == cells


def test_an_estimate_has_the_digits_of_its_interval():
    assert estimate(3.0961, 2.9591, 3.2381) == "3.10 (2.96 to 3.24)"
    assert estimate(0.9938, 0.9818, 0.9979, 100.0) == "99.38 (98.18 to 99.79)"
    assert estimate(1234.5, 1100.0, 1400.0) == "1234 (1100 to 1400)"
    assert estimate(2.0, 2.0, 2.0) == "2.0000 (2.0000 to 2.0000)"


def test_a_gear_stands_beside_the_plain_build(make_run, release_cells, decide):
    release = decide(make_run("run", release_cells[:1]))
    assert "Precisions and gears" not in page_from_release(release, {})
    row = VariantRow(
        model="m",
        device="ascend310p",
        batch=4,
        precision="gears",
        per_s=90.0,
        plain_per_s=100.0,
        ratio=0.9,
    )
    tables = release.tables.model_copy(update={"variants": (row,)})
    page = page_from_release(release.model_copy(update={"tables": tables}), {})
    assert re.search(r">90</td><td[^>]*>100</td><td[^>]*>0.9</td>", page)


def test_a_bare_file_is_named_where_pytorch_would_be(monkeypatch):
    monkeypatch.setattr(registry, "model_names", lambda: ("slow_fast", "nonlocal_tiny"))
    monkeypatch.setattr(
        registry, "model_spec", {"slow_fast": slow_fast_spec(), "nonlocal_tiny": TINY}.get
    )
    bare, tiny, gone = (
        CellLine.model_construct(model=name) for name in ("slow_fast", "nonlocal_tiny", "gone")
    )
    assert views.beside("PyTorch was not compared.", bare) == "The ONNX file was not compared."
    assert views.beside("PyTorch", tiny) == views.beside("PyTorch", gone) == "PyTorch"
    with speaking("zh"):
        assert "ONNX" in views.beside("PyTorch", bare)


def test_what_is_timed_under_a_name_is_explained_once():
    found = views.timed(["e2e.per_s", "latency_p50_ms", "e2e.per_s", "top1.kinetics400-19796"])
    assert [*found] == ["e2e", "latency_p50_ms"]
