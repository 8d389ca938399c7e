from pathlib import Path

from harness.report.release import signoff_schema

SCHEMA = Path(__file__).parents[2] / "docs" / "signoff.schema.json"


def test_the_published_schema_is_that_of_the_code():
    assert SCHEMA.read_text("utf-8") == signoff_schema()
