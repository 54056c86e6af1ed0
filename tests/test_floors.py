"""Imports go down only: the graph of all imports, also those hidden in functions, is drawn and
checked.
"""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import ravine

ROOT = Path(ravine.__file__).parents[1]
PACKAGES = ("ravine", "ravine_gallery")
FLOORS = (
    {
        "errors",
        "part",
        "argument_checks",
        "old_names",
        "serialization",
        "files",
        "memory",
        "ranks",
        "rng",
        "layout",
        "effects",
        "protocols",
        "statistics",
        "paired",
        "sentinels",
    },
    {"causes", "recipe", "record", "finding", "run_progress"},
    {
        "data",
        "networks",
        "losses",
        "metrics",
        "penalties",
        "optimizers",
        "schedules",
        "early_stopping",
        "probes",
        "augment",
        "finetuning",
    },
    {"catalog", "recipe_files"},
    {"training", "diagnosis", "reporting"},
    {"watching"},
    {"examination"},
    {"studies"},
    {"ravine_gallery"},
    {"sklearn", "callbacks", "testing", "pytest_plugin", "cli", "__main__"},
)
SIDE_BY_SIDE = FLOORS[2] | {"diagnosis", "reporting"}  # these never import another of their floor
READ_NOUNS_ONLY = {"diagnosis": "training", "reporting": "training"}


def imports(source, module):
    """The modules of these packages that a module imports, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] in PACKAGES}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            found |= {f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.add(f"relative import in {module}")
    return found - {"ravine"}


def graph():
    """A copy of the graph of modules, to plant faults in."""
    return dict(modules())


@functools.cache
def modules():
    """Every module and the modules that it imports; the package's own face, which loads names late,
    is left out.
    """
    names = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text("utf-8")
    names.pop("ravine")
    return {
        m: frozenset(
            target for i in imports(text, m) if (target := home(i, names)) not in (m, None)
        )
        for m, text in names.items()
    }


def home(imported, names):
    """The module that an import reaches: itself, or the one that the imported name is taken
    from.
    """
    above = imported.rpartition(".")[0]
    return imported if imported in names else above if above in names else None


def floor_of(module):
    return next((i for i, floor in enumerate(FLOORS) if room_of(module) in floor), None)


def room_of(module):
    """The part of `ravine` that a module belongs to, or the package beside it."""
    package, _, inner = module.partition(".")
    return inner.partition(".")[0] if package == "ravine" else package


def faults(found):
    """What is wrong with a graph, in words."""
    wrong = [f"{m} is on no floor" for m in found if floor_of(m) is None]
    for module, targets in found.items():
        here = room_of(module)
        for target in targets:
            there = room_of(target)
            if here == there or wrong and floor_of(module) is None:
                continue
            if floor_of(target) > floor_of(module):
                wrong.append(f"{module} imports {target} from above")
            elif floor_of(target) == floor_of(module) and (
                here in SIDE_BY_SIDE or READ_NOUNS_ONLY.get(here) == there
            ):
                wrong.append(f"{module} imports {target} beside it")
    return wrong + [f"a cycle: {' -> '.join(c)}" for c in cycles(found)]


def cycles(found):
    """The first cycle of each module that is on one."""
    done, result = set(), []

    def walk(module, path):
        if module in path:
            result.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for target in sorted(found.get(module, ())):
            walk(target, [*path, module])
        done.add(module)

    for module in found:
        walk(module, [])
    return result


def test_imports_go_down_and_there_is_no_cycle():
    found = graph()
    assert len(found) > 30
    assert faults(found) == []


@pytest.mark.parametrize(
    ("module", "target", "words"),
    [
        ("ravine.optimizers.sgd", "ravine.catalog", "from above"),
        ("ravine.losses", "ravine.data.task", "beside it"),
        ("ravine.recipe", "ravine.training.loop", "from above"),
        ("ravine.elsewhere", "ravine.errors", "on no floor"),
    ],
)
def test_a_planted_fault_is_found(module, target, words):
    found = graph()
    found[module] = found.get(module, set()) | {target}
    assert any(words in fault for fault in faults(found))


def test_a_planted_cycle_is_found():
    found = graph()
    found["ravine.part"] |= {"ravine.protocols"}  # which imports part
    assert any("cycle" in fault for fault in faults(found))


def test_an_import_hidden_in_a_function_is_seen():
    assert imports("def f():\n    from ravine.catalog import named_recipe", "x") == {
        "ravine.catalog.named_recipe"
    }


@pytest.mark.parametrize("module", ["ravine", "ravine.cli", "ravine.pytest_plugin"])
def test_importing_loads_no_torch_and_no_pandas(module):
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'pandas', 'sklearn') if m in "
        f"sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
