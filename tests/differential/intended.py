"""The differences that are meant, each with its reason, how it is recognised, and statements that show it.

What is not in this list and differs is a fault of ours. A test runs every example, so that an entry goes when its
difference does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import operations
from wandb_peer import Step


class Intended(NamedTuple):
    """One difference: `recognises` tells it from a step, and each of `examples` ends with a statement that shows it."""

    reason: str
    recognises: Callable[[Step], bool]
    examples: list[list[str]]
    mended: bool = False
    """Whether wandb 0.31 does what is done here."""


def agree(step: Step) -> bool:
    """Whether both sides did the same: equal values, or an exception of the same built-in class (and of the same name
    where ours has wandb's); and equal states after it. Entries in wandb's lists have no order of their own."""
    theirs, mine = step.theirs, step.mine
    if theirs["state"] != mine["state"]:
        return False
    if "value" in theirs:
        return "value" in mine and _ordered(theirs["value"]) == mine["value"]
    wanted = {theirs["as"], *(operations.STATUS & set(theirs["raises"]))}
    return "raises" in mine and wanted <= set(mine["raises"])


def explained(step: Step, newer: bool = False) -> Intended | None:
    """The difference that is meant, if it is one; with `newer`, to wandb 0.31."""
    return next((each for each in INTENDED if each.recognises(step) and not (newer and each.mended)), None)


def _ordered(value: object) -> object:
    if isinstance(value, list) and value and all(isinstance(item, dict) and "entry" in item for item in value):
        return sorted(value, key=lambda item: item["entry"]["path"])
    return value


def _mine(step: Step, error: str, message: str = "") -> bool:
    return error in step.mine.get("raises", ()) and re.search(message, step.mine["message"]) is not None


def _theirs(step: Step, error: str, message: str = "") -> bool:
    return error in step.theirs.get("raises", ()) and re.search(message, step.theirs["message"]) is not None


def _calls(step: Step, *methods: str) -> bool:
    return re.search(rf"\b({'|'.join(methods)})\(", step.statement) is not None


def _taken_by_wandb(step: Step) -> bool:
    return "value" in step.theirs


def _partial(step: Step) -> bool:
    """Whether both raise the same, and wandb's draft holds a part of what was to be added."""
    same = agree(step._replace(theirs={**step.theirs, "state": step.mine["state"]}))
    return "raises" in step.theirs and same and step.mine["state"] == step.before


def _references_differ(step: Step, *keys: str) -> bool:
    """Whether both added the same paths as references, and only `keys` of them differ."""
    if not _calls(step, "add_reference") or "value" not in step.mine:
        return False
    theirs, mine = step.theirs["state"]["contents"], step.mine["state"]["contents"]
    if theirs.keys() != mine.keys():
        return False
    return all(
        {key for key in {*item, *theirs[path]} if item.get(key) != theirs[path].get(key)} <= {*keys}
        for path, item in mine.items()
    )


def _lists_for_texts(theirs: object, mine: object) -> bool:
    """Whether two described values are equal but for lists and numbers here where wandb has the text of an array."""
    if isinstance(theirs, str) and not isinstance(mine, str):
        return True
    if isinstance(theirs, dict) and isinstance(mine, dict):
        return theirs.keys() == mine.keys() and all(_lists_for_texts(theirs[key], mine[key]) for key in theirs)
    if isinstance(theirs, list) and isinstance(mine, list):
        return len(theirs) == len(mine) and all(map(_lists_for_texts, theirs, mine))
    return theirs == mine


def _array_in_metadata(step: Step) -> bool:
    if re.search(r"metadata.*\b(np|pd)\.", step.statement) is None or "raises" in {**step.theirs, **step.mine}:
        return False
    return _lists_for_texts([step.theirs["value"], step.theirs["state"]], [step.mine["value"], step.mine["state"]])


def _ttl_was_refused(step: Step) -> bool:
    """Whether the last value that was set is one that both refuse."""
    values = [each.partition("=")[2] for each in step.earlier if each.startswith("a.ttl =")]
    return bool(values) and re.search(r"timedelta\((0|-1)\)|3|'", values[-1]) is not None


FILLING = ["a.add_dir('tree')", "a.add_file('empty', 'none')", "a.add_reference(f'file://{here}/one', 'away')"]
"""A draft with files and a reference, to be logged."""
REFERRING = ["b = a", "a = Artifact('m', 't')"]
"""What was logged is `b` from now on, and `a` a draft to refer to it."""

_TREE = ["a.add_file('one', 'x')", "a.add_dir('tree', 'd')"]

INTENDED = [
    # -- making a draft
    Intended(
        "names.py says what may be a name or a type: 1 to 128 characters of A-Z a-z 0-9 _ . -, with ValueError",
        lambda step: _mine(step, "InvalidNameError") and _calls(step, "Artifact"),
        [
            ["Artifact('.', 't')"],
            ["Artifact('n\\n', 't')"],
            ["Artifact('n' * 129, 't')"],
            ["Artifact(None, 't')"],
            ["Artifact('n', 'a b')"],
            ["Artifact('n', '')"],
            ["Artifact('n', None)"],
        ],
    ),
    Intended(
        "a description is text or None; anything else would fail later, when it is logged",
        lambda step: _mine(step, "TypeError", "^description must be") and _taken_by_wandb(step),
        [["Artifact('n', 't', description=3)"], ["a.description = 3"]],
    ),
    Intended(
        "at most 100 keys of metadata in all; wandb leaves that to its server",
        lambda step: _mine(step, "InvalidMetadataError", "100 keys") and _taken_by_wandb(step),
        [["Artifact('n', 't', metadata={str(number): 1 for number in range(101)})"]],
        mended=True,
    ),
    Intended(
        "integers of metadata fit 64 bits: databases and other languages' JSON have no larger ones",
        lambda step: _mine(step, "InvalidMetadataError", "64 bits") and _taken_by_wandb(step),
        [["Artifact('n', 't', metadata={'v': 2**70})"]],
    ),
    Intended(
        "text is valid Unicode: lone surrogates can be stored nowhere",
        lambda step: _mine(step, "InvalidMetadataError", "not valid Unicode") and _taken_by_wandb(step),
        [["Artifact('n', 't', metadata={'v': '\\ud800'})"]],
    ),
    Intended(
        "metadata that holds itself is ValueError, not the interpreter's recursion limit",
        lambda step: _mine(step, "InvalidMetadataError", "holds itself") and _theirs(step, "RecursionError"),
        [["m = {}", "m['m'] = m", "Artifact('n', 't', metadata=m)"]],
    ),
    Intended(
        "arrays, series and indexes in metadata are lists; wandb writes the repr of those of 1 or more than 32 items",
        _array_in_metadata,
        [
            ["Artifact('n', 't', metadata={'v': np.array([1.5])}).metadata"],
            ["Artifact('n', 't', metadata={'v': np.array(3)}).metadata"],
            ["Artifact('n', 't', metadata={'v': np.arange(40)}).metadata"],
            ["Artifact('n', 't', metadata={'v': pd.Series([1, 2])}).metadata"],
        ],
    ),
    Intended(
        "frozen sets and other mappings inside metadata are lists and objects as sets and dictionaries are",
        lambda step: "metadata" in step.statement and _theirs(step, "TypeError", "frozenset|mappingproxy"),
        [
            ["Artifact('n', 't', metadata={'v': frozenset({1})}).metadata"],
            ["Artifact('n', 't', metadata={'v': MappingProxyType({'w': 1})}).metadata"],
        ],
    ),
    # -- paths
    Intended(
        "a path that could not be written to a disk or shown by the mount is refused when it is added",
        # The body of new_file may fail for a reason of its own, in wandb alone: here it is not entered.
        lambda step: (
            _mine(step, "InvalidPathError")
            and (_taken_by_wandb(step) or _calls(step, "write") or _theirs(step, "NotImplementedError"))
        ),
        [
            [f"a.add_file('one', {name!r})"]
            for name in ("..", "../x", "/x", "d/../x", "b\\s", "a\nb", "n" * 256, "C:/x", ".", ".artifactfs/x")
        ]
        + [
            ["a.add_dir('tree', '..')"],
            ["write(a, '/x', 't')"],
            ["a.add_reference('weird://host/k', '../x')"],
        ],
    ),
    Intended(
        "a path that is both a file and a directory is refused",
        lambda step: _mine(step, "PathConflictError", "directory"),
        [
            ["a.add_file('one', 'x')", "a.add_file('one', 'x/y')"],
            ["a.add_file('one', 'x/y')", "a.add_file('one', 'x')"],
            ["a.add_file('one', 'sub')", "a.add_dir('tree')"],
            ["write(a, 'x', 't')", "write(a, 'x/y', 't')"],
            ["a.add_file('one', 'x')", "a.add_reference('weird://host/k', 'x/y')"],
        ],
    ),
    # -- filling it
    Intended(
        "a wrong type of argument is TypeError",
        lambda step: (
            (_mine(step, "TypeError", "expected str, bytes or os.PathLike") and _theirs(step, "ValueError"))
            or (_mine(step, "TypeError", "^ttl must be") and _theirs(step, "AttributeError"))
        ),
        [["a.add_file(3)"], ["a.add_dir(3)"], ["a.ttl = 3"]],
    ),
    Intended(
        "bytes are taken as the path of a file, as everywhere in Python",
        lambda step: "(b'" in step.statement and _theirs(step, "TypeError") and "value" in step.mine,
        [["a.add_file(b'one')"]],
    ),
    Intended(
        "add_dir merges: a file that changed is replaced, as by wandb 0.31 with merge=True; 0.17.9 cannot",
        lambda step: (
            _calls(step, "add_dir") and _theirs(step, "ValueError", "same path twice") and "value" in step.mine
        ),
        [["a.add_dir('tree')", "a.add_dir('other')"]],
    ),
    Intended(
        "add_dir is all or nothing: an error leaves the draft as it was",
        lambda step: _calls(step, "add_dir") and _partial(step),
        [["a.add_dir('broken')"]],
    ),
    Intended(
        "a policy that is neither is refused before any file is looked for, and also when there is none",
        lambda step: _mine(step, "InvalidError", "^policy") and (_taken_by_wandb(step) or _theirs(step, "TypeError")),
        [["a.add_dir('hollow', policy='sometimes')"], ["a.add_file(None, policy='sometimes')"]],
    ),
    Intended(
        "a loop of links and what is no file are named before anything is read: ValueError, where wandb has OSError",
        lambda step: _mine(step, "SourceError", "loop|only plain files|only files") and _theirs(step, "OSError"),
        [["a.add_dir('looped')"], ["a.add_dir('piped')"]],
    ),
    Intended(
        "new_file refuses a path that is there, whatever put it there and with the same bytes too",
        lambda step: _calls(step, "write") and _mine(step, "PathConflictError", "already"),
        [["a.add_file('one', 'x')", "write(a, 'x', '1')"]],
    ),
    Intended(
        "new_file takes a path that a failed body or remove left free; wandb finds its own temporary file there",
        lambda step: _calls(step, "write") and _theirs(step, "ValueError", "already exists"),
        [
            ["write(a, 'x', '1', fail=True)", "write(a, 'x', '1')"],
            ["write(a, 'x', '1')", "a.remove('x')", "write(a, 'x', '2')"],
        ],
    ),
    Intended(
        "new_file makes new files only: a mode that reads what is there is ValueError",
        lambda step: _calls(step, "write") and _mine(step, "InvalidError", "^mode"),
        [["write(a, 'x', 't', 'r')"], ["write(a, 'x', 't', None)"]],
    ),
    Intended(
        "new_file normalises its path as all others do; wandb opens it as it is",
        lambda step: _calls(step, "write") and (_theirs(step, "IsADirectoryError") or _theirs(step, "FileExistsError")),
        [["write(a, 'd/', 't')"], ["write(a, 'd/.', 't', 'x')"]],
    ),
    Intended(
        "get_added_local_path_name knows a file by its absolute path too, and by what is no string",
        lambda step: _calls(step, "get_added_local_path_name") and step.theirs.get("value", "") is None,
        [["a.add_file('one')", "a.get_added_local_path_name(f'{here}/one')"]],
    ),
    Intended(
        "a ttl that is refused changes nothing; wandb inherits it no more",
        lambda step: step.statement == "a.ttl" and _taken_by_wandb(step) and _ttl_was_refused(step),
        [["a.ttl = timedelta(0)", "a.ttl"]],
    ),
    # -- references
    Intended(
        "a file in a directory that is referred to has its own URI; wandb puts the name that it has here into it",
        lambda step: _references_differ(step, "ref") and "file:" in step.statement,
        [["a.add_reference(f'file://{here}/tree', 'd')"]],
        mended=True,
    ),
    Intended(
        "an empty name of a reference is none, as add_file has it; wandb makes it the path '.'",
        lambda step: _calls(step, "add_reference") and "name=''" in step.statement and _taken_by_wandb(step),
        [["a.add_reference(f'file://{here}/one', name='')"]],
    ),
    Intended(
        "links to directories are followed in a directory that is referred to, as in one that is added",
        lambda step: (
            (_calls(step, "add_reference") and "linked" in step.statement and _taken_by_wandb(step))
            and ("value" in step.mine or _mine(step, "InvalidError", "more than . files"))
        ),
        [
            ["a.add_reference(f'file://{here}/linked')"],
            ["a.add_reference(f'file://{here}/linked', max_objects=2)"],
        ],
    ),
    Intended(
        "without a checksum the digest is a hash of the URI, and a directory one entry; wandb hashes the sizes",
        lambda step: (
            (_calls(step, "add_reference") and "checksum=False" in step.statement and "file:" in step.statement)
            and ("value" in step.mine or _mine(step, "PathConflictError"))
        ),
        [
            ["a.add_reference(f'file://{here}/one', checksum=False)"],
            ["a.add_reference(f'file://{here}/tree', 'd', checksum=False)"],
        ],
    ),
    Intended(
        "the digest of what cannot be read is a hash of the URI, as wandb's words have it; its code takes the URI",
        lambda step: _references_differ(step, "digest") and "file:" not in step.statement,
        [["a.add_reference('weird://host/k', 'n')"]],
    ),
    Intended(
        "a reference that is neither text nor an entry is TypeError; wandb stumbles over a variable without a value",
        lambda step: _theirs(step, "UnboundLocalError") and _mine(step, "TypeError"),
        [["a.add_reference(3)"], ["a.add_reference(None)"]],
    ),
    Intended(
        "an entry that no logged artifact gave: ArtifactNotLoggedError, where wandb has a bare NotImplementedError",
        lambda step: _theirs(step, "NotImplementedError") and _mine(step, "ArtifactNotLoggedError"),
        [
            ["a.add_file('one')", "a.add_reference(a.manifest.entries['one'])"],
            ["Entry(path='x', digest='d').ref_url()"],
            ["Entry(path='x', digest='d').download()"],
            ["Entry(path='x', digest='d').parent_artifact()"],
        ],
    ),
    # -- looking at it
    Intended(
        "get_entries_in_directory takes '' for the root and needs no directory without its slash",
        lambda step: _calls(step, "get_entries_in_directory") and step.theirs.get("value", "") == [],
        [
            [*_TREE, "a.manifest.get_entries_in_directory('')"],
            [*_TREE, "a.manifest.get_entries_in_directory('d/')"],
        ],
    ),
    Intended(
        "link says that a draft is not logged; wandb starts a run first",
        lambda step: _calls(step, "a.link") and _mine(step, "ArtifactNotLoggedError"),
        [["a.link('portfolio')"]],
    ),
    Intended(
        "an entry's class is called Entry here, and ArtifactManifestEntry is another name for it",
        lambda step: "__name__" in step.statement and step.mine.get("value") == "Entry",
        [["Entry.__name__"]],
    ),
    Intended(
        "a manifest that is malformed is ValueError, whatever is wrong with it",
        lambda step: _mine(step, "InvalidManifestError") and "raises" in step.theirs,
        [
            ["Manifest.from_manifest_json({'version': 1})"],
            [
                "Manifest.from_manifest_json("
                "{'version': 1, 'storagePolicy': 'wandb-storage-policy-v1', 'contents': {'x': {}}})"
            ],
            ["Manifest.from_manifest_json(3)"],
        ],
    ),
    # -- logged versions
    Intended(
        "a reference to an entry has the size of what it refers to; wandb has 0 for all",
        lambda step: _references_differ(step, "size") and "b." in step.statement,
        [[*FILLING, "log(a)", *REFERRING, "a.add_reference(b.get_entry('sub/z'))"]],
    ),
    Intended(
        "ref_target is the URI that is referred to, also of a file; wandb makes a copy in its cache, or refuses",
        lambda step: _calls(step, "ref_target") and "value" in step.mine,
        [
            [*FILLING, "log(a)", "a.get_entry('away').ref_target().startswith('file:')"],
            [
                *FILLING,
                "log(a)",
                *REFERRING,
                "a.add_reference(b.get_entry('none'))",
                "log(a)",
                "a.get_entry('none').ref_target()",
            ],
        ],
    ),
    Intended(
        "verify tells every difference, ValueError; wandb ends with the first, FileNotFoundError for a missing file",
        lambda step: _calls(step, "verify") and _mine(step, "VerificationError") and _theirs(step, "FileNotFoundError"),
        [[*FILLING, "log(a)", "a.verify('again')"]],
    ),
    Intended(
        "file says of a version without files that it has none, ValueError; wandb looks for the first",
        lambda step: _calls(step, "file") and _theirs(step, "IndexError") and _mine(step, "InvalidError"),
        [["log(a)", "a.file()"]],
    ),
]
