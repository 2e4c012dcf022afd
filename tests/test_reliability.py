"""docs/reliability.md states how many cases were tried: every number there comes from the tests.

A mark, an HTML comment behind the number that no reader sees, says which: "10<!-- test_name -->" for the cases of a
test (a test of hypothesis counts its examples), "200<!-- test_file.py -->" for those of a file, and "4<!-- words -->"
for a sweep in a test, which calls the fixture documented("words", 4).
"""

import re

import conftest
from project import ROOT

TEXT = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
CASES = [row.split("|")[3] for row in TEXT.splitlines() if row.count("|") == 4][2:]  # the last column of the table
TESTS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
SOURCE = "\n".join(TESTS.values())


def test_every_number_has_a_mark():
    assert len(CASES) > 25
    for cases in CASES:
        unmarked = re.sub(r"[\d,]+<!-- [\w. ]+ -->|`[^`]*`", "", cases)
        assert re.search(r"\d", unmarked) is None, cases
        assert "<!--" not in unmarked, cases


def test_every_mark_is_of_something():
    marks = conftest.marked_numbers(TEXT)
    assert len(marks) > 12
    for mark in marks:
        known = mark in TESTS or f"def {mark}(" in SOURCE or f'documented("{mark}", ' in SOURCE
        assert known, f"docs/reliability.md: no test is, or documents, {mark}"


def test_the_numbers_are_those_of_the_tests(request):
    """Of the tests that this run of pytest has collected, whether it runs them or not."""
    counted = request.config.stash[conftest.CASES]
    marks = conftest.marked_numbers(TEXT)
    stated = {mark: number for mark, number in marks.items() if mark in counted}
    assert stated == {mark: counted[mark] for mark in stated}
