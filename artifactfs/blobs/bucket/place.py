"""Place: where a bucket is, as its URL says, and with which credentials it is asked.

    s3://bucket/prefix?endpoint=https://host:port&region=eu-central-1
    gs://bucket/prefix
    az://container/prefix?account=name

Owns the syntax of the URL, the order in which credentials are looked for, and the words that say what is missing. Asks
no service: least of all a cloud's metadata address, which answers on a machine of that cloud alone and is a long
silence elsewhere, unless `credentials=instance` or the service's own variables name it.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson

from ...errors import InvalidConfigError, NotAllowedError
from ...names import shown

SCHEMES = ("s3", "gs", "az")

DEFAULT_TIMEOUT = 30.0
"""Seconds that one request for at most a block (4 MiB) may take, unless the URL says `timeout=`."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]\Z")
_PREFIX_PART = re.compile(r"[A-Za-z0-9!_'()*=+,@-][A-Za-z0-9!._'()*=+,@-]{0,127}\Z")
_MOST_PREFIX = 512
_OPTIONS = {
    "s3": ("endpoint", "region", "credentials", "timeout"),
    "gs": ("endpoint", "credentials", "timeout"),
    "az": ("endpoint", "account", "credentials", "timeout"),
}
_TRUE = frozenset({"1", "true", "yes", "on"})
_INSTANCE, _NONE = "instance", "none"
_EMULATOR_KEY = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}


@dataclass(frozen=True)
class BucketPlace:
    """A bucket, the folder in it that holds the objects ("" for all of it), and how it is reached."""

    scheme: str
    bucket: str
    prefix: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> BucketPlace:
        """The place that a URL names. Raises InvalidConfigError, with the rule that it breaks."""
        try:
            parts = urlsplit(url)
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
            port = parts.port
        except ValueError as error:
            raise InvalidConfigError(f"{shown(url)} is not a URL ({error}); write s3://bucket/prefix") from None
        if parts.scheme not in SCHEMES:
            raise InvalidConfigError(f"{shown(url)} is no bucket; write s3://, gs:// or az://, a bucket and a prefix")
        if "@" in parts.netloc:
            raise InvalidConfigError(
                f"a bucket's URL is kept in the store, so it may hold no credentials: {parts.scheme}://...@...; "
                "leave them to the environment"
            )
        if port is not None or not _BUCKET.match(parts.netloc):
            raise InvalidConfigError(
                f"{shown(parts.netloc)} is no name of a bucket; write {parts.scheme}://bucket/prefix"
                + ("?endpoint=http://host:port" if port is not None else "")
            )
        prefix = parts.path.strip("/")
        if prefix and (len(prefix) > _MOST_PREFIX or not all(map(_PREFIX_PART.match, prefix.split("/")))):
            raise InvalidConfigError(f"{shown(prefix)} is no prefix; use letters, digits, and -_ between slashes")
        if parts.fragment or "#" in url:
            raise InvalidConfigError(f"{shown(url)} has a fragment; write {parts.scheme}://bucket/prefix")
        return cls(parts.scheme, parts.netloc, prefix, _checked_options(parts.scheme, pairs))

    @property
    def url(self) -> str:
        """The URL in its one canonical form."""
        query = "?" + urlencode(sorted(self.options.items()), safe=":/") if self.options else ""
        return f"{self}{query}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def timeout(self) -> float:
        """Seconds that one request for at most a block may take."""
        return float(self.options.get("timeout", DEFAULT_TIMEOUT))

    def key(self, name: str) -> str:
        """The key in the bucket of an object, or a folder, of that name."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def name(self, key: str) -> str:
        """The name of the object with that key."""
        return key[len(self.prefix) + 1 :] if self.prefix else key


class Keys(NamedTuple):
    """Credentials of AWS; temporary ones have a token."""

    key: str
    secret: str
    token: str | None


@dataclass(frozen=True)
class Access:
    """What a client of the service is made with: its settings, credentials among them, and who fetches more of them."""

    settings: Mapping[str, Any] = field(repr=False)
    allow_http: bool
    profile: str | None = None
    """The profile of AWS whose credentials only boto3 knows how to get."""
    renewed: Callable[[], Keys | None] | None = field(default=None, repr=False, compare=False)
    """Reads the keys of AWS anew, where they are in a file that others may renew; None while it has none."""


def access(place: BucketPlace, environment: Mapping[str, str]) -> Access:
    """How a place is reached from here, by the variables of `environment` and the files they name.

    Raises NotAllowedError where there are no credentials, with what to set; InvalidConfigError.
    """
    asked = place.options.get("credentials", "")
    find = {"s3": _s3, "gs": _gs, "az": _az}[place.scheme]
    return find(place, _Variables(environment), asked)


class _Variables:
    """The environment, where an empty variable is as good as none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def first(self, *names: str) -> str | None:
        return next((value for name in names if (value := self._environment.get(name))), None)

    def is_true(self, name: str) -> bool:
        return (self.first(name) or "").lower() in _TRUE

    def below_home(self, *parts: str) -> str:
        return os.path.join(self.first("HOME") or os.path.expanduser("~"), *parts)


def _checked_options(scheme: str, pairs: list[tuple[str, str]]) -> dict[str, str]:
    options = dict(pairs)
    allowed = _OPTIONS[scheme]
    for key, value in pairs:
        if key not in allowed:
            raise InvalidConfigError(f"{scheme}:// has no option {shown(key)}; there are {', '.join(allowed)}")
        if not value or not value.isprintable():
            raise InvalidConfigError(f"the option {key} of {scheme}:// has no value; leave it out, or give one")
    if len(options) < len(pairs):
        raise InvalidConfigError(f"an option of {scheme}:// is given twice; give it once")
    endpoint = options.get("endpoint")
    if endpoint is not None:
        options["endpoint"] = _checked_endpoint(endpoint)
    if options.get("credentials", _NONE) not in (_INSTANCE, _NONE):
        raise InvalidConfigError(
            "credentials= may be `instance` (those of the machine in the cloud) or `none`; others come from the "
            "environment, so leave it out"
        )
    timeout = options.get("timeout")
    if timeout is not None and not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", timeout):
        raise InvalidConfigError(f"timeout={shown(timeout)} is no number of seconds; write timeout=30")
    if timeout is not None and float(timeout) <= 0:
        raise InvalidConfigError("timeout=0 would let no request end; write timeout=30")
    return options


def _checked_endpoint(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        plain = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        _ = parts.port
    except ValueError:
        plain = False
    if not plain:
        raise InvalidConfigError(f"{shown(endpoint)} is no endpoint; write endpoint=https://host:port")
    if "@" in parts.netloc:
        raise InvalidConfigError("an endpoint may hold no credentials; leave them to the environment")
    return endpoint.rstrip("/")


def _is_plain(endpoint: str | None) -> bool:
    return endpoint is not None and endpoint.startswith("http://")


def _missing(place: BucketPlace, what_to_do: str) -> NotAllowedError:
    return NotAllowedError(f"there are no credentials for {place}; {what_to_do}")


def _s3(place: BucketPlace, variables: _Variables, asked: str) -> Access:
    profiles = _AwsProfiles(variables)
    endpoint = place.options.get("endpoint") or variables.first(
        "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"
    )
    region = place.options.get("region") or variables.first("AWS_REGION", "AWS_DEFAULT_REGION")
    settings: dict[str, Any] = {"region": region or profiles.value("region") or "us-east-1"}
    if endpoint is not None:
        settings["endpoint"] = endpoint
    plain = _is_plain(endpoint) or variables.is_true("AWS_ALLOW_HTTP")
    key, secret = variables.first("AWS_ACCESS_KEY_ID"), variables.first("AWS_SECRET_ACCESS_KEY")
    token = variables.first("AWS_SESSION_TOKEN", "AWS_TOKEN")
    if asked == _NONE or variables.is_true("AWS_SKIP_SIGNATURE"):
        return Access({**settings, "skip_signature": True}, plain)
    if bool(key) != bool(secret):
        given, wanted = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")[:: 1 if key else -1]
        raise _missing(place, f"{given} is set and {wanted} is not; set both")
    if not key and variables.first("AWS_WEB_IDENTITY_TOKEN_FILE") and variables.first("AWS_ROLE_ARN"):
        return Access(settings, plain)  # the client reads these itself
    if not key:
        keys = profiles.keys()
        if keys is not None:
            return Access(settings | _as_settings(keys), plain, renewed=lambda: _AwsProfiles(variables).keys())
    if key and secret:
        return Access(settings | _as_settings(Keys(key, secret, token)), plain)
    if profiles.elsewhere():
        return Access(settings, plain, profile=profiles.name)
    if variables.first("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return Access(settings, plain)
    metadata = variables.first("AWS_METADATA_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT")
    if asked == _INSTANCE or metadata:
        return Access(settings | ({"metadata_endpoint": metadata} if metadata else {}), plain)
    raise _missing(
        place,
        f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put them into {profiles.file} "
        "(on a machine whose role may read it: ?credentials=instance)",
    )


def _as_settings(keys: Keys) -> dict[str, Any]:
    found = {"access_key_id": keys.key, "secret_access_key": keys.secret}
    return found | ({"session_token": keys.token} if keys.token else {})


class _AwsProfiles:
    """What the shared files of AWS say of the profile in use."""

    def __init__(self, variables: _Variables) -> None:
        self.name = variables.first("AWS_PROFILE", "AWS_DEFAULT_PROFILE") or "default"
        self.file = variables.first("AWS_SHARED_CREDENTIALS_FILE") or variables.below_home(".aws", "credentials")
        config = variables.first("AWS_CONFIG_FILE") or variables.below_home(".aws", "config")
        self._sections = [
            _section(self.file, self.name),
            _section(config, self.name if self.name == "default" else f"profile {self.name}"),
        ]
        if variables.first("AWS_PROFILE") and not any(self._sections):
            raise NotAllowedError(f"AWS_PROFILE names {shown(self.name)}, which is not in {self.file}; correct it")

    def value(self, key: str) -> str | None:
        return next((section[key] for section in self._sections if section.get(key)), None)

    def keys(self) -> Keys | None:
        key, secret = self.value("aws_access_key_id"), self.value("aws_secret_access_key")
        return Keys(key, secret, self.value("aws_session_token")) if key and secret else None

    def elsewhere(self) -> bool:
        """Whether the profile says where its credentials come from: a program, another role, a sign-on."""
        keys = ("credential_process", "role_arn", "sso_session", "sso_start_url")
        return any(self.value(key) for key in keys)


def _section(path: str, name: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        raise InvalidConfigError(f"{path} cannot be read as a file of AWS profiles; correct it") from None
    return dict(parser.items(name)) if parser.has_section(name) else {}


def _gs(place: BucketPlace, variables: _Variables, asked: str) -> Access:
    endpoint = place.options.get("endpoint") or variables.first("STORAGE_EMULATOR_HOST")
    settings: dict[str, Any] = {}
    if endpoint is not None:
        endpoint = endpoint if "://" in endpoint else f"http://{endpoint}"
        settings["base_url"] = endpoint
    if asked == _NONE or variables.is_true("GOOGLE_SKIP_SIGNATURE"):
        return Access({**settings, "skip_signature": True}, _is_plain(endpoint))
    inline = variables.first("GOOGLE_SERVICE_ACCOUNT_KEY")
    if inline:
        return Access({**settings, "service_account_key": inline}, _is_plain(endpoint))
    file = variables.first("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
    if file and not os.path.isfile(file):
        raise _missing(place, f"GOOGLE_APPLICATION_CREDENTIALS names {shown(file)}, which is no file; correct it")
    default = variables.below_home(".config", "gcloud", "application_default_credentials.json")
    if not file and os.path.isfile(default):
        file = default
    if file:
        return Access({**settings, "application_credentials": file}, _is_plain(endpoint))
    if _is_plain(endpoint):  # an emulator: it looks at no credentials, and nobody would send any in the clear
        key = orjson.dumps({**_EMULATOR_KEY, "gcs_base_url": endpoint}).decode()
        return Access({"service_account_key": key}, True)
    if asked == _INSTANCE or variables.first("GCE_METADATA_HOST"):
        return Access(settings, _is_plain(endpoint))
    raise _missing(
        place,
        "run `gcloud auth application-default login`, or name an account's file in GOOGLE_APPLICATION_CREDENTIALS "
        "(on a machine whose account may read it: ?credentials=instance)",
    )


def _az(place: BucketPlace, variables: _Variables, asked: str) -> Access:
    connection = _connection_string(variables.first("AZURE_STORAGE_CONNECTION_STRING") or "")
    account = (
        place.options.get("account")
        or variables.first("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
        or connection.get("accountname")
    )
    if account is None:
        raise InvalidConfigError(
            f"{place} says no storage account; add ?account=NAME, or set AZURE_STORAGE_ACCOUNT_NAME"
        )
    endpoint = (
        place.options.get("endpoint")
        or variables.first("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
        or connection.get("blobendpoint")
    )
    settings: dict[str, Any] = {"account_name": account}
    if endpoint is not None:
        settings["endpoint"] = endpoint.rstrip("/")
    plain = _is_plain(endpoint)
    if asked == _NONE or variables.is_true("AZURE_SKIP_SIGNATURE"):
        return Access({**settings, "skip_signature": True}, plain)
    key = variables.first(
        "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY", "AZURE_STORAGE_KEY"
    ) or connection.get("accountkey")
    if key:
        return Access({**settings, "account_key": key}, plain)
    signature = variables.first("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY") or connection.get(
        "sharedaccesssignature"
    )
    if signature:
        return Access({**settings, "sas_key": signature.removeprefix("?")}, plain)
    client = variables.first("AZURE_CLIENT_ID", "AZURE_STORAGE_CLIENT_ID")
    secret = variables.first("AZURE_CLIENT_SECRET", "AZURE_STORAGE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE")
    if (client and secret) or variables.first("AZURE_STORAGE_TOKEN") or variables.is_true("AZURE_USE_AZURE_CLI"):
        return Access(settings, plain)  # the client reads these itself
    if asked == _INSTANCE or variables.first("AZURE_MSI_ENDPOINT", "AZURE_IDENTITY_ENDPOINT", "IDENTITY_ENDPOINT"):
        return Access(settings, plain)
    raise _missing(
        place,
        "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or AZURE_USE_AZURE_CLI=true after `az login` "
        "(on a machine whose identity may read it: ?credentials=instance)",
    )


def _connection_string(text: str) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in text.split(";") if "=" in part)
    return {key.strip().lower(): value.strip() for key, value in pairs}
