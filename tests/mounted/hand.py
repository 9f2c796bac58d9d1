"""Another process of a store, that does what it is told: `hand.py STORE`, a JSON list a line on stdin.

The first of a list is the name of a function here, the rest its arguments; what it returns comes back as a JSON line,
or an object with the error.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from artifactfs.artifact import Artifact
from artifactfs.connect import connect, create_store
from artifactfs.records import CollectionEdit, Edit
from artifactfs.store import Store

HERE = {"entity": "me", "project": "demo"}


class Hand:
    def __init__(self, store: Store) -> None:
        self._store = store

    def log(self, name: str, text: str, aliases: list[str]) -> int:
        draft = Artifact(name, "dataset", staging_root=lambda: self._store.staging_root).draft
        for path in ("a.txt", "deep/b.txt"):
            with draft.new_file(path, "w") as file:
                file.write(text)
        return self._store.log(draft, aliases=aliases, **HERE)[0].number

    def alias(self, name: str, alias: str) -> None:
        self._store.set_aliases(self._store.resolve(name, **HERE), add=[alias])

    def unalias(self, name: str, alias: str) -> None:
        self._store.remove_alias(self._store.collection(name, **HERE), alias)

    def link(self, name: str, portfolio: str) -> int:
        return self._store.link(self._store.resolve(name, **HERE).version, "me", "demo", portfolio).number

    def unlink(self, name: str) -> None:
        self._store.unlink(self._store.resolve(name, **HERE))

    def delete(self, name: str) -> None:
        self._store.delete_version(self._store.resolve(name, **HERE), delete_aliases=True)

    def delete_collection(self, name: str) -> None:
        self._store.delete_collection(self._store.collection(name, **HERE), force=True)

    def rename(self, name: str, new: str) -> None:
        self._store.edit_collection(self._store.collection(name, **HERE), CollectionEdit(name=new))

    def describe(self, name: str, text: str) -> None:
        self._store.edit(self._store.resolve(name, **HERE), Edit(description=text))

    def time(self) -> float:
        return time.monotonic()


def main() -> None:
    create_store(sys.argv[1])
    hand = Hand(connect(sys.argv[1]))
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        answer: Any
        try:
            answer = getattr(hand, name)(*arguments)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
