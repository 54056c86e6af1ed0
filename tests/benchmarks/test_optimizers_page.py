"""docs/optimizers.md says what was measured."""

import json

from benchmarks.optimizers import publish


def test_the_page_is_what_the_results_say(tmp_path, monkeypatch):
    """Published again from the results file, nothing changes."""
    text = publish.DOCUMENT_FILE.read_text("utf-8")
    known = publish.read_results()
    for name in publish.FIGURE_TITLES:
        path = publish.figure_file(name)
        assert path.exists() and f"](optimizers/{path.name})" in text
    for constant in ("DOCUMENT_FILE", "RESULTS_FILE", "FIGURE_FOLDER"):
        monkeypatch.setattr(publish, constant, tmp_path / constant)
    (tmp_path / "DOCUMENT_FILE").write_text(text, "utf-8")
    assert len(publish.publish(known)) == 2 + len(publish.FIGURE_TITLES)
    assert (tmp_path / "DOCUMENT_FILE").read_text("utf-8") == text
    assert publish.read_results(tmp_path / "RESULTS_FILE") == known
    assert json.loads((tmp_path / "RESULTS_FILE").read_text())["surroundings"]["versions"]


def test_what_is_published_stays_small():
    figures = sum(publish.figure_file(name).stat().st_size for name in publish.FIGURE_TITLES)
    assert figures < 300_000
    assert publish.RESULTS_FILE.stat().st_size < 500_000
