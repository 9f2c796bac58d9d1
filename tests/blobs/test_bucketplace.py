"""A bucket's URL and the credentials for it: what is read, what is refused, and what is said of what is missing."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from artifactfs.blobs.bucket.blobs import BucketBlobs
from artifactfs.blobs.bucket.place import BucketPlace, access
from artifactfs.errors import InvalidConfigError, NotAllowedError, StoreError

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


@pytest.mark.parametrize(
    ("url", "shown", "key"),
    [
        ("s3://team-artifacts", "s3://team-artifacts", "blobs/x"),
        ("s3://team-artifacts/", "s3://team-artifacts", "blobs/x"),
        ("s3://team.artifacts/a/b/", "s3://team.artifacts/a/b", "a/b/blobs/x"),
        ("gs://team_artifacts/A-1", "gs://team_artifacts/A-1", "A-1/blobs/x"),
        ("az://container/p?account=acc", "az://container/p", "p/blobs/x"),
        ("s3://bucket/p?region=eu-central-1&endpoint=http://127.0.0.1:8333/", "s3://bucket/p", "p/blobs/x"),
    ],
)
def test_a_url_names_a_bucket_and_a_prefix(url: str, shown: str, key: str) -> None:
    place = BucketPlace.parse(url)
    assert str(place) == shown
    assert place.key("blobs/x") == key
    assert place.name(key) == "blobs/x"
    assert BucketPlace.parse(place.url) == place


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://bucket/p", "s3://"),
        ("s3:bucket", "name of a bucket"),
        ("s3://", "name of a bucket"),
        ("s3://b", "name of a bucket"),
        ("s3://bucket:9000/p", "endpoint="),
        ("s3://key:secret@bucket/p", "no credentials"),
        ("s3://bucket/a//b", "prefix"),
        ("s3://bucket/../b", "prefix"),
        ("s3://bucket/a b", "prefix"),
        ("s3://bucket/%41", "prefix"),
        ("s3://bucket/" + "x" * 200, "prefix"),
        ("s3://bucket/p#x", "fragment"),
        ("s3://bucket/p?account=x", "option 'account'"),
        ("gs://bucket/p?region=x", "option 'region'"),
        ("s3://bucket/p?region=", "no value"),
        ("s3://bucket/p?region", "not a URL"),
        ("s3://bucket/p?region=a&region=b", "twice"),
        ("s3://bucket/p?endpoint=127.0.0.1:80", "no endpoint"),
        ("s3://bucket/p?endpoint=http://u:p@host", "no credentials"),
        ("s3://bucket/p?endpoint=http://host:port", "no endpoint"),
        ("s3://bucket/p?credentials=mine", "`instance`"),
        ("s3://bucket/p?timeout=soon", "seconds"),
        ("s3://bucket/p?timeout=0", "no request end"),
    ],
)
def test_a_url_that_is_no_bucket_is_refused_with_the_rule(url: str, said: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        BucketPlace.parse(url)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_time_limit_is_in_the_url() -> None:
    assert BucketPlace.parse("s3://bucket").timeout == 30
    assert BucketPlace.parse("s3://bucket?timeout=2.5").timeout == 2.5


# -- credentials


def settings(url: str, environment: dict[str, str]) -> dict[str, Any]:
    return dict(access(BucketPlace.parse(url), environment).settings)


def test_credentials_and_region_of_s3_come_from_the_environment() -> None:
    found = settings("s3://bucket", KEYS | {"AWS_SESSION_TOKEN": "t", "AWS_DEFAULT_REGION": "eu-west-1"})
    assert found == {"access_key_id": "a", "secret_access_key": "b", "session_token": "t", "region": "eu-west-1"}
    assert settings("s3://bucket?region=x-1", KEYS | {"AWS_REGION": "y-1"})["region"] == "x-1"
    assert settings("s3://bucket", KEYS)["region"] == "us-east-1"


def test_an_endpoint_may_be_plain_http_only_when_it_says_so() -> None:
    for url, environment, plain in (
        ("s3://bucket?endpoint=http://h:1", KEYS, True),
        ("s3://bucket?endpoint=https://h:1", KEYS, False),
        ("s3://bucket", KEYS | {"AWS_ENDPOINT_URL_S3": "http://h:2"}, True),
        ("s3://bucket", KEYS, False),
    ):
        found = access(BucketPlace.parse(url), environment)
        assert found.allow_http is plain


def test_profiles_of_aws_are_read_from_its_files(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = d\naws_secret_access_key = e\n"
        "[team]\naws_access_key_id = t\naws_secret_access_key = %u%\naws_session_token = v\n"
    )
    (tmp_path / ".aws/config").write_text(
        "[profile team]\nregion = eu-north-1\n[profile far]\nrole_arn = arn:x\nsource_profile = team\n"
    )
    home = {"HOME": str(tmp_path)}
    assert settings("s3://bucket", home)["access_key_id"] == "d"
    team = settings("s3://bucket", home | {"AWS_PROFILE": "team"})
    assert team["secret_access_key"] == "%u%" and team["session_token"] == "v" and team["region"] == "eu-north-1"
    assert settings("s3://bucket", home | KEYS)["access_key_id"] == "a"
    assert access(BucketPlace.parse("s3://bucket"), home | {"AWS_PROFILE": "far"}).profile == "far"
    with pytest.raises(NotAllowedError, match="AWS_PROFILE names 'gone'"):
        settings("s3://bucket", home | {"AWS_PROFILE": "gone"})
    (tmp_path / ".aws/config").write_text("no ini file")
    with pytest.raises(InvalidConfigError, match="config"):
        settings("s3://bucket", home)


def test_credentials_of_google_are_a_file_a_key_or_an_emulators_none(tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    file.write_text("{}")
    home = {"HOME": str(tmp_path)}
    named = home | {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
    assert settings("gs://bucket", named) == {"application_credentials": str(file)}
    with pytest.raises(NotAllowedError, match="no file"):
        settings("gs://bucket", home | {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "gone")})
    key = json.loads(settings("gs://bucket?endpoint=http://127.0.0.1:4443", home)["service_account_key"])
    assert key["gcs_base_url"] == "http://127.0.0.1:4443" and key["disable_oauth"] is True
    default = tmp_path / ".config/gcloud/application_default_credentials.json"
    default.parent.mkdir(parents=True)
    default.write_text("{}")
    assert settings("gs://bucket", home) == {"application_credentials": str(default)}


def test_credentials_of_azure_are_a_key_a_signature_or_a_connection_string() -> None:
    url = "az://container?account=acc"
    assert settings(url, {"AZURE_STORAGE_KEY": "k"}) == {"account_name": "acc", "account_key": "k"}
    assert settings(url, {"AZURE_STORAGE_SAS_TOKEN": "?sv=1"}) == {"account_name": "acc", "sas_key": "sv=1"}
    text = "AccountName=other;AccountKey=a2V5==;BlobEndpoint=https://h/other"
    found = settings("az://container", {"AZURE_STORAGE_CONNECTION_STRING": text})
    assert found == {"account_name": "other", "account_key": "a2V5==", "endpoint": "https://h/other"}
    with pytest.raises(InvalidConfigError, match="account=NAME"):
        settings("az://container", {"AZURE_STORAGE_KEY": "k"})


@pytest.mark.parametrize(
    ("url", "environment", "said"),
    [
        ("s3://bucket/p", {}, "AWS_ACCESS_KEY_ID"),
        ("s3://bucket/p", {"AWS_ACCESS_KEY_ID": "a"}, "AWS_SECRET_ACCESS_KEY is not"),
        ("s3://bucket/p", {"AWS_SECRET_ACCESS_KEY": "a"}, "AWS_ACCESS_KEY_ID is not"),
        ("gs://bucket/p", {}, "gcloud auth application-default login"),
        ("az://container/p?account=acc", {}, "AZURE_STORAGE_ACCOUNT_KEY"),
    ],
)
def test_missing_credentials_are_said_in_one_line_before_anything_is_asked(
    url: str, environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(NotAllowedError) as caught:
        BucketBlobs(url, environment=environment | {"HOME": str(tmp_path)})
    message = str(caught.value)
    assert url.partition("?")[0] in message and said in message and "\n" not in message


def test_the_metadata_address_is_asked_only_where_that_is_configured() -> None:
    with socket.create_server(("127.0.0.1", 0)) as metadata:
        asked = threading.Event()

        def accept() -> None:
            metadata.accept()[0].close()
            asked.set()

        threading.Thread(target=accept, daemon=True).start()
        address = f"http://127.0.0.1:{metadata.getsockname()[1]}"
        url = "s3://bucket/p?endpoint=http://127.0.0.1:9&timeout=1"
        with pytest.raises(NotAllowedError):
            BucketBlobs(url, environment={})
        assert not asked.is_set()
        named = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": address}
        with pytest.raises(StoreError):
            BucketBlobs(url + "&credentials=instance", environment=named, patience=0).size("blobs/x")
        assert asked.wait(60)


def test_obstore_that_is_not_installed_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r"pip install 'artifactfs\[cloud\]'"):
        BucketBlobs("s3://bucket/p", environment=KEYS)
