"""Config: what the environment and `config.toml` say. The only module that reads either.

Owns the variables, the keys, their order (arguments over environment over file) and the defaults. Knows nothing of
what a store is: `connect` gives meaning to the location.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .errors import InvalidConfigError, InvalidError
from .names import check_name, shown

if TYPE_CHECKING:
    from .digest import DigestAlgorithm

APPLICATION = "artifactfs"
DEFAULT_PROJECT = "uncategorized"
COMPLETION_VARIABLE = "_ARTIFACTFS_COMPLETE"

_PREFIX = "ARTIFACTFS_"
_KEYS = (
    *("store", "entity", "project", "cache_dir", "cache_limit", "cache_keep_free"),
    *("digest_algorithm", "token", "artifact_dir"),
)
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? ?([kmgtp]?)(i?)b?\Z", re.IGNORECASE)
_CLOUDS = ("AWS_", "AZURE_", "GCE_", "GOOGLE_", "IDENTITY_", "STORAGE_EMULATOR_")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CREDENTIALS = re.compile(r"(?<=://).*(?=@)", re.DOTALL)


@dataclass(frozen=True)
class Config:
    """Every setting, with its default filled in.

    `store` is an absolute directory or a URL; `store_is_default` tells that nobody chose it. Directories are
    absolute, but for `artifact_dir`, which is taken from where the program stands. `cache_limit` is how many bytes
    the disk cache keeps at most, and `cache_keep_free` how many of the disk it leaves free; None is for what the
    cache takes.
    """

    store: str
    entity: str
    project: str
    cache_dir: str
    state_dir: str
    digest_algorithm: DigestAlgorithm
    token: str | None = field(repr=False)
    artifact_dir: str
    store_is_default: bool
    cache_limit: int | None = None
    cache_keep_free: int | None = None

    def at(self, store: str) -> Config:
        """The same settings, with the store at another location. Raises InvalidConfigError."""
        try:
            return replace(self, store=_location(store, ""), store_is_default=False)
        except InvalidError as error:
            raise InvalidConfigError(f"store: {error}") from None

    def __repr__(self) -> str:
        return f"Config(store={without_credentials(self.store)!r}, entity={self.entity!r}, project={self.project!r})"


def load(
    *,
    store: str | None = None,
    entity: str | None = None,
    project: str | None = None,
    cache_dir: str | None = None,
    cache_limit: str | None = None,
    cache_keep_free: str | None = None,
    digest_algorithm: str | None = None,
    token: str | None = None,
    artifact_dir: str | None = None,
) -> Config:
    """The configuration that holds here, with the arguments over everything. Raises InvalidConfigError."""
    arguments = {
        "store": store,
        "entity": entity,
        "project": project,
        "cache_dir": cache_dir,
        "cache_limit": cache_limit,
        "cache_keep_free": cache_keep_free,
        "digest_algorithm": digest_algorithm,
        "token": token,
        "artifact_dir": artifact_dir,
    }
    settings = _Settings(arguments, os.environ, config_file())
    import platformdirs

    chosen_store = settings.take("store", _location)
    return Config(
        store=chosen_store or platformdirs.user_data_dir(APPLICATION, appauthor=False),
        entity=settings.take("entity", lambda value, _: check_name("entity", value)) or default_entity(),
        project=settings.take("project", lambda value, _: check_name("project", value)) or DEFAULT_PROJECT,
        cache_dir=settings.take("cache_dir", _directory) or platformdirs.user_cache_dir(APPLICATION, appauthor=False),
        state_dir=platformdirs.user_state_dir(APPLICATION, appauthor=False),
        digest_algorithm=settings.take("digest_algorithm", _algorithm) or _algorithm("BLAKE3", ""),
        token=settings.take("token", lambda value, _: value),
        artifact_dir=settings.take("artifact_dir", lambda value, _: os.path.expanduser(value)) or "artifacts",
        store_is_default=chosen_store is None,
        cache_limit=settings.take("cache_limit", lambda value, _: parse_size(value)),
        cache_keep_free=settings.take("cache_keep_free", lambda value, _: parse_size(value)),
    )


def config_file() -> str:
    """The path of `config.toml`, there or not."""
    import platformdirs

    return os.path.join(platformdirs.user_config_dir(APPLICATION, appauthor=False), "config.toml")


def completion_instruction() -> str | None:
    """What the shell asks of a completion request (`bash_complete`, ...), or None in an ordinary run."""
    return os.environ.get(COMPLETION_VARIABLE) or None


def notify_socket() -> str | None:
    """Where systemd waits to hear how the service stands, or None where it is none."""
    return os.environ.get("NOTIFY_SOCKET") or None


def cloud_environment() -> dict[str, str]:
    """The variables by which the clouds' own tools find credentials, endpoints and regions, and their files' home."""
    return {key: value for key, value in os.environ.items() if key.startswith(_CLOUDS) or key == "HOME"}


def hand_down(store: str) -> None:
    """Give the programs that this one starts a store's location, where no other user sees it."""
    os.environ[_PREFIX + "STORE"] = store


def default_entity() -> str:
    """The user's login name, made into one that is allowed."""
    return _as_name(_login_name())


def parse_size(text: str) -> int:
    """`50GB`, `1.5 GiB`, `500m` or `1048576` as bytes; KiB and the like are powers of 1024. Raises InvalidError."""
    match = _SIZE.match(text)
    if match is None or (match[4] and not match[3]):
        raise InvalidError(f"size {shown(text)} is not understood; write a number and KB, MB, GB, TB, or KiB and so on")
    unit = int((1024 if match[4] else 1000) ** "bkmgtp".index(match[3].lower() or "b"))
    return int(match[1]) * unit + int(match[2] or 0) * unit // int(10 ** len(match[2] or ""))


def is_url(location: str) -> bool:
    """Whether a store's location is `scheme://...` rather than a directory."""
    return _SCHEME.match(location) is not None


def without_credentials(location: str) -> str:
    """A store's location as it may be shown: what stands before the host of a URL is left out.

    A password may hold any character when it is written by hand, `/` and `@` too: everything up to the last `@` goes.
    """
    return _CREDENTIALS.sub("...", location, count=1) if is_url(location) else location


class _Settings:
    """The three sources, asked in their order; each value is remembered with where it came from, for messages."""

    def __init__(self, arguments: Mapping[str, str | None], environment: Mapping[str, str], path: str) -> None:
        self._arguments = arguments
        self._environment = environment
        self._path = path
        self._file = _read_file(path)

    def take(self, key: str, parse: Callable[[str, str], Any]) -> Any:
        """The parsed value of `key`, or None where nobody set it. `parse` gets the text and the base directory."""
        for value, source, base in self._candidates(key):
            if not value:
                continue
            try:
                return parse(value, base)
            except InvalidError as error:
                raise InvalidConfigError(f"{source}: {error}") from None
        return None

    def _candidates(self, key: str) -> list[tuple[str | None, str, str]]:
        variable = _PREFIX + key.upper()
        return [
            (self._arguments[key], key, ""),
            (self._environment.get(variable), variable, ""),
            (self._file.get(key), f"{self._path}: {key}", os.path.dirname(self._path)),
        ]


def _read_file(path: str) -> dict[str, str]:
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError:
        raise InvalidConfigError(f"{path}: not UTF-8 text; write it again as TOML") from None
    except OSError as error:
        raise InvalidConfigError(f"{path}: cannot be read ({error.strerror}); remove it or make it readable") from None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfigError(f"{path}: not valid TOML ({error})") from None
    for key, value in values.items():
        if key not in _KEYS:
            raise InvalidConfigError(f"{path}: key {shown(key)} is unknown; the keys are {', '.join(_KEYS)}")
        if not isinstance(value, str):
            raise InvalidConfigError(f"{path}: {key} must be a string; put it in quotes")
    return values


def _location(value: str, base: str) -> str:
    if not value:
        raise InvalidError("the location is empty; give a directory")
    return value if is_url(value) else _directory(value, base)


def _directory(value: str, base: str) -> str:
    if "\0" in value:
        raise InvalidError(f"{shown(value)} is no directory name")
    return os.path.abspath(os.path.join(base, os.path.expanduser(value)))


def _algorithm(value: str, _base: str) -> DigestAlgorithm:
    from .digest import DigestAlgorithm

    return DigestAlgorithm.parse(value.upper())


def _login_name() -> str:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        if name := os.environ.get(variable):
            return name
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user that nobody named
        return f"uid-{os.getuid()}"


def _as_name(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")[:128]
    return name if name not in ("", ".", "..") else "user"
