"""What `import ravine` offers: one table, the same for type checkers, and every name is there."""

import importlib.util
from pathlib import Path

import ravine

ROOT = Path(ravine.__file__).parents[1]


def load_stub_script():
    spec = importlib.util.spec_from_file_location("public_stub", ROOT / "scripts/public_stub.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_there():
    for name in ravine.__all__:
        assert getattr(ravine, name) is not None
    assert ravine.__all__ == sorted(ravine.__all__)
    assert set(ravine.__all__) <= set(dir(ravine))


def test_a_name_stands_where_the_table_says():
    for name, home in ravine.HOME_MODULES.items():
        assert getattr(ravine, name).__module__ == home


def test_type_checkers_see_the_same_names():
    script = load_stub_script()
    written = script.STUB_PATH.read_text("utf-8")
    assert written == script.stub_text(ravine.HOME_MODULES)
