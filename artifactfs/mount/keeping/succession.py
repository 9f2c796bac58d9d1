"""Succession: how a keeper becomes new code under its running mount, and has a new crew take over.

It first tries whether the new code can read what it is to be handed, then executes it in its own place, with all
descriptors. The new code starts a nursery and a crew; only when they serve, the former ones end. If they cannot, the
former ones stay. The request lies in a file beside the mount's, and so does the answer, which repeats its nonce.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

from ...errors import Error, MountError
from . import state
from .logfile import log
from .orders import Kept, become

if TYPE_CHECKING:
    from .keeper import Keeper

MODULE = "artifactfs.mount.keeping.keeper"
_TRIAL_SECONDS = 30.0


def request_path(state_path: str) -> str:
    """Where the request for the mount with that state file lies."""
    return state_path.removesuffix(".json") + ".restart"


def answer_path(state_path: str) -> str:
    """Where its answer lies."""
    return state_path.removesuffix(".json") + ".restarted"


def become_new(keeper: Keeper) -> None:
    """Turn into the code that is asked for; returns when that cannot be, which the caller is told."""
    path = keeper.orders.state
    request = state.read_object(request_path(path))
    if request is None:
        return
    try:
        kept = keeper.kept(request)
        words = [str(request["python"]), "-m", MODULE]
        home = str(request["home"])
        _try([*words, "--try"], home, kept)
        descriptor = os.memfd_create("artifactfs-kept", os.MFD_CLOEXEC)
        os.write(descriptor, kept.to_bytes())
        os.lseek(descriptor, 0, os.SEEK_SET)
        log(f"becoming the code of {home}")
        become([*words, "--kept", str(descriptor)], home, [*kept.descriptors(), descriptor])
    except OSError as error:
        _answer(path, request, state.failure(MountError(f"{request['python']} cannot be run; {error.strerror}")))
    except (Error, KeyError) as error:
        _answer(path, request, state.failure(error))


def read_kept(descriptor: int) -> Kept:
    """What the former code hands on. Raises MountError."""
    with os.fdopen(descriptor, "rb") as file:
        return Kept.from_bytes(file.read())


def go_on(keeper: Keeper, request: dict[str, Any]) -> None:
    """As the new code: have a new crew take over, and tell whoever asked."""
    orders = keeper.orders
    command = [str(request["python"]), *orders.command[1:]]
    try:
        info = keeper.renew(orders._replace(command=command, home=str(request["home"])))
    except Error as error:
        log(f"the new code cannot serve, the former workers stay; {error}")
        _answer(orders.state, request, state.failure(error))
    else:
        log("new workers serve")
        _answer(orders.state, request, {"ready": info.to_json()})


def _try(words: list[str], home: str, kept: Kept) -> None:
    """Raises MountError when the new code cannot be run, or cannot read what it is to be handed."""
    try:
        trial = subprocess.run(
            words, cwd=home, input=kept.to_bytes(), capture_output=True, timeout=_TRIAL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MountError(f"the code of {home} does not start in {_TRIAL_SECONDS:.0f} s; nothing was changed") from None
    if trial.returncode:
        said = trial.stderr.decode(errors="replace").strip().splitlines()
        raise MountError(f"the code of {home} does not run, {said[-1] if said else 'it says nothing'}")


def _answer(path: str, request: dict[str, Any], answer: dict[str, Any]) -> None:
    try:
        state.write_object(answer_path(path), {**answer, "nonce": request.get("nonce")})
    except MountError as error:
        log(f"{error}")
