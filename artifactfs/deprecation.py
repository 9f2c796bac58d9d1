"""Deprecation: names that wandb gave up and that work here too, with a warning."""

from __future__ import annotations

import warnings


def deprecated(name: str, instead: str) -> None:
    """Warn, at the line that called the caller of this, that a name is given up."""
    warnings.warn(f"{name} is deprecated; {instead}", DeprecationWarning, stacklevel=3)
