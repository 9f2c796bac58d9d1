"""Logged versions and references to their entries, as far as wandb needs no server for them.

wandb's draft is made to look logged (see wandb_driver.log); ours is logged to a store.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from intended import FILLING, REFERRING, agree, explained
from test_wandb_drafts import MADE, told
from wandb_peer import Peers

pytestmark = pytest.mark.timeout(900)  # the first time installs wandb


LOGGED = [MADE, *FILLING, "log(a)"]


def differing(peers: Peers, files: Path, statements: list[str]) -> str:
    """What differs and is not meant, for a person."""
    steps = peers.run(files, statements)
    return "\n".join(told(step) for step in steps if not agree(step) and explained(step) is None)


def test_a_logged_version_says_what_it_is(reference: Peers, store_files: Path) -> None:
    names = ["name", "version", "entity", "project", "qualified_name", "source_name", "source_version", "type"]
    statements = [
        *LOGGED,
        *(f"a.{name}" for name in [*names, "source_entity", "source_project", "source_qualified_name", "state"]),
        "a.is_draft()",
        "sorted(a.json_encode())",
        *(f"a.json_encode()[{key!r}]" for key in ("_type", "_version", "version", "sequenceName", "usedAs")),
        "a.json_encode()['id'] == a.id",
        "a.wait() is a",
        "a.wait(timeout=3) is a",
        "repr(a).startswith('<Artifact ')",
    ]
    assert not differing(reference, store_files, statements)


def test_a_logged_version_takes_no_more(reference: Peers, store_files: Path) -> None:
    statements = [
        *LOGGED,
        "a.add_file('one', 'other')",
        "a.add_dir('tree', 'd')",
        "a.add_reference('weird://host/k', 'n')",
        "write(a, 'n', 't')",
        "a.remove('x')",
        "a.remove('nothing')",
        "a.finalize()",
        "a.aliases = ['a/b']",
        "a.aliases = ['a:b']",
        "a.metadata = 3",
        "a.ttl = timedelta(0)",
    ]
    assert not differing(reference, store_files, statements)


def test_entries_are_found(reference: Peers, store_files: Path) -> None:
    statements = [
        *LOGGED,
        *(f"a.get_entry({path})" for path in ("'nothing'", "'sub'", "'X'", "'/x'", "'../x'", "''")),
        *(f"a.get_path({path})" for path in ("'nothing'", "'sub'")),
        *(f"a.get_entry({path!r}).path" for path in ("x", "sub/z", "none", "away", "./x", "./sub//z")),
        "a.get_path('x').path",
        "a.get_entry(Path('sub/z')).path",
        "a.get_entry('x').ref_url()",
        "a.get_entry('sub/z').ref_url()",
        "a.get_entry('x').ref_target()",
        "a.get_entry('x').parent_artifact() is a",
        "a.get_added_local_path_name('tree/x')",
        "a.get('nothing')",
        "a['nothing']",
    ]
    assert not differing(reference, store_files, statements)


def test_directories_are_verified(reference: Peers, store_files: Path) -> None:
    for name in ("right", "wrong", "less", "more"):
        (store_files / name / "sub").mkdir(parents=True)
        for path in ("x", "y", "sub/z", "sub/.h"):
            (store_files / name / path).write_bytes((store_files / "tree" / path).read_bytes())
    (store_files / "wrong" / "x").write_bytes(b"9")
    (store_files / "less" / "x").unlink()
    (store_files / "more" / "w").touch()
    verified = [f"a.verify({name!r})" for name in ("right", "wrong", "more", "less", "tree", "other")]
    assert not differing(reference, store_files, [MADE, "a.add_dir('tree')", "log(a)", *verified])


def test_a_single_file_is_asked_for(reference: Peers, store_files: Path) -> None:
    assert not differing(reference, store_files, [*LOGGED, "a.file()", "a.file('r')"])
    assert not differing(reference, store_files, ["a = Artifact('none', 't')", "log(a)", "a.file()"])


def test_new_drafts_hold_the_same(reference: Peers, store_files: Path) -> None:
    statements = [
        "a = Artifact('n', 't', 'words', {'k': [1]})",
        *FILLING,
        "log(a)",
        "a = a.new_draft()",
        *(f"a.{name}" for name in ("name", "type", "description", "metadata", "state", "id", "source_name", "ttl")),
        "a.version",
        "sorted(a.manifest.entries)",
        "a.add_file('two', 'x')",
        "a.remove('x')",
        "a.add_file('two', 'x')",
        "a.remove('sub')",
        "a.add_file('one', 'new')",
        "a.metadata['k'] = 2",
        "a.new_draft()",
    ]
    assert not differing(reference, store_files, statements)


def test_references_to_entries(reference: Peers, store_files: Path) -> None:
    """Of empty files: wandb writes a size of 0 for all of them."""
    statements = [
        *LOGGED,
        *REFERRING,
        "a.add_reference(b.get_entry('none'))",
        "a.add_reference(b.get_entry('none'), 'd/again')",
        "a.add_reference(b.get_entry('none').ref_url(), name='url')",
        "a.add_reference(b.get_entry('none'), Path('path'), False, 1)",
        "a.manifest.entries['url'].ref_target()",
        "a.manifest.entries['url'].local_path",
        "a.add_file('empty', 'url')",
        "a.add_file('one', 'url')",
        "a.remove('d')",
        "log(a)",
        "c = a",
        "a = Artifact('k', 't')",
        "a.add_reference(c.get_entry('path'), 'resolved')",
        "a.add_reference(c.get_entry('path').ref_url(), 'resolved too')",
        "a.add_reference(c.get_entry('path').ref_url())",
        "a.digest",
    ]
    assert not differing(reference, store_files, statements)
