"""docs/reference/situations.md: every situation of it has a test, and every named test exists."""

from __future__ import annotations

import re

import pytest

from tests.fixtures import REPOSITORY

PAGE = (REPOSITORY / "docs" / "reference" / "situations.md").read_text()
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `(tests/[^`]+)` \|$", PAGE, re.MULTILINE)


def test_there_are_at_least_forty_and_none_twice():
    situations = [row[0] for row in ROWS]
    assert len(situations) >= 40
    assert len(set(situations)) == len(situations)
    assert len(ROWS) == sum(line.startswith("| ") for line in PAGE.splitlines()) - 2 * PAGE.count("| situation |")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_test_exists(row):
    file, _, name = row[2].partition("::")
    name, _, case = name.partition("[")
    source = (REPOSITORY / file).read_text()
    assert re.search(rf"^def {name}\(", source, re.MULTILINE)
    assert not case or re.search(rf'"{re.escape(case.rstrip("]"))}"', source)
