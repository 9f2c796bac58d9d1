"""The mount behaves as a read-only local file system does: every row of the conformance table, on both sides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from conformance import ORDINARY, Table, subjects
from conformance_differences import DIFFERENCES, differing
from conftest import BOTH_MODES, Mounting


def test_the_table_is_large_and_every_row_has_its_name() -> None:
    rows = [row for listed in subjects().values() for row in listed]
    assert len(rows) > 2000
    assert [name for name, count in Counter(row.name for row in rows).items() if count > 1] == []


def test_what_may_differ_is_listed_once_and_in_the_table() -> None:
    names = {row.name for listed in subjects().values() for row in listed}
    for mode in BOTH_MODES:
        for uid in (0, ORDINARY):
            listed = Counter(
                row
                for difference in DIFFERENCES
                if uid in difference.uids and mode in difference.modes
                for row in difference.rows
            )
            assert set(listed) <= names
            assert [row for row, count in listed.items() if count > 1] == []


def test_the_reasons_are_those_of_the_readme() -> None:
    text = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
    table = text.partition("### Where it differs from a local file system")[2].partition("\n#")[0]
    told = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    assert told == list(dict.fromkeys(difference.reason for difference in DIFFERENCES))


@pytest.mark.parametrize("mode", BOTH_MODES)
def test_every_row_as_locally(table: Table, mounting: Mounting, mode: str) -> None:
    """As root and as an ordinary user."""
    mount = mounting(table.store, mode=mode)
    for uid in (0, ORDINARY):
        assert differing(table, mount.path, mode, uid) == {}, f"as {uid}"
    assert "answered" not in mount.log()  # none of it was a failure
