"""The page of a run with every outcome in Chinese: what the suite says is Chinese, what it quotes is not."""

import dataclasses
import datetime
import html.parser
import re

import pytest

from harness.contract.tables import Waiver
from harness.language import speaking
from harness.report.evidence import evidence_from_records
from harness.report.merge import merged_runs
from harness.report.page import markdown_from_release, page_from_release
from harness.report.release import release_from_merged

# Names of products, commands in a sentence, and what stands in the made-up run as a tool or a person said it.
QUOTED = {
    *("AI CPU", "ONNX Runtime", "harness report", "harness sign", "harness verify", "Debian GNU"),
    *("atc refused model", "air drumming"),
}


WORDS = re.compile(r"(?<![\w-])[A-Za-z]{2,}(?: [A-Za-z]{2,})+(?![\w-])")


class Said(html.parser.HTMLParser):
    """What a page says: its texts and labels, without its commands, scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.silent = 0
        self.texts = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.silent += tag in ("code", "script", "style")
        names = ("aria-label", "data-label", "title", "data-match", "data-other", "data-none")
        self.texts += [value for name, value in attributes if name in names]

    def handle_endtag(self, tag):
        self.silent -= tag in ("code", "script", "style")

    def handle_data(self, data):
        if not self.silent:
            self.texts.append(data)


def english(texts):
    return {one for text in texts for one in WORDS.findall(text)}


@pytest.fixture(scope="module")
def decided(tmp_path_factory, thresholds, release_cells, run_maker, every_plan, strips_of):
    cell = release_cells[7]
    waiver = Waiver(
        cell=cell.id,
        check="accuracy",
        reason="NPU-17",
        issue="https://example.org/17",
        owner="mei",
        expires=datetime.date(2026, 12, 31),
    )
    expired = waiver.model_copy(update={"check": "parity", "expires": datetime.date(2026, 1, 31)})
    file = thresholds.file.model_copy(update={"waivers": (waiver, expired)})
    contract = dataclasses.replace(thresholds, file=file)
    plans = every_plan(release_cells) | {
        f"{cell.id}:accuracy": {"drop": 200, "clip": "{}.mp4", "strips": strips_of("0.mp4")},
    }
    run = run_maker(tmp_path_factory.mktemp("zh"), contract)("run", release_cells[:12], plans)
    merged = merged_runs([run])
    release = release_from_merged(merged, contract, datetime.date(2026, 11, 25))
    return release, evidence_from_records(merged.records.values(), [run])


def test_a_page_of_every_outcome_leaves_no_english_sentence(decided):
    with speaking("zh"):
        said = Said(page_from_release(*decided))
    assert english(said.texts) <= QUOTED
    outcomes = {line.outcome for line in decided[0].check_lines}
    assert len(outcomes) == 7


def test_the_test_would_find_a_sentence(decided):
    assert len(english(Said(page_from_release(*decided)).texts)) > 100


def test_the_summary_leaves_none_either_and_the_json_is_the_same(decided):
    release, _found = decided
    plain = release.text
    with speaking("zh"):
        text = re.sub(r"`[^`]*`", "", markdown_from_release(release))
        assert english([text]) <= QUOTED
        assert release.text == plain
