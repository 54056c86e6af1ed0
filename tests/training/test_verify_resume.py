"""What verify-resume says where a run ends before it could be killed as often as asked."""

import pytest

from ravine.catalog import named_recipe
from ravine.errors import RunError
from ravine.training import verify_resume


@pytest.mark.parametrize(
    ("kills", "text"),
    [
        (1, "the same bit for bit after 1 kill: weights, series and score"),
        (2, "the same bit for bit after 1 kill of 2 (the run ended before the next): weights, "),
    ],
)
def test_a_missing_kill_has_its_reason(monkeypatch, kills, text):
    was_killed = iter([True, False])

    def start(folder, recipe):
        folder.mkdir(exist_ok=True)
        if folder.name == "whole":
            (folder / "record.json").write_text('{"score": null}')
        return folder

    def wait(folder):
        (folder / "record.json").write_text('{"score": null}')

    monkeypatch.setattr(verify_resume, "_start_run", start)
    monkeypatch.setattr(verify_resume, "_wait_for", wait)
    monkeypatch.setattr(verify_resume, "_kill_after", lambda *_: next(was_killed))
    said = []
    proof = verify_resume.prove_resume(named_recipe("plain"), kills=kills, say=said.append)
    assert proof.summary().startswith(text)
    assert proof.to_json() == {"same": True, "kills": 1, "wanted": kills, "different": ()}
    assert ("the run ended before kill 2 of 2" in said) == (kills == 2)


def test_a_recipe_that_cannot_be_trained_is_refused_in_its_own_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "houses.csv").write_text("a,b\n" + "1,2\n3,4\n" * 40)
    recipe = named_recipe("plain").vary("data.source", "houses.csv")
    with pytest.raises(RunError, match="no target is given") as caught:
        verify_resume.prove_resume(recipe, kills=1, say=print)
    assert "ravine.errors" not in str(caught.value)
