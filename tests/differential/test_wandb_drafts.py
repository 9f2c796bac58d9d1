"""The same statements on a draft here and in wandb: values, exceptions and what the draft holds agree.

Hypothesis makes the statements. Where they differ, the difference is one of intended.py, or a fault of ours.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intended import INTENDED, Intended, agree, explained
from wandb_peer import Peers, Step

pytestmark = pytest.mark.timeout(900)  # the first time installs wandb
pytest.importorskip("pandas")  # of which values go into metadata

MADE = "a = Artifact('n', 't')"


def told(step: Step) -> str:
    """What a step was, for a person."""
    lines = [f"{step.statement}"]
    for side, did in (("wandb", step.theirs), ("artifactfs", step.mine)):
        came = f"{did['raises'][0]} ({did['as']}): {did['message']}" if "raises" in did else f"{did['value']}"
        lines.append(f"  {side}: {came}\n    then: {did['state'] and did['state']['contents']}")
    return "\n".join(lines)


def check(steps: list[Step], newer: bool = False) -> None:
    """All agree, or differ as is meant; after a difference of states there is no more to compare."""
    for number, step in enumerate(steps):
        if agree(step):
            continue
        script = "\n".join(each.statement for each in steps[:number])
        assert explained(step, newer) is not None, f"{script}\n{told(step)}"
        if step.theirs["state"] != step.mine["state"]:
            return


# -- parts of statements

GOOD = ["x", "d/x", "d/sub/z", "e/f", "ü", "a b", "deep/er/x", ".h", "x.y.z", "-rf"]
CLASHING = ["d", "x/below", "e"]
ODD = [
    "a//b",
    "./x",
    "d/.",
    "x/",
    "",
    "..",
    "../x",
    "/x",
    "d/../x",
    ".artifactfs",
    "b\\s",
    "a\nb",
    "n" * 256,
    "C:/x",
    ".",
]


def mostly(good: list[str], *odd: str) -> st.SearchStrategy[str]:
    """Four of five times one of `good`."""
    return st.integers(0, 4).flatmap(lambda dice: st.sampled_from(list(odd) if dice == 4 and odd else good))


paths = st.integers(0, 9).flatmap(
    lambda dice: st.sampled_from(CLASHING if dice == 9 else ODD if dice == 8 else GOOD).map(repr)
)
paths_as_objects = paths | st.sampled_from(GOOD).map(lambda path: f"Path({path!r})")
optional_paths = st.just("None") | paths_as_objects
files_of = mostly(
    ["'one'", "'same'", "'two'", "'empty'", "'model.tar.gz'", "'.hidden'", "'ü.txt'", "'a b%41'"],
    "'./one'",
    "'tree/../one'",
    "Path('one')",
    "f'{here}/one'",
    "'link'",
    "'missing'",
    "'tree'",
    "''",
    "None",
    "'broken/dangling'",
)
folders_of = mostly(
    ["'tree'", "'other'", "'again'", "'hollow'", "'linked'"],
    "'tree/'",
    "'./tree'",
    "Path('tree')",
    "f'{here}/tree'",
    "'folder link'",
    "'tree/sub/..'",
    "'one'",
    "'missing'",
    "''",
    "None",
    "'broken'",
    "'looped'",
)  # not 'piped': with the policy "immutable" wandb would wait for somebody to write into the pipe
policies = mostly(["'mutable'", "'immutable'"], "None", "''", "'sometimes'", "'MUTABLE'", "3")
flags = mostly(["True", "False"], "None")


def call(method: str, *required: st.SearchStrategy[str], **optional: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A call of a method of `a`, some of its optional arguments given."""
    given_ones = st.fixed_dictionaries({}, optional=optional)
    return st.builds(
        lambda first, rest: f"a.{method}({', '.join([*first, *(f'{name}={value}' for name, value in rest.items())])})",
        st.tuples(*required),
        given_ones,
    )


bodies = st.one_of(
    st.tuples(st.text("aü\n€", max_size=4).map(repr), st.sampled_from(["w", "x", "wt", "a", "w+", "r"]).map(repr)),
    st.tuples(st.binary(max_size=4).map(repr), st.sampled_from(["wb", "xb", "ab", "wb+"]).map(repr)),
    st.tuples(st.sampled_from(["'t'", "b't'"]), st.sampled_from(["'w'", "'wb'", "''", "'bogus'", "None"])),
)
encodings = st.sampled_from(["None", "'utf-8'", "'latin-1'", "'ascii'", "'utf-16'", "'bogus'"])
new_files = st.builds(
    lambda path, body, rest: f"write(a, {path}, {body[0]}, mode={body[1]}{rest})",
    paths,
    bodies,
    st.sampled_from(["", "", ", fail=True"]) | encodings.map(lambda encoding: f", encoding={encoding}"),
)
new_texts = st.builds(lambda path, text: f"write(a, {path}, {text!r})", paths, st.text("ab", max_size=2))

uris = mostly(
    [
        "f'file://{here}/one'",
        "f'file://{here}/two'",
        "f'file://{here}/tree'",
        "f'file://{here}/other'",
        "f'file://{here}/a%20b%2541'",
        "'weird://host/k'",
    ],
    "f'file://{here}/tree/'",
    "f'file://{here}/hollow'",
    "f'file://{here}/link'",
    "f'file://{here}/linked'",
    "f'file://{here}/ü.txt'",
    "f'file://{here}/missing'",
    "f'file://{here}/broken'",
    "f'file://{here}/broken/dangling'",
    "f'file://localhost{here}/one'",
    "'one'",
    "''",
    "'x:y'",
    "3",
    "None",
    "Entry(path='x', digest='d', ref='s3://bucket/x')",
    "next(iter(a.manifest.entries.values()))",
)
references = call(
    "add_reference",
    uris,
    name=optional_paths,
    max_objects=st.sampled_from(["None", "1", "2", "3", "4", "100"]),
    checksum=st.sampled_from(["True", "True", "True", "True", "False"]),
)
manifest_entries = st.builds(
    lambda path, digest, rest: f"a.manifest.add_entry(Entry(path={path}, digest={digest}{rest}))",
    st.sampled_from([*GOOD, *CLASHING, "a//b", "../x", "/x"]).map(repr),
    st.sampled_from(["'d'", "'e'"]),
    st.sampled_from([", size=3", ", ref='s3://bucket/x'", ", ref='s3://bucket/y', size=3", ", size=0, extra={'e': 1}"]),
)
removals = st.one_of(
    call("remove", paths_as_objects),
    st.sampled_from(GOOD).map(lambda path: f"a.remove(a.manifest.entries[{path!r}])"),
    st.sampled_from(GOOD).map(lambda path: f"a.remove(Entry(path={path!r}, digest='d'))"),
    st.sampled_from(GOOD).map(lambda path: f"a.manifest.remove_entry(Entry(path={path!r}, digest='d'))"),
)
looks = st.one_of(
    call("get_added_local_path_name", files_of.filter(lambda name: name != "None")),
    paths.map(lambda path: f"a.manifest.get_entry_by_path({path})"),
    paths.map(lambda path: f"a.manifest.get_entries_in_directory({path})"),
    st.sampled_from(GOOD).map(lambda path: f"a.manifest.entries[{path!r}]"),
    st.sampled_from(GOOD).map(lambda path: f"a.manifest.entries[{path!r}].ref_target()"),
    st.sampled_from(GOOD).map(lambda path: f"shape(a.manifest.entries[{path!r}])"),
    st.sampled_from(["len(a.manifest)", "a.manifest.digest()", "a.size", "a.state", "a.is_draft()", "a.id"]),
    st.just("Manifest.from_manifest_json(a.manifest.to_manifest_json()).digest()"),
)
changes = st.one_of(
    call("add_file", files_of, name=optional_paths, is_tmp=flags, skip_cache=flags, policy=policies),
    st.builds(lambda file, path: f"a.add_file({file}, {path})", files_of, paths),
    call("add_dir", folders_of, name=optional_paths, skip_cache=flags, policy=policies),
    new_texts,
    new_files,
    removals,
    references,
    manifest_entries,
)
statements = st.integers(0, 39).flatmap(
    lambda dice: st.just("a.finalize()") if dice == 39 else looks if dice % 4 == 3 else changes
)


@settings(max_examples=400)
@given(plan=st.lists(statements, min_size=1, max_size=10))
def test_generated_statements(reference: Peers, files: Path, plan: list[str]) -> None:
    check(reference.run(files, [MADE, *plan]))


BODIES = {
    "finalized before": ["a.finalize()"],
    "finalized inside": ["file = f.__enter__()", "a.finalize()"],
    "same bytes added inside": ["file = f.__enter__()", "a.add_file('empty', 'd/x.png')"],
    "other bytes added inside": ["file = f.__enter__()", "a.add_file('two', 'd/x.png')"],
    "added and removed inside": ["file = f.__enter__()", "a.add_file('two', 'd/x.png')", "a.remove('d')"],
    "written by name": [
        "file = f.__enter__()",
        "file.name.endswith('d/x.png')",
        "Path(file.name).is_file()",
        "Path(file.name).write_bytes(b'by its name')",
    ],
    "asked": ["file = f.__enter__()", "file.mode", "file.tell()", "file.writable()", "file.readable()"],
    "read back": ["file = f.__enter__()", "file.write('abc')", "file.seek(0)", "file.read()"],
}


@pytest.mark.parametrize("body", BODIES)
def test_new_files_open_and_close_alike(reference: Peers, files: Path, body: str) -> None:
    """With the name that a format is told by, as Pillow does, and that others may open it by."""
    opened = f"f = a.new_file('d/x.png', {'w+' if body == 'read back' else 'w'!r})"
    closed = ["f.__exit__(None, None, None)"] if "file = f.__enter__()" in BODIES[body] else ["f.__enter__()"]
    steps = reference.run(files, [MADE, opened, *BODIES[body], *closed])
    assert not [told(step) for step in steps if not agree(step)]


# -- making, describing

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
).map(repr)
numpy_and_pandas = st.sampled_from(
    [
        "np.float32(1.5)",
        "np.float64(nan)",
        "np.float16(0.1)",
        "np.int64(3)",
        "np.uint8(3)",
        "np.bool_(True)",
        "np.str_('s')",
        "np.array([1, 2])",
        "np.array([nan, inf, 1.0])",
        "np.array(['a', 'b'])",
        "np.array([])",
        "np.arange(4).reshape(2, 2)",
        "np.arange(40)",
        "np.array([1.5])",
        "np.array(3)",
        "np.datetime64('2020-01-02')",
        "pd.Timestamp(0)",
        "pd.Timestamp('2020-01-02', tz='UTC')",
        "pd.NaT",
        "pd.NA",
        "pd.Timedelta(1, 's')",
        "pd.Series([1, 2])",
        "pd.Index(['a'])",
    ]
)
others = st.sampled_from(
    [
        "datetime(2020, 1, 2, 3)",
        "datetime(2020, 1, 2, tzinfo=utc)",
        "date(2020, 1, 2)",
        "time(3)",
        "timedelta(1)",
        "{1, 2}",
        "frozenset({1})",
        "range(3)",
        "deque([1])",
        "b'bytes'",
        "Path('a/b')",
        "Decimal('1.5')",
        "UUID(int=3)",
        "Colour.RED",
        "Point(1, 2.5)",
        "Opaque()",
        "Opaque",
        "len",
        "slice(1, 2)",
        "OrderedDict(a=1)",
        "MappingProxyType({'a': 1})",
        "{1: 2, None: 3, True: 4, 1.5: 5}",
        "{(1, 2): 3}",
        "1j",
        "object()",
        "...",
        "2**70",
        "'\\ud800'",
    ]
)
values = st.recursive(
    st.one_of(plain, plain, numpy_and_pandas, others),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda items: f"({', '.join(items)},)"),
        st.dictionaries(st.text("abc", max_size=3), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key!r}: {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=6,
)
metadata = st.dictionaries(st.text("abc é", max_size=3), values, max_size=3).map(
    lambda items: "{" + ", ".join(f"{key!r}: {value}" for key, value in items.items()) + "}"
)
no_metadata = st.sampled_from(["None", "3", "'{}'", "[1]", "()", "MappingProxyType({})", "OrderedDict(a=1)"])
names = mostly(
    ["'n'", "'a.b-C_9'", "'n' * 128"],
    *["''", "'a b'", "'a/b'", "'a:b'", "'.'", "'..'", "'n\\n'", "'ü'", "'n' * 129", "None", "3", "b'n'"],
)
types = mostly(
    ["'t'", "'dataset'", "'jobs'", "'wandb'", "'run_table'"],
    *["'job'", "'wandb-x'", "'wandb-'", "''", "'a b'", "'a/b'", "None", "3"],
)
drafts = st.builds(
    lambda name, kind, rest: f"a = Artifact({', '.join([name, kind, *(f'{k}={v}' for k, v in rest.items())])})",
    names,
    types,
    st.fixed_dictionaries(
        {},
        optional={
            "description": st.sampled_from(["None", "''", "'words\\nü'", "3"]),
            "metadata": metadata | no_metadata,
            "incremental": flags,
            "use_as": st.sampled_from(["None", "'train'"]),
        },
    ),
)
FIELDS = ["name", "type", "description", "metadata", "incremental", "use_as", "distributed_id", "source_name"]
settings_of = st.one_of(
    (metadata | no_metadata).map(lambda value: f"a.metadata = {value}"),
    values.map(lambda value: f"a.metadata['added'] = {value}") | st.just("a.metadata.clear()"),
    st.sampled_from(["None", "'words'", "3", "b'words'"]).map(lambda value: f"a.description = {value}"),
    st.sampled_from(["'worker'", "None"]).map(lambda value: f"a.distributed_id = {value}"),
    st.sampled_from(
        ["timedelta(1)", "timedelta(seconds=30)", "timedelta(0)", "timedelta(-1)", "None", "INHERIT", "3", "'1d'"]
    ).map(lambda value: f"a.ttl = {value}"),
)


@settings(max_examples=150)
@given(made=drafts, changed=st.lists(settings_of, max_size=3), finalized=st.booleans())
def test_generated_descriptions(reference: Peers, files: Path, made: str, changed: list[str], finalized: bool) -> None:
    steps = reference.run(
        files,
        [
            made,
            *(["a.finalize()"] if finalized else []),
            *(each for change in changed for each in (change, "a.ttl")),
            *(f"a.{name}" for name in FIELDS),
            "a.ttl",
        ],
    )
    if not agree(steps[0]) or "raises" in steps[0].mine:
        check(steps[:1])
    else:
        check(steps)


@settings(max_examples=150)
@given(value=values)
def test_generated_metadata(reference: Peers, files: Path, value: str) -> None:
    """One value at a time, so that a difference that is meant hides no other."""
    check(reference.run(files, [f"Artifact('n', 't', metadata={{'v': {value}}}).metadata"]))


# -- entries

fields = st.fixed_dictionaries(
    {"path": st.sampled_from(["'x'", "'d/x'", "Path('d/x')"]), "digest": st.sampled_from(["'d'", "'e'"])},
    optional={
        "size": st.sampled_from(["None", "0", "3"]),
        "ref": st.sampled_from(["None", "'s3://bucket/x'", "'file:///x'"]),
        "extra": st.sampled_from(["None", "{}", "{'etag': 'e'}", "{'n': [1, None]}"]),
        "birth_artifact_id": st.sampled_from(["None", "'b'"]),
        "skip_cache": st.sampled_from(["None", "True", "False"]),
        "local_path": st.sampled_from(["None", "'one'", "Path('one')", "'two'", "''", "'missing'"]),
    },
).map(lambda given: f"Entry({', '.join(f'{name}={value}' for name, value in given.items())})")


@settings(max_examples=150)
@given(one=fields, other=fields)
def test_generated_entries(reference: Peers, files: Path, one: str, other: str) -> None:
    steps = reference.run(
        files,
        [
            one,
            f"{one} == {other}",
            f"{one} == {one}",
            f"{one} != {other}",
            f"{one} == 'x'",
            f"shape({one})",
            f"{one}.name",
            f"{one}.local_path",
            f"{one}.extra.get('etag')",
            f"{one}.ref_target()",
            f"{one}.ref_url()",
            f"{one}.parent_artifact()",
            f"{one}.download()",
            f"{{{one}}}",
        ],
    )
    check(steps)


# -- what needs a logged version

ATTRIBUTES = [
    *("id", "name", "source_name", "type", "description", "metadata", "state", "digest", "size", "incremental"),
    *("use_as", "distributed_id", "ttl", "entity", "project", "qualified_name", "version", "collection"),
    *("source_entity", "source_project", "source_collection", "source_qualified_name", "source_version", "aliases"),
    *("commit_hash", "file_count", "created_at", "updated_at"),
]
CALLS = [
    *("download()", "checkout()", "verify()", "file()", "files()", "delete()", "unlink()", "new_draft()", "used_by()"),
    *("logged_by()", "get_entry('x')", "get('x')", "get_path('x')", "json_encode()", "wait()", "is_draft()"),
    *("download('r', True, None, 'p')", "checkout('r')", "verify('r')", "file('r')", "files(['x'], 3)", "wait(3)"),
    "download(root='r', allow_missing_references=True, skip_cache=True, path_prefix='p')",
    *("checkout(root='r')", "verify(root='r')", "file(root='r')", "files(names=['x'], per_page=3)", "delete(True)"),
    *("delete(delete_aliases=True)", "get_entry(name=None)", "wait(timeout=0)", "link('portfolio')"),
]
ASSIGNED = [
    "aliases = ['x']",
    "aliases = 3",
    "entity = 'e'",
    "name = 'x'",
    "id = 'x'",
    "state = 'x'",
    "digest = 'x'",
] + [f"{name} = 'x'" for name in ("manifest", "version", "type", "incremental", "use_as", "size", "commit_hash")]


@pytest.mark.parametrize("before", [[], ["a.add_dir('tree')"], ["a.finalize()"]], ids=["empty", "filled", "finalized"])
def test_drafts_say_that_they_are_not_logged(reference: Peers, files: Path, before: list[str]) -> None:
    steps = reference.run(
        files,
        [
            MADE,
            *before,
            *(f"a.{name}" for name in ATTRIBUTES),
            *(f"hasattr(a, {name!r})" for name in ATTRIBUTES),
            *(f"a.{called}" for called in CALLS if before == [] or "link" not in called),
            *(f"a.{assigned}" for assigned in ASSIGNED),
            "a['x']",
            "a == a",
            "a == Artifact('n', 't')",
            "len({a})",
        ],
    )
    faults = [told(step) for step in steps if not agree(step) and explained(step) is None]
    assert not faults, "\n".join(faults)


# -- the manifest

FORM = "'version': 1, 'storagePolicy': 'wandb-storage-policy-v1', 'storagePolicyConfig': {'storageLayout': 'V2'}"
READ = [
    "{}",
    "{'contents': {}}",
    "{'version': None}",
    "{'version': 2}",
    "{'version': '1'}",
    "{'version': 2, 'contents': {}}",
    f"{{{FORM}, 'contents': {{}}}}",
    f"{{{FORM}, 'contents': {{'x': {{'digest': 'd', 'size': 3}}, 'd/y': {{'digest': 'e', 'size': 0}}}}}}",
    f"{{{FORM}, 'contents': {{'x': {{'digest': 'd', 'ref': 's3://b/k', 'extra': {{'e': 1}}}}}}}}",
    f"{{{FORM}, 'contents': {{'x': {{'digest': 'd', 'ref': 's3://b/k', 'birthArtifactID': 'b'}}}}}}",
    "{'version': 1, 'storagePolicy': 'wandb-storage-policy-v1', 'contents': {}}",
]


@pytest.mark.parametrize("text", READ)
def test_manifests_are_read_alike(reference: Peers, files: Path, text: str) -> None:
    read = f"m = Manifest.from_manifest_json({text})"
    looks = ["len(m)", "m.digest()", "sorted(m.entries)", "[m.entries[path] for path in sorted(m.entries)]"]
    steps = reference.run(files, [read, *(looks if "{'" in text and FORM in text else [])])
    check(steps)


# -- the list of what is meant


@pytest.mark.parametrize(
    ("difference", "example"),
    [(each, example) for each in INTENDED for example in each.examples],
    ids=lambda value: value[-1] if isinstance(value, list) else " ",
)
def test_meant_differences_are_still_there(
    request: pytest.FixtureRequest, reference: Peers, difference: Intended, example: list[str]
) -> None:
    files = request.getfixturevalue("store_files" if "log(a)" in example else "files")
    *before, last = reference.run(files, [MADE, *example])
    unlike = [told(step) for step in before if not agree(step) and step.statement != "log(a)"]
    assert not unlike, "\n".join(unlike)
    assert not agree(last), f"both do the same now; take it off the list\n{told(last)}"
    assert explained(last) is difference, told(last)
