"""What a page says of its signature, opened from disk in headless Chromium."""

import contextlib
import hashlib

import pytest

from harness.report.page import page_from_release
from harness.report.signature import STYLE, Signature, signed_page, style

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def release(make_run, release_cells, decide):
    return decide(make_run("run", release_cells[:1]))


@pytest.fixture
def state(browser, release, tmp_path):
    """Sign a page and return what it says, given what is written beside it."""
    page = page_from_release(release, {})
    signature = Signature(HOSTILE, "ab" * 32, "2027-11-26", "2026-11-26 10:00 UTC", "attestation")
    (tmp_path / "signoff.html").write_text(signed_page(page, signature), "utf-8")
    (tmp_path / "attestation").mkdir()

    def said(content):
        if content is not None:
            (tmp_path / "attestation" / STYLE).write_text(content)
        with contextlib.closing(browser.new_context(offline=True)) as context:
            tab = context.new_page()
            tab.goto((tmp_path / "signoff.html").as_uri())
            assert tab.locator("img").count() == 0
            assert HOSTILE in tab.locator("#signature").inner_text()
            return tab.locator("#signature-state").inner_text()

    return said


def test_an_unsigned_page_says_so_and_a_run_report_is_never_signed(release):
    assert "Anybody could have changed this page" in page_from_release(release, {})
    report = release.model_copy(update={"decision": "RUN REPORT"})
    page = page_from_release(report, {})
    assert "A run report cannot be signed" in page
    assert "<!--signature-->" not in page


def test_the_page_tells_whether_it_is_of_the_decision_that_was_signed(state, release):
    digest = hashlib.sha256(release.text.encode()).hexdigest()
    assert "so nothing was compared" in state(None)
    assert state(style(digest)) == "The decision on this page is the one that was signed."
    assert state(style("0" * 64)).startswith("THIS PAGE DOES NOT SHOW THE SIGNED DECISION")
