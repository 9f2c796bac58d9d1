"""Nogc: no garbage collection while very many objects are made that are going to stay.

Python's collector runs each time some thousands of containers were made, and looks at all of them again and again;
while a million entries come into being there is nothing for it to find. (Mercurial does the same, for the same reason.)
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def nogc(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run the function with the collector paused, and leave that as it was found."""

    @functools.wraps(function)
    def paused(*arguments: _P.args, **keywords: _P.kwargs) -> _R:
        if not gc.isenabled():
            return function(*arguments, **keywords)
        gc.disable()
        try:
            return function(*arguments, **keywords)
        finally:
            gc.enable()

    return paused
