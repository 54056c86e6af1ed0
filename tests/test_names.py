"""Names and lines: what a reader meets in the package is named for what it is.

Every claim holds for the whole package, so that a new file is held to it, too.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {p: ast.parse(p.read_text("utf-8")) for p in sorted((ROOT / "ravine").rglob("*.py"))}
TREES = ("ravine", "ravine_gallery", "tests", "benchmarks", "scripts", "examples")

# words of earlier versions that say nothing to a reader of the field, and what is said instead
RETIRED_WORDS = {
    "story": "history",
    "told": "reported",
    "eye": "monitor",
    "look": "evaluation, snapshot",
    "looks": "evaluations, snapshots",
    "patient": "subject",
    "bench": "subject",
    "marks": "scores",
    "grounds": "evidence",
    "company": "other networks of the cohort",
    "settled": "eval_weights",
    "taken": "loaded",
    "judge": "evaluate, check",
    "judged": "evaluated, checked",
    "said": "notes, message",
    "guest": "module",
    "twins": "duplicates",
    "dark": "inactive",
    "pictures": "images, figures",
    "room": "module",
    "courses": "curves",
}
ORDINARY_VERBS = {"embed", "seed", "feed", "need", "speed", "proceed", "exceed", "shed", "spread"}
IRREGULAR_PARTICIPLES = set(
    "begun bent bound broken brought built caught chosen done drawn fallen felt found frozen"
    " given gone grown held hidden kept known laid lent lit lost made meant met paid risen said"
    " seen sent shown shut spent stuck taken taught thought thrown told torn understood worn"
    " written".split()
)
# public names that stand in more than one file
SHARED_NAMES = {
    "ALL": "every family of parts or rules lists its members under this name",
    "Constant": "a schedule and an initializer, both by the name that the field gives them",
}
# classes that are wider than others
WIDE_CLASSES = {
    "Recipe": "one field for each choice that a recipe makes",
    "_Network": "one attribute for each parameter of an estimator, as scikit-learn has it",
}
# constants of one word: names of the field, or of a list that has no better one
WHOLE_CONSTANTS = {"ACCURACY", "ALL", "CAUSES", "EMA", "MAE", "R2", "RMSE", "SWA"}


def functions():
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not re.fullmatch("__.*__", node.name):
                yield path, node


def classes():
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield path, node


def constants():
    for path, tree in SOURCES.items():
        for node in tree.body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            for target in targets:
                for name in getattr(target, "elts", [target]):
                    if isinstance(name, ast.Name) and re.fullmatch("_?[A-Z][A-Z0-9_]*", name.id):
                        yield path, name.id


def attributes(node):
    """Fields of a class, and what its methods set on `self`."""
    found = {
        s.target.id
        for s in node.body
        if isinstance(s, ast.AnnAssign)
        and isinstance(s.target, ast.Name)
        and "ClassVar" not in ast.unparse(s.annotation)
    }
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            if isinstance(inner.value, ast.Name) and inner.value.id == "self":
                found.add(inner.attr)
    return found


def at(path, node):
    return f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def is_participle(name):
    word = name.strip("_")
    regular = re.fullmatch("[a-z]+ed", word) and word not in ORDINARY_VERBS
    return bool(regular or word in IRREGULAR_PARTICIPLES)


@pytest.mark.parametrize(
    ("name", "bare"),
    [("judged", True), ("_told", True), ("read", False), ("embed", False), ("run_rules", False)],
)
def test_a_participle_is_known(name, bare):
    assert is_participle(name) is bare


def test_functions_are_verbs_or_nouns():
    assert [at(path, f) for path, f in functions() if is_participle(f.name)] == []


def test_constants_say_what_of():
    names = [name for _, name in constants()]
    single = [name for name in names if "_" not in name.strip("_")]
    assert sorted(set(single) - WHOLE_CONSTANTS) == []
    assert len(single) <= 0.1 * len(names)


def test_a_public_name_stands_in_one_file():
    homes = defaultdict(set)
    for path, tree in SOURCES.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                homes[node.name].add(path)
    for path, name in constants():
        if name[0] != "_":
            homes[name].add(path)
    shared = {name for name, paths in homes.items() if len(paths) > 1}
    assert sorted(shared - set(SHARED_NAMES)) == []


def test_no_class_knows_everything():
    large = [at(p, c) for p, c in classes() if c.end_lineno - c.lineno + 1 > 250]
    wide = [at(p, c) for p, c in classes() if len(attributes(c)) > 15]
    assert large == []
    assert [name for name in wide if name.rpartition(" ")[2] not in WIDE_CLASSES] == []


def test_retired_words_stay_retired():
    used = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, name in (
            *((p, f.name) for p, f in functions()),
            *((p, c.name) for p, c in classes()),
            *((p, a) for p, c in classes() for a in attributes(c)),
            *constants(),
        )
        for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
        if word.lower() in RETIRED_WORDS
    ]
    assert used == []


def test_docstrings_name_no_rows_of_the_lectures():
    """What stands behind a technique is its paper; rows are listed in docs/techniques.md."""
    rows = re.compile(r"\((?:[A-R]\d+)(?:(?:,| and| to) [A-R]\d+)*\)")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        for match in rows.finditer(ast.get_docstring(node) or "")
    ]
    assert found == []


@pytest.mark.parametrize("tree", TREES)
def test_everything_is_formatted_without_exceptions(tree):
    for path in (ROOT / tree).rglob("*.py"):
        text = path.read_text("utf-8")
        assert "# fmt: " + "skip" not in text, path
        assert all(len(line) <= 100 for line in text.splitlines()), path


def test_the_package_does_not_grow():
    """Code is read more often than written: who adds a thousand lines looks for a thousand."""
    assert sum(len(p.read_text("utf-8").splitlines()) for p in SOURCES) <= 58_294
