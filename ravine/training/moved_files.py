"""The files that a run was made from, where they are elsewhere than its plan says."""

import os
from collections.abc import Mapping
from pathlib import Path

from ravine.data import TableLike
from ravine.errors import RunError, nearest
from ravine.recipe import Recipe
from ravine.recipe_files import file_settings


def with_moved_files(
    recipe: Recipe, files: Mapping[str, str | Path], folder: Path, *, frame: TableLike | None = None
) -> Recipe:
    """The recipe of a run's folder with the new paths of its files, by their settings.

    A `frame` takes the place of the file in `data.source`. Raises `RunError` where another setting
    is named, or a file is neither there nor named.
    """
    known = dict(file_settings(recipe))
    for place, file in files.items():
        if place not in known:
            why = f"of a run only the paths of its files can be: {nearest(place, known)}"
            raise RunError(f"{place} of {folder} cannot be changed", why=why)
        recipe = recipe.vary(place, str(file))
    needed = [(p, f) for p, f in file_settings(recipe) if frame is None or p != "data.source"]
    for place, file in needed:
        named_file = os.sep in file or place in files  # else a bundled set
        if named_file and not os.path.exists(file):
            what = f"{place} is {os.path.abspath(file)}, which does not exist"
            do = f"give its path: --set {place}=PATH, or in Python files={{{place!r}: PATH}}"
            raise RunError(what, why=f"{folder} was trained with it", do=do)
    return recipe
