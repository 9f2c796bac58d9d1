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
    from .artifact import Artifact as Artifact
    from .collection import ArtifactCollection as ArtifactCollection
    from .collection import ArtifactType as ArtifactType
    from .connect import connect as connect
    from .current import Settings as Settings
    from .current import finish as finish
    from .current import init as init
    from .current import link_artifact as link_artifact
    from .current import link_model as link_model
    from .current import log as log
    from .current import log_artifact as log_artifact
    from .current import log_model as log_model
    from .current import login as login
    from .current import use_artifact as use_artifact
    from .current import use_model as use_model
    from .errors import AliasConflictError as AliasConflictError
    from .errors import ArtifactFinalizedError as ArtifactFinalizedError
    from .errors import ArtifactNotLoggedError as ArtifactNotLoggedError
    from .errors import ArtifactStatusError as ArtifactStatusError
    from .errors import CommError as CommError
    from .errors import ConflictError as ConflictError
    from .errors import DamageError as DamageError
    from .errors import EntryNotFoundError as EntryNotFoundError
    from .errors import Error as Error
    from .errors import InvalidError as InvalidError
    from .errors import MissingReferenceError as MissingReferenceError
    from .errors import NotAllowedError as NotAllowedError
    from .errors import NotFoundError as NotFoundError
    from .errors import PathConflictError as PathConflictError
    from .errors import SourceError as SourceError
    from .errors import StoreError as StoreError
    from .errors import TypeConflictError as TypeConflictError
    from .errors import UnavailableError as UnavailableError
    from .errors import VerificationError as VerificationError
    from .errors import WaitTimeoutError as WaitTimeoutError
    from .manifest import Entry as Entry
    from .manifest import Manifest as Manifest
    from .runs import Run as Run
    from .ttl import ArtifactTTL as ArtifactTTL

    ArtifactManifestEntry = Entry

__version__ = "0.1.0"

_HOMES = {
    "Api": "api",
    "Artifact": "artifact",
    "ArtifactCollection": "collection",
    "ArtifactTTL": "ttl",
    "ArtifactType": "collection",
    "Entry": "manifest",
    "Manifest": "manifest",
    "Run": "runs",
    "Settings": "current",
    "finish": "current",
    "init": "current",
    "link_artifact": "current",
    "link_model": "current",
    "log": "current",
    "log_artifact": "current",
    "log_model": "current",
    "login": "current",
    "use_artifact": "current",
    "use_model": "current",
    "AliasConflictError": "errors",
    "ArtifactFinalizedError": "errors",
    "ArtifactNotLoggedError": "errors",
    "ArtifactStatusError": "errors",
    "CommError": "errors",
    "ConflictError": "errors",
    "DamageError": "errors",
    "EntryNotFoundError": "errors",
    "Error": "errors",
    "InvalidError": "errors",
    "MissingReferenceError": "errors",
    "NotAllowedError": "errors",
    "NotFoundError": "errors",
    "PathConflictError": "errors",
    "SourceError": "errors",
    "StoreError": "errors",
    "TypeConflictError": "errors",
    "UnavailableError": "errors",
    "VerificationError": "errors",
    "WaitTimeoutError": "errors",
}

_NOT_YET = {
    *("Table", "Image", "Audio", "Video", "Html", "Object3D", "Classes", "ImageMask", "BoundingBoxes2D", "JoinedTable"),
    *("PartitionedTable", "Bokeh", "Molecule", "Histogram", "Plotly"),
}
"""Names of wandb's that are not here, and that people will look for."""

_OTHER_NAMES = {"ArtifactManifestEntry": "Entry"}
"""Names of wandb's for what has a shorter one here."""

__all__ = [*_HOMES, *_OTHER_NAMES, "__version__", "connect", "run"]


class _Package(ModuleType):
    """The package itself. `connect` and `config` are modules of it too, and importing those must not hide what a script
    means by the names; `run` is another one every time, and `config` and `summary` are the current run's."""

    @property
    def connect(self) -> Any:
        return import_module(".connect", __name__).connect

    @connect.setter
    def connect(self, module: ModuleType) -> None:
        """What the import system sets is not what `artifactfs.connect` means."""

    @property
    def config(self) -> Any:
        return import_module(".current", __name__).current_config()

    @config.setter
    def config(self, module: ModuleType) -> None:
        """What the import system sets is not what `artifactfs.config` means."""

    @property
    def run(self) -> Any:
        return import_module(".current", __name__).current_run()


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in ("config", "summary"):
        return getattr(import_module(".current", __name__), f"current_{name}")()
    meant = _OTHER_NAMES.get(name, name)
    home = _HOMES.get(meant)
    if name in _NOT_YET:
        raise AttributeError(f"artifactfs has no {name} yet; typed objects come with a later version")
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home == "artifact":
        import_module(".current", __name__)  # it gives drafts their surroundings: where to stage, how to save()
    value = getattr(import_module(f".{home}", __name__), meant)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
