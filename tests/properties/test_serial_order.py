"""Two threads, and two processes, at work in one collection: every result is that of some serial order of it all."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from serialmodel import Model, tried

from artifactfs.artifact import Artifact
from artifactfs.connect import connect, create_store
from artifactfs.errors import Error
from artifactfs.store import Store

WHERE = {"entity": "me", "project": "demo"}
ACTS = 4
BURSTS = 15


class Act(NamedTuple):
    """What an actor does: the act's name, and its words."""

    name: str
    words: tuple[Any, ...]


class Did(NamedTuple):
    """An act, and what came of it: an answer, or the class of the error."""

    act: Act
    answer: Any
    refusal: str | None


def chosen(dice: random.Random) -> Act:
    handle = dice.choice(["latest", "x", "y", "v0", "v1"])
    return dice.choice(
        [
            Act("log", (dice.choice("123"), dice.sample(["x", "y"], dice.randint(0, 1)))),
            Act("log", (dice.choice("123"), [])),
            Act("alias", (handle, dice.choice(["x", "y"]))),
            Act("unalias", (handle, dice.choice(["x", "y"]))),
            Act("delete", (handle, dice.random() < 0.5)),
            Act("link", (handle,)),
        ]
    )


def perform(store: Store, act: Act) -> Did:
    """Do it with the store."""
    try:
        return Did(act, _performed(store, act), None)
    except Error as error:
        return Did(act, None, type(error).__name__)


def _performed(store: Store, act: Act) -> Any:
    words = act.words
    if act.name == "log":
        artifact = Artifact("a", "t")
        with artifact.new_file("f") as file:
            file.write(words[0])
        membership, created = store.log(artifact.draft, **WHERE, aliases=words[1])
        return [membership.number, created]
    membership = store.resolve(f"a:{words[0]}", **WHERE)
    number = membership.number
    if act.name == "alias":
        store.set_aliases(membership, add=[words[1]])
    elif act.name == "unalias":
        store.set_aliases(membership, remove=[words[1]])
    elif act.name == "delete":
        store.delete_version(membership, delete_aliases=words[1])
    else:
        return [number, store.link(membership.version, "me", "demo", "p").number]
    return number


Step = tuple[str, tuple[Any, ...], dict[str, Any]]


def explained(histories: Sequence[Sequence[Did]], final: Any) -> bool:
    """Whether some serial order of the actors' steps gives every answer, and the end.

    An act that names a version by an alias is two steps, finding it and changing it; others may act between the two.
    """
    steps = [[step for did in history for step in _steps(did)] for history in histories]
    return _search(Model(), tuple(map(tuple, steps)), {}, final, set())


def _steps(did: Did) -> list[tuple[str, Did]]:
    return [("whole", did)] if did.act.name == "log" else [("find", did), ("change", did)]


def _search(model: Model, left: tuple[tuple[Any, ...], ...], found: dict[int, Any], final: Any, seen: set[Any]) -> bool:
    if not any(left):
        return shown(model) == final
    key = (tuple(map(len, left)), repr(shown(model)), repr(sorted(found.items())))
    if key in seen:
        return False
    seen.add(key)
    for actor, steps in enumerate(left):
        if not steps:
            continue
        after = _after(model, steps[0], found.get(actor))
        if after is None:
            continue
        changed, held = after
        rest = steps[1:]
        if steps[0][0] == "find" and held is None:
            rest = steps[2:]  # it was refused where it looked
        if _search(changed, (*left[:actor], rest, *left[actor + 1 :]), {**found, actor: held}, final, seen):
            return True
    return False


def _after(model: Model, step: tuple[str, Did], held: Any) -> tuple[Model, Any] | None:
    """The model after a step, and the version that it holds now; None where that is not what came of it."""
    kind, (act, answer, refusal) = step
    words = act.words
    if kind == "whole":
        after, gave, refused = tried(model, "log", "a", "t", {"f": words[0]}, aliases=words[1])
        return (after, None) if (refused, list(gave or ())) == (refusal, answer or []) else None
    if kind == "find":
        _, version, refused = tried(model, "find", "a", words[0])
        if refused is not None:
            return (model, None) if refusal == refused else None
        return model, version
    number = model.versions[held].number
    name = f"v{number}"
    if act.name == "alias":
        options = {"add": {words[1]}, "remove": set(), "values": {}, "tags": set()}
        after, _, refused = tried(model, "edit", "a", name, **options)
    elif act.name == "unalias":
        options = {"add": set(), "remove": {words[1]}, "values": {}, "tags": set()}
        after, _, refused = tried(model, "edit", "a", name, **options)
    elif act.name == "delete":
        after, _, refused = tried(model, "delete", "a", name, delete_aliases=words[1], force=False)
    else:
        after, linked, refused = tried(model, "link", "a", name, "p", [])
        number = [number, linked]  # type: ignore[assignment]
    wanted = number if refused is None else None
    return (after, None) if (refused, wanted) == (refusal, answer) else None


def shown(model: Model) -> dict[str, Any]:
    return {
        name: [sorted((n, model.versions[v].files["f"]) for n, v in each.shows.items()), sorted(each.aliases.items())]
        for name, each in model.collections.items()
    }


def shown_by(store: Store) -> dict[str, Any]:
    with contextlib.suppress(Error):
        return {
            collection.name: [
                [
                    (member.number, store.read_entry(store.manifest_of(member.version).entries["f"]).decode())
                    for member in store.catalog.memberships(collection.id)
                ],
                [(alias.name, alias.number) for alias in store.aliases_of(collection)],
            ]
            for collection in store.collections("me", "demo")
        }
    return {}


def by_threads(location: str, plans: list[list[Act]]) -> list[list[Did]]:
    store = connect(location)
    histories: list[list[Did]] = [[] for _ in plans]
    barrier = threading.Barrier(len(plans))

    def work(number: int) -> None:
        barrier.wait(60)
        for act in plans[number]:
            histories[number].append(perform(store, act))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(plans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    store.close()
    return histories


def _work(location: str, plan: list[Act], barrier: Any, answers: Any, number: int) -> None:
    with contextlib.closing(connect(location)) as store:
        barrier.wait(60)
        answers.put((number, [perform(store, act) for act in plan]))


def by_processes(location: str, plans: list[list[Act]]) -> list[list[Did]]:
    forking = multiprocessing.get_context("fork")
    barrier, answers = forking.Barrier(len(plans)), forking.SimpleQueue()
    workers = [
        forking.Process(target=_work, args=(location, plan, barrier, answers, number))
        for number, plan in enumerate(plans)
    ]
    for worker in workers:
        worker.start()
    found = dict(answers.get() for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    return [found[number] for number in range(len(plans))]


@pytest.mark.parametrize("actors", [by_threads, by_processes])
def test_every_result_is_that_of_some_serial_order(
    actors: Callable[[str, list[list[Act]]], list[list[Did]]], tmp_path: Path
) -> None:
    refused = 0
    for burst in range(BURSTS):
        dice = random.Random(burst)
        location = str(tmp_path / f"store{burst}")
        create_store(location)
        histories = actors(location, [[chosen(dice) for _ in range(ACTS)] for _ in range(2)])
        assert [len(history) for history in histories] == [ACTS, ACTS]
        with contextlib.closing(connect(location)) as store:
            final = shown_by(store)
        assert explained(histories, final), "\n".join(map(str, [*itertools.chain(*histories), final]))
        refused += sum(did.refusal is not None for history in histories for did in history)
    assert 0 < refused < BURSTS * ACTS * 2  # some were refused, and some were not


def test_a_wrong_history_is_found_out() -> None:
    one, two = Act("log", ("1", [])), Act("log", ("2", ["x"]))
    right = [[Did(one, [0, True], None)], [Did(two, [1, True], None)]]
    end = {"a": [[(0, "1"), (1, "2")], [("latest", 1), ("x", 1)]]}
    assert explained(right, end)
    assert not explained([[Did(one, [0, True], None)], [Did(two, [0, True], None)]], end)
    assert not explained(right, {"a": [[(0, "1"), (1, "2")], [("latest", 0), ("x", 1)]]})
    gone = Did(Act("delete", ("v0", True)), 0, None)
    assert not explained([[Did(one, [0, True], None), gone, gone]], {"a": [[], []]})
    assert explained([[Did(one, [0, True], None), gone, Did(gone.act, None, "NotFoundError")]], {"a": [[], []]})
