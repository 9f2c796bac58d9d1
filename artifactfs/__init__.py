"""artifactfs: versioned artifacts that any tool can read as plain directories.

The public names. Each is imported from its module at its first use, so that `import artifactfs` costs little.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Api as Api
    from .api import finish as finish
    from .api import init as init
    from .api import link_artifact as link_artifact
    from .api import log_artifact as log_artifact
    from .api import use_artifact as use_artifact
    from .artifact import Artifact as Artifact
    from .connect import connect as connect
    from .errors import AliasConflictError as AliasConflictError
    from .errors import ArtifactFinalizedError as ArtifactFinalizedError
    from .errors import ArtifactNotLoggedError as ArtifactNotLoggedError
    from .errors import ArtifactStatusError as ArtifactStatusError
    from .errors import ConflictError as ConflictError
    from .errors import DamageError as DamageError
    from .errors import EntryNotFoundError as EntryNotFoundError
    from .errors import Error as Error
    from .errors import InvalidError as InvalidError
    from .errors import NotAllowedError as NotAllowedError
    from .errors import NotFoundError as NotFoundError
    from .errors import SourceError as SourceError
    from .errors import StoreError as StoreError
    from .errors import UnavailableError as UnavailableError
    from .errors import VerificationError as VerificationError
    from .errors import WaitTimeoutError as WaitTimeoutError
    from .manifest import Entry as Entry
    from .runs import Run as Run

__version__ = "0.1.0"

_HOMES = {
    "Api": "api",
    "Artifact": "artifact",
    "Entry": "manifest",
    "Run": "runs",
    "finish": "api",
    "init": "api",
    "link_artifact": "api",
    "log_artifact": "api",
    "use_artifact": "api",
    "AliasConflictError": "errors",
    "ArtifactFinalizedError": "errors",
    "ArtifactNotLoggedError": "errors",
    "ArtifactStatusError": "errors",
    "ConflictError": "errors",
    "DamageError": "errors",
    "EntryNotFoundError": "errors",
    "Error": "errors",
    "InvalidError": "errors",
    "NotAllowedError": "errors",
    "NotFoundError": "errors",
    "SourceError": "errors",
    "StoreError": "errors",
    "UnavailableError": "errors",
    "VerificationError": "errors",
    "WaitTimeoutError": "errors",
}

__all__ = [*_HOMES, "__version__", "connect", "run"]


class _Package(ModuleType):
    """The package itself. `connect` is a module of it too, and importing that must not hide the function; `run` is
    another one every time."""

    @property
    def connect(self) -> Any:
        return import_module(".connect", __name__).connect

    @connect.setter
    def connect(self, module: ModuleType) -> None:
        """What the import system sets is not what `artifactfs.connect` means."""

    @property
    def run(self) -> Any:
        return import_module(".api", __name__).current_run()


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home == "artifact":
        import_module(".api", __name__)  # it gives drafts their surroundings: where to stage, how to save()
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
