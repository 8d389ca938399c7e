"""The sign-off page in headless Chromium, opened from disk."""

import contextlib
import re

import pytest
from axe_playwright_python.sync_playwright import Axe

CELL = "nonlocal_r50-ascend310-bs4"


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
    for name in ("Why not", "Required and run", "Waivers"):
        box = page.get_by_role("heading", name=name, exact=True).bounding_box()
        assert box["y"] + box["height"] <= 900
    assert page.locator("ul.reasons .tag").first.inner_text().lower() == "not run"


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
    assert {"pass", "fail", "error", "invalid", "inconclusive", "not run", "waived"} == found


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
    page = open_page()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("#filters").is_visible()
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
        assert page.locator("script").count() == 1
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
