"""Config: which source wins, what the defaults are, and what a bad value says."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifactfs import config
from artifactfs.digest import DigestAlgorithm
from artifactfs.errors import InvalidConfigError
from artifactfs.names import check_name


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for key in config._KEYS:
        monkeypatch.delenv(f"ARTIFACTFS_{key.upper()}", raising=False)
    for kind in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    monkeypatch.setenv("LOGNAME", "mira")
    return tmp_path


def write_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config" / "artifactfs" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_defaults(tmp_path: Path) -> None:
    loaded = config.load()
    assert loaded.store == str(tmp_path / "data" / "artifactfs")
    assert loaded.store_is_default
    assert (loaded.entity, loaded.project) == ("mira", "uncategorized")
    assert loaded.cache_dir == str(tmp_path / "cache" / "artifactfs")
    assert loaded.state_dir == str(tmp_path / "state" / "artifactfs")
    assert loaded.digest_algorithm is DigestAlgorithm.BLAKE3
    assert loaded.token is None
    assert loaded.artifact_dir == "artifacts"


def test_arguments_win_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path, 'entity = "file"\nproject = "file"\nstore = "/file"\n')
    monkeypatch.setenv("ARTIFACTFS_ENTITY", "environment")
    monkeypatch.setenv("ARTIFACTFS_STORE", "/environment")
    loaded = config.load(store="/argument")
    assert (loaded.store, loaded.entity, loaded.project) == ("/argument", "environment", "file")
    assert not loaded.store_is_default


@pytest.mark.parametrize("value", ["postgresql://host/db", "http://host", "https://host:8/x"])
def test_urls_stay_as_they_are(value: str) -> None:
    assert config.load(store=value).store == value


def test_directories_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/mira")
    monkeypatch.chdir(tmp_path)
    assert config.load(store="here").store == str(tmp_path / "here")
    assert config.load(store="~/there").store == "/home/mira/there"
    file = write_file(tmp_path, 'cache_dir = "beside"\nartifact_dir = "down"\n')
    assert config.load().cache_dir == str(file.parent / "beside")
    assert config.load().artifact_dir == "down"


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_ENTITY", "")
    assert config.load().entity == "mira"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ARTIFACTFS_ENTITY", "a/b"), ("ARTIFACTFS_PROJECT", ".."), ("ARTIFACTFS_DIGEST_ALGORITHM", "SHA1")],
)
def test_a_bad_variable_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidConfigError, match=variable):
        config.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('project = "a b"', "project"),
        ("project = 3", "project must be a string"),
        ('projcet = "x"', "'projcet' is unknown"),
        ("project = ", "not valid TOML"),
        ('[project]\nx = "y"', "project must be a string"),
    ],
)
def test_a_bad_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = write_file(tmp_path, text)
    with pytest.raises(InvalidConfigError) as caught:
        config.load()
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = write_file(tmp_path, "")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidConfigError, match="not UTF-8"):
        config.load()


def test_the_algorithm_may_be_written_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_DIGEST_ALGORITHM", "md5")
    assert config.load().digest_algorithm is DigestAlgorithm.MD5


@pytest.mark.parametrize("login", ["Jürgen Groß", "..", "a" * 300, "DOMAIN\\user", "-", "x@y.z"])
def test_the_login_name_is_made_legal(login: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", login)
    entity = config.load().entity
    assert check_name("entity", entity) == entity


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 123456789)
    assert config.load().entity == "uid-123456789"


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_TOKEN", "hush-hush")
    loaded = config.load(store="postgresql://mira:hush-hush@host/db")
    assert loaded.token == "hush-hush"
    assert "hush" not in repr(loaded)
    assert "hush" not in config.without_credentials(loaded.store)
    assert "host/db" in repr(loaded)


@pytest.mark.parametrize(
    "url",
    [
        "https://hush@host/x",
        "https://hush:@host/x",
        "postgresql://mira:hu/sh@host/x",
        "postgresql://mira:hu@sh@host/x",
        "postgresql://mira:hu?sh#hush@host/x",
        "postgresql://mira:hu://sh@host/x",
        "postgresql://mira:hu\nsh@host/x",
    ],
)
def test_nothing_before_the_host_is_shown(url: str) -> None:
    scheme = url.partition(":")[0]
    assert config.without_credentials(url) == f"{scheme}://...@host/x"


@pytest.mark.parametrize("location", ["https://host:8/x", "/srv/a@b", "rel@ative"])
def test_a_location_without_credentials_is_shown_whole(location: str) -> None:
    assert config.without_credentials(location) == location


def test_the_same_settings_at_another_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = config.load(cache_dir="/c", entity="me")
    moved = loaded.at("here")
    assert (moved.store, moved.cache_dir, moved.entity) == (str(tmp_path / "here"), "/c", "me")
    assert not moved.store_is_default
    with pytest.raises(InvalidConfigError, match="empty"):
        loaded.at("")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("12", 12),
        ("7b", 7),
        ("50GB", 50 * 10**9),
        ("1.5 GiB", 3 << 29),
        ("500m", 500 * 10**6),
        ("2tib", 2 << 40),
    ],
)
def test_sizes(text: str, size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert config.load().cache_limit is None
    monkeypatch.setenv("ARTIFACTFS_CACHE_LIMIT", text)
    write_file(tmp_path, f'cache_keep_free = "{text}"\n')
    loaded = config.load()
    assert (loaded.cache_limit, loaded.cache_keep_free) == (size, size)


@pytest.mark.parametrize("text", ["x", "-1", "1e9", "5 xb", "1.GB", "1ib", "٣GB", "1GB/s"])
def test_what_is_no_size(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_CACHE_LIMIT", text)
    with pytest.raises(InvalidConfigError, match=r"ARTIFACTFS_CACHE_LIMIT: size .* is not understood"):
        config.load()
