"""Unit: a mount as a service of systemd: the text of its unit, and the words that tell systemd how it stands.

The protocol is that of sd_notify(3): datagrams to the socket that the environment names. Owns the escaping that
systemd.unit(5) and systemd.service(5) ask for.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence

from ..errors import InvalidError, MountError

READY = "READY=1"
STOPPING = "STOPPING=1"

_PLAIN = re.compile(r"[\w./:@=+,%-]+", re.ASCII)

_UNIT = """\
[Unit]
Description=artifactfs at {shown}

[Service]
Type=notify
ExecStart={start}
ExecStop={stop}
KillMode=mixed
Restart=on-failure
RestartSec=1

[Install]
WantedBy=default.target
"""


def unit_text(mountpoint: str, start: Sequence[str], stop: Sequence[str]) -> str:
    """The unit of a service that runs `start`, which mounts in the foreground, until `stop` takes the mount down.

    Raises InvalidError where a word cannot be written in a unit.
    """
    return _UNIT.format(shown=_checked(mountpoint).replace("%", "%%"), start=_command(start), stop=_command(stop))


def unit_name(mountpoint: str) -> str:
    """What the unit of a mountpoint is called, escaped as systemd-escape(1) escapes paths."""
    path = "/".join(part for part in mountpoint.split("/") if part) or "-"
    allowed = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")
    escaped = "".join(
        "-" if byte == ord("/") else chr(byte) if byte in allowed and (number or byte != ord(".")) else f"\\x{byte:02x}"
        for number, byte in enumerate(os.fsencode(path))
    )
    return f"artifactfs-{escaped}.service"


def tell(notify_socket: str | None, state: str) -> None:
    """Tell systemd, if it is there to be told. `notify_socket` is what NOTIFY_SOCKET holds: a path, or `@name`.

    Raises MountError when it cannot be told: it would wait for that word until it kills the service.
    """
    if not notify_socket:
        return
    address = "\0" + notify_socket[1:] if notify_socket.startswith("@") else notify_socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaking:
            speaking.connect(address)
            speaking.send(state.encode())
    except OSError as error:
        raise MountError(f"systemd cannot be told at {notify_socket}; {error.strerror or error}") from None


def _command(words: Sequence[str]) -> str:
    return " ".join(map(_word, words))


def _word(word: str) -> str:
    """A word of a command line: quoted, with nothing in it that systemd would replace."""
    _checked(word)
    for char, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(char, escaped)
    return word if _PLAIN.fullmatch(word) else f'"{word}"'


def _checked(word: str) -> str:
    try:
        word.encode()
    except UnicodeEncodeError:
        raise InvalidError(f"{word!a} is not UTF-8, which a unit cannot hold; choose another directory") from None
    if not word.isprintable():
        raise InvalidError(f"{word!a} holds control characters, which a unit cannot; choose another directory")
    return word
