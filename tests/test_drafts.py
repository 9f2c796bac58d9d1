"""drafts.py: what is on disk at every moment, and who may touch it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from artifactfs import drafts as drafts_module
from artifactfs.digest import DigestAlgorithm
from artifactfs.drafts import Drafts, KeptDraft
from artifactfs.errors import MissingBlobError, NoSpaceError, NotFoundError, UnavailableError
from artifactfs.staging import Staging

SET = ("me", "demo", "set")
LARGE = bytes(range(256)) * 2000


@pytest.fixture
def drafts(tmp_path: Path) -> Drafts:
    return Drafts(str(tmp_path / "drafts"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of the draft."""
    return tmp_path.joinpath("drafts", *SET)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "small").write_text("alpha\n")
    (folder / "large").write_bytes(LARGE)
    return folder


def begin(drafts: Drafts) -> KeptDraft:
    return drafts.create(*SET, "dataset", DigestAlgorithm.BLAKE3)


def saved(drafts: Drafts, files: Path) -> None:
    with begin(drafts) as kept:
        kept.draft.add_dir(files)
        kept.save()


def checked(kept: KeptDraft) -> list[str]:
    """Check the draft as for a log, with a store that holds nothing; the entries whose bytes are there."""
    kept.check(lambda _: {})
    staging = kept.draft.staging()
    return sorted(entry.path for entry in kept.draft.manifest.in_order() if entry.blob in staging)


def test_everything_is_durable_before_the_draft_names_it(
    drafts: Drafts, files: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def note_rename(source: str, target: str) -> None:
        if target == str(place / "draft.json"):
            staged = {str(path) for path in (place / "bytes").iterdir()}
            assert len(staged) == 2
            assert staged | {str(place / "bytes"), source} <= set(synced)
            synced.clear()
        rename(source, target)

    with begin(drafts) as kept:
        kept.draft.add_dir(files)
        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(os, "rename", note_rename)
        kept.save()
    assert synced == [str(path) for path in (place, *list(place.parents)[:3])]


@pytest.mark.parametrize("change", ["shorter", "other bytes", "gone"])
def test_a_large_file_that_is_not_what_was_staged(
    change: str, drafts: Drafts, files: Path, place: Path, tmp_path: Path
) -> None:
    saved(drafts, files)
    (blob,) = (place / "bytes").glob("*.blob")
    if change == "shorter":
        os.truncate(blob, 1000)
    elif change == "gone":
        blob.unlink()
    else:
        blob.write_bytes(bytes(len(LARGE)))
    with drafts.open(*SET) as kept, pytest.raises(MissingBlobError, match=r"lost the bytes of 'large'; .*add"):
        checked(kept)
    with drafts.open(*SET) as kept:
        kept.draft.add_file(files / "large")
        assert checked(kept) == ["large", "small"]


def test_staged_blobs_are_read_when_they_are_logged_only(
    drafts: Drafts, files: Path, place: Path, tmp_path: Path
) -> None:
    saved(drafts, files)
    (pack,) = (place / "bytes").glob("*.pack")
    data = pack.read_bytes()
    assert data.count(b"alpha") == 1
    pack.write_bytes(data.replace(b"alpha", b"ALPHA"))
    with drafts.open(*SET) as kept:
        kept.save()
        assert pack.exists()
        with pytest.raises(MissingBlobError, match="lost the bytes of 'small'"):
            checked(kept)
    with drafts.open(*SET) as kept:
        kept.draft.add_file(files / "small")
        assert checked(kept) == ["large", "small"]


def test_what_a_command_staged_that_died_is_not_relied_on(
    drafts: Drafts, files: Path, place: Path, tmp_path: Path
) -> None:
    saved(drafts, files)
    other = tmp_path / "other"
    other.write_bytes(LARGE[::-1])
    with drafts.open(*SET) as kept:
        entry = kept.draft.add_file(other)
    staged = place / "bytes" / f"{(entry.blob or b'').hex()}.blob"
    staged.write_bytes(bytes(len(LARGE)))  # a power cut, before it was durable
    with drafts.open(*SET) as kept:
        assert not staged.exists()
        kept.draft.add_file(other)
        assert checked(kept) == ["large", "other", "small"]
        assert staged.read_bytes() == LARGE[::-1]


def test_what_was_removed_takes_no_room(drafts: Drafts, files: Path, place: Path) -> None:
    saved(drafts, files)
    with drafts.open(*SET) as kept:
        kept.draft.remove("large")
        kept.draft.remove("small")
        kept.save()
    drafts.open(*SET).close()
    assert list((place / "bytes").iterdir()) == []


def test_a_full_disk_leaves_the_draft(
    drafts: Drafts, files: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(drafts, files)
    before = (place / "draft.json").read_bytes()

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", source, None, target)

    with drafts.open(*SET) as kept:
        kept.draft.remove("small")
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", full)
            with pytest.raises(NoSpaceError):
                kept.save()
    assert (place / "draft.json").read_bytes() == before
    assert sorted(os.listdir(place)) == ["bytes", "bytes.lock", "draft.json"]


@pytest.mark.parametrize("moment", ["before the bytes go", "after the lock is gone"])
def test_a_draft_that_is_begun_while_another_is_discarded(
    moment: str, drafts: Drafts, files: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(drafts, files)
    rmtree, discard = shutil.rmtree, Staging.discard
    outcomes: list[str] = []

    def another() -> None:
        try:
            saved(drafts, files)
            outcomes.append("saved")
        except UnavailableError:
            outcomes.append("refused")

    def late_rmtree(path: str, **options: Any) -> None:
        if moment == "before the bytes go" and not outcomes:
            another()
        rmtree(path, **options)

    def early_discard(staging: Staging) -> None:
        discard(staging)
        if moment == "after the lock is gone" and not outcomes:
            another()

    monkeypatch.setattr(shutil, "rmtree", late_rmtree)
    monkeypatch.setattr(Staging, "discard", early_discard)
    with drafts.open(*SET) as kept:
        kept.discard()
    if moment == "before the bytes go":
        assert outcomes == ["refused"]
        assert not place.exists()
    else:
        assert outcomes == ["saved"]
        with drafts.open(*SET) as kept:
            assert checked(kept) == ["large", "small"]


def test_a_directory_that_goes_before_the_lock_is_made(
    drafts: Drafts, files: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mkdir(parents=True)
    real = os.open
    gone: list[str] = []

    def late_open(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if path == str(place / "bytes.lock") and not gone:
            gone.append(path)
            place.rmdir()  # as a discard does at its end
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", late_open)
    saved(drafts, files)
    assert gone
    assert drafts.exists(*SET)


def test_a_draft_that_is_gone_once_the_lock_is_held(
    drafts: Drafts, files: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(drafts, files)

    def late(*given: Any, **options: Any) -> Staging:
        monkeypatch.undo()
        with drafts.open(*SET) as faster:
            faster.discard()
        return Staging(*given, **options)

    monkeypatch.setattr(drafts_module, "Staging", late)
    with pytest.raises(NotFoundError, match="no draft 'set'"):
        drafts.open(*SET)
    assert not place.exists()


def test_a_draft_that_another_began_is_not_replaced(
    drafts: Drafts, files: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*given: Any, **options: Any) -> Staging:
        monkeypatch.undo()
        saved(drafts, files)
        return Staging(*given, **options)

    monkeypatch.setattr(drafts_module, "Staging", late)
    with pytest.raises(UnavailableError, match="try again"):
        begin(drafts)
    with drafts.open(*SET) as kept:
        assert len(kept.draft.manifest) == 2


def test_a_draft_that_was_never_saved_leaves_nothing(drafts: Drafts, files: Path, place: Path) -> None:
    with pytest.raises(KeyboardInterrupt), begin(drafts) as kept:
        kept.draft.add_dir(files)
        raise KeyboardInterrupt
    assert not place.exists()


def test_only_what_nobody_holds_and_nobody_saved_is_swept(drafts: Drafts, files: Path, place: Path) -> None:
    saved(drafts, files)
    left = place.with_name("left")
    (left / "bytes").mkdir(parents=True)
    (left / "bytes" / "00000001.blob").write_bytes(b"what a killed command had copied")
    (left / "bytes.lock").touch()
    (left / "draft.json.new").touch()
    with drafts.create("me", "demo", "live", "dataset", DigestAlgorithm.BLAKE3) as live:
        live.draft.add_dir(files)
        drafts.sweep()
        live.save()
    assert sorted(os.listdir(place.parent)) == ["live", "set"]
    for name in ("live", "set"):
        with drafts.open("me", "demo", name) as kept:
            assert checked(kept) == ["large", "small"]


def test_closing_what_was_discarded_does_not_touch_the_next(drafts: Drafts, files: Path) -> None:
    kept = begin(drafts)
    kept.discard()
    saved(drafts, files)
    kept.discard()
    kept.close()
    assert drafts.exists(*SET)


def test_a_draft_is_read_while_another_holds_it(drafts: Drafts, files: Path) -> None:
    saved(drafts, files)
    with drafts.open(*SET) as kept:
        kept.draft.remove("large")
        assert len(drafts.read(*SET).manifest) == 2
        kept.save()
        assert [entry.path for entry in drafts.read(*SET).manifest.in_order()] == ["small"]


def test_a_draft_of_an_earlier_version_with_a_field_more(drafts: Drafts, files: Path, place: Path) -> None:
    saved(drafts, files)
    value = orjson.loads((place / "draft.json").read_bytes())
    (place / "draft.json").write_bytes(orjson.dumps({**value, "originals": {}}))
    with drafts.open(*SET) as kept:
        assert len(kept.draft.manifest) == 2
