"""The examples: the plain loop runs as it stands; those of other libraries, where these are
installed.
"""

import importlib.util
from pathlib import Path

import pytest

import ravine

EXAMPLES = Path(ravine.__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_plain_loop_shows_its_fault(capsys):
    example("watch_plain_loop").main()
    assert "RVN-L01" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "library", "code"),
    [
        ("watch_lightning", "pytorch_lightning", "RVN-H01"),
        ("watch_hugging_face", "accelerate", "RVN-H01"),
        ("watch_keras", "keras", "RVN-N01"),
    ],
)
def test_an_example_of_another_library_shows_its_fault(
    name, library, code, capsys, tmp_path, monkeypatch
):
    pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.chdir(tmp_path)
    example(name).main()
    assert code in capsys.readouterr().err
