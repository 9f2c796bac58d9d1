"""Errors: the tree drawn in the module's docstring is the tree of classes, and each says one line."""

from __future__ import annotations

import builtins
import inspect
import re

import pytest

from artifactfs import errors

_LINE = re.compile(r"^(?P<indent> {4}[│├└─ ]*)(?P<name>[A-Z]\w*Error|Error)(?: \((?P<builtin>\w+)\))?(?: .*)?$")
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == errors.__name__
}


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """name -> (parent, builtin base) as the docstring draws them; a level is four columns deep."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        depth = len(match["indent"]) // 4 - 1  # the drawing itself is indented by four
        assert 0 <= depth <= len(path), f"{line!r} hangs below nothing"
        path[depth:] = [match["name"]]
        assert match["name"] not in tree, f"{match['name']} is drawn twice"
        tree[match["name"]] = (path[depth - 1] if depth else None, match["builtin"])
    return tree


def test_the_drawing_names_every_class_and_no_other() -> None:
    assert drawn().keys() == CLASSES.keys()
    assert len(CLASSES) > 30


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_class_hangs_where_it_is_drawn(name: str) -> None:
    parent, builtin = drawn()[name]
    ours = [base.__name__ for base in CLASSES[name].__bases__ if base.__module__ == errors.__name__]
    others = [base for base in CLASSES[name].__bases__ if base.__module__ != errors.__name__]
    if parent is None:
        assert (name, ours, others) == ("Error", [], [Exception])
        return
    assert ours == [parent]
    assert [base.__name__ for base in others] == ([builtin] if builtin else [])
    assert all(getattr(builtins, base.__name__) is base for base in others)
    assert CLASSES[name].__doc__


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_message_is_shown_as_it_was_given(name: str) -> None:
    """KeyError would show a repr, OSError a pair with an errno."""
    error = CLASSES[name]("no such thing 'x'; try y")
    assert str(error) == "no such thing 'x'; try y"
    assert str(CLASSES[name]()) == name
    with pytest.raises(errors.Error):
        raise error


def test_names_that_users_of_artifacts_catch() -> None:
    assert issubclass(errors.ArtifactNotLoggedError, errors.ArtifactStatusError)
    assert issubclass(errors.ArtifactFinalizedError, errors.ArtifactStatusError)
    assert issubclass(errors.ArtifactStatusError, AttributeError)
    assert issubclass(errors.WaitTimeoutError, TimeoutError)
    assert issubclass(errors.InvalidError, ValueError) and issubclass(errors.PathNotFoundError, FileNotFoundError)
