"""Which images a source holds: folders by class, tables of paths, idx files, arrays.

Letters: N images.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ravine.data import frames, tables
from ravine.data.idx import idx_images, is_idx, read_idx, read_pair
from ravine.data.image_file import IMAGE_SUFFIXES, is_image
from ravine.data.image_store import array_to_bytes
from ravine.data.json_files import JSON_LINES_SUFFIXES
from ravine.data.parquet_files import PARQUET_SUFFIXES
from ravine.data.parsing import is_text
from ravine.data.source import TARGET_NAMES, Data, check_columns
from ravine.data.splits import SPLIT_NAMES, SPLIT_WORDS
from ravine.data.text_files import file_kind
from ravine.errors import DataError, join_first, nearest
from ravine.files import check_readable

PATH_COLUMN_NAMES = (
    "path paths file files filename file_name filepath file_path image images image_path "
    "picture pictures photo img"
).split()
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", *JSON_LINES_SUFFIXES, *PARQUET_SUFFIXES)
SUFFIX_HINT = f"images end in {', '.join(IMAGE_SUFFIXES)}"


@dataclass(frozen=True)
class ImageListing:
    """A row for each image, and the images: paths of files, or bytes [N, C, H, W].

    `place` is 0, 1, 2 where the source says that an image trains, validates or tests; else None.
    """

    table: pd.DataFrame
    targets: tuple[str, ...]
    images: list[str] | np.ndarray
    path: str = "path"
    place: np.ndarray | None = None


def list_images(
    source: str,
    *,
    target: tuple[str, ...],
    path: str | None,
    frame: frames.TableLike | None,
    notes: list[str],
) -> ImageListing:
    """The images of a source, or of a `frame` from Python: a pair (X, y), or a table of paths.

    Raises `DataError` for whatever cannot be a set of images, with what to do about it.
    """
    if isinstance(frame, tuple) and len(frame) == 2:
        return _list_pair(frame[0], frame[1], target)
    if frame is not None:
        table = frames.table_from(frame)[0]
        return _list_table(table, Path(source), target=target, path=path, notes=notes)
    if not source:
        what = "no images are given"
        raise DataError(what, why="data.source is empty", do="name a folder of images")
    place = Path(source)
    if not place.exists():
        raise tables.missing_file(place)
    if place.is_dir():
        training = idx_images(place, "train")
        if training is not None:
            return _list_idx_file(training, target, notes)
        return _list_folder(place, target, notes)
    if is_idx(place):
        return _list_idx_file(place, target, notes)
    if file_kind(place) not in TABLE_SUFFIXES:
        what = f"{place} is no set of images"
        do = "name a folder with a folder for each class, a table of paths, or idx files"
        raise DataError(what, why=f"its suffix is {place.suffix!r}", do=do)
    table = tables.read_table(place, notes)
    return _list_table(table, place.parent, target=target, path=path, notes=notes)


def holds_images(source: str) -> bool:
    """Whether a path is a folder with images or idx files, an idx file, or a table of images.

    >>> holds_images("houses.csv")
    False
    """
    place = Path(source)
    if place.is_dir():
        suffixes = [file.suffix.lower() for file in _files_within(place)]
        images = sum(suffix in IMAGE_SUFFIXES for suffix in suffixes)
        pieces = sum(suffix in PARQUET_SUFFIXES for suffix in suffixes)  # of one table
        return idx_images(place, "train") is not None or images > pieces
    if not place.is_file():
        return False
    if file_kind(place) not in (".csv", ".tsv", ".txt", *JSON_LINES_SUFFIXES):
        return is_idx(place)
    check_readable(place)
    with open(place, "rb") as file:
        start = file.read(2**16).lower()
    if not any(suffix.encode() in start for suffix in IMAGE_SUFFIXES):
        return False
    table = tables.read_table(place)
    found = _path_columns(table)
    return len(found) == 1 and (place.parent / str(table[found[0]].iloc[0])).exists()


def _list_folder(root: Path, target: tuple[str, ...], notes: list[str]) -> ImageListing:
    name = _one_name(target, "class")
    inside = _folders(root)
    marked = [folder for folder in inside if folder.name.lower() in SPLIT_WORDS]
    splits = {folder: SPLIT_WORDS[folder.name.lower()] for folder in marked}
    training = [folder for folder, place in splits.items() if place == 0 and _folders(folder)]
    if not training:
        return _listing_of_rows(root, _images_by_class(root, notes, strict=True), name, None)
    twice = [SPLIT_NAMES[place] for place, n in Counter(splits.values()).items() if n > 1]
    if twice:
        why = f"they are {', '.join(folder.name for folder in splits)}"
        raise DataError(f"{root} has two folders for {twice[0]}", why=why, do="join the folders")
    others = [folder.name for folder in inside if folder not in splits]
    if others:
        are = "is" if len(others) == 1 else "are"
        notes.append(f"{join_first(others)} beside {training[0].name} {are} passed over.")
    rows: list[tuple[str, str]] = []
    places: list[int] = []
    for folder, place in sorted(splits.items(), key=lambda item: item[1]):
        found = _images_by_class(folder, notes, strict=place == 0) if _folders(folder) else []
        if not found:
            passed = f"{folder.name} has no folders of classes and is passed over"
            notes.append(f"{passed}; ravine predict can name what is in it.")
        rows += found
        places += [place] * len(found)
    return _listing_of_rows(root, rows, name, np.array(places))


def _images_by_class(root: Path, notes: list[str], *, strict: bool) -> list[tuple[str, str]]:
    """The images in a folder of class folders with their classes; `strict`: each class has some."""
    folders = _folders(root)
    found = {folder: list(filter(is_image, _files_within(folder))) for folder in folders}
    loose = [file for file in root.iterdir() if file.is_file() and is_image(file)]
    if not any(found.values()):
        raise _no_images(root, loose)
    empty = [folder.name for folder, files in found.items() if not files]
    if empty and strict:
        what, do = f"{root / empty[0]} has no images", "add images, or remove the folder"
        raise DataError(what, why="each folder is a class, and a class needs some", do=do)
    if strict and len(folders) == 1:
        why, do = "each folder in it is a class", "give a folder with two or more"
        raise DataError(f"{root} has but one class, {folders[0].name!r}", why=why, do=do)
    if loose:
        where = f"{len(loose)} images beside the folders of {root.name}"
        notes.append(f"{where} have no class and are left out.")
    return [(str(file), folder.name) for folder, files in found.items() for file in files]


def _no_images(root: Path, loose: Sequence[Path]) -> DataError:
    if loose:
        what = f"the {len(loose)} images in {root} have no class"
        do = "put each class in a folder of its own, or give a table of paths and labels"
        return DataError(what, why="they are in no folder of their own", do=do)
    suffixes = Counter(file.suffix.lower() or "no suffix" for file in _files_within(root))
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(4)) or "nothing"
    do = "name a folder with a folder of images for each class"
    return DataError(f"{root} has no images", why=f"there is {kinds} in it; {SUFFIX_HINT}", do=do)


def _listing_of_rows(
    root: Path, rows: list[tuple[str, str]], name: str, place: np.ndarray | None
) -> ImageListing:
    path = "path" if name != "path" else "file"
    # so that folders 0 to 9 are classes, not amounts
    files, classes = zip(*rows, strict=True)
    relative = [os.path.relpath(file, root) for file in files]
    table = pd.DataFrame({path: relative, name: pd.Categorical(classes)})
    return ImageListing(table, (name,), list(files), path, place)


def _folders(root: Path) -> list[Path]:
    inside = (folder for folder in root.iterdir() if not folder.name.startswith((".", "__")))
    return sorted(filter(Path.is_dir, inside))


def _files_within(root: Path) -> list[Path]:
    """All files within a folder, hidden ones left out, in an order that is the same everywhere."""
    found = []
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith((".", "__")))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    return found


def _list_table(
    table: pd.DataFrame,
    folder: Path,
    *,
    target: tuple[str, ...],
    path: str | None,
    notes: list[str],
) -> ImageListing:
    column = path_column(table, path, target)
    others = [str(name) for name in table.columns if name != column]
    if not target:
        likely = [name for name in others if name.lower() in TARGET_NAMES] or others
        if len(likely) == 1:
            target = (likely[0],)
            notes.append(f"{column} holds the paths, {likely[0]} what is to be learned.")
    if column in target:
        what = f"the target {column} is the column of paths"
        raise DataError(what, why="it cannot be both", do="name the target: --target COLUMN")
    check_columns(others, Data(), target)
    return ImageListing(table, target, paths_in(table, column, folder), column)


def path_column(table: pd.DataFrame, path: str | None, target: Sequence[str] = ()) -> str:
    """The column of paths: as named, else that whose values end as images do, else by its name."""
    names = list(map(str, table.columns))
    if path is not None:
        if path not in names:
            raise DataError(f"data.path is {path!r}, which is no column", why=nearest(path, names))
        return path
    found = [name for name in _path_columns(table) if name not in target]
    found = found or [name for name in names if name.lower() in PATH_COLUMN_NAMES][:1]
    if len(found) != 1:
        columns = f"the columns are {', '.join(names[:30])}"
        why = f"{' and '.join(found)} could be" if found else columns
        what = "no column is known to hold the images' paths"
        raise DataError(what, why=why, do='name it: data.path = "COLUMN"')
    return found[0]


def _path_columns(table: pd.DataFrame) -> list[str]:
    def all_images(values: pd.Series) -> bool:
        present = values.dropna().head(100)
        texts = is_text(values) and len(present) > 0
        return texts and all(isinstance(value, str) and is_image(value) for value in present)

    return [str(name) for name in table.columns if all_images(table[name])]


def paths_in(table: pd.DataFrame, column: str, folder: Path) -> list[str]:
    """The files that a column names, relative ones from a folder. Raises `DataError` for gaps."""
    gaps = table[column].isna().to_numpy()
    if gaps.any():
        what = f"{column} is missing in row {table.index[int(gaps.argmax())]}"
        do = "fill the gap, or leave the row out"
        raise DataError(what, why="each row needs an image", do=do)
    return check_paths([os.path.join(folder, str(path).strip()) for path in table[column]])


def check_paths(paths: Sequence[str]) -> list[str]:
    """The paths. Raises `DataError` unless all are images that exist, with the nearest name."""
    odd = [path for path in paths if not is_image(path)]
    if odd:
        what = f"{odd[0]} has the suffix {Path(odd[0]).suffix!r}"
        raise DataError(what, why=SUFFIX_HINT, do="convert the file, or leave it out")
    gone = [path for path in paths if not os.path.isfile(path)]
    if gone:
        first = tables.missing_file(Path(gone[0]))
        if os.path.exists(gone[0]):
            first = DataError(f"{gone[0]} is a folder")
        what = f"{len(gone)} of {len(paths)} images are missing: " if len(gone) > 1 else ""
        do = "correct the paths, or leave the rows out"
        raise DataError(what + first.what, why=first.why, do=do)
    return list(paths)


def _list_pair(x: Any, y: Any, target: tuple[str, ...]) -> ImageListing:
    images = array_to_bytes(x)
    answers = y.detach().cpu().numpy() if isinstance(y, Tensor) else y
    table, names = frames.table_from((np.arange(len(images))[:, None], answers))
    table = table[list(names)]
    if len(target) == len(names):
        table, names = table.set_axis(list(target), axis=1), target
    return ImageListing(table, names, images, "")


def _list_idx_file(images: Path, target: tuple[str, ...], notes: list[str]) -> ImageListing:
    """Images and labels; beside train-..., those named t10k-... or test-... are the test split."""
    name = _one_name(target, "label")
    pixels, labels = read_pair(images)
    place = tested = None
    if images.name.lower().startswith("train"):
        tested = idx_images(images.parent, "t10k") or idx_images(images.parent, "test")
    if tested is not None:
        test_pixels, test_labels = read_pair(tested)
        if test_pixels.shape[1:] != pixels.shape[1:]:
            size, test_size = (" x ".join(map(str, a.shape[1:])) for a in (pixels, test_pixels))
            why = f"those in {images.name} are {size}"
            do = "use files of the same data set"
            raise DataError(f"the images in {tested.name} are {test_size}", why=why, do=do)
        place = np.repeat([0, 2], [len(pixels), len(test_pixels)])
        pixels = np.concatenate([pixels, test_pixels])
        labels = np.concatenate([labels, test_labels])
        notes.append(f"The images of {tested.name} are the test split.")
    table = pd.DataFrame({name: pd.Categorical(labels.astype(np.int64))})
    return ImageListing(table, (name,), pixels[:, None], "", place)


def _one_name(target: tuple[str, ...], usual: str) -> str:
    if len(target) > 1:
        why, do = "these images have one label each", "give a table of paths and labels for several"
        raise DataError(f"there are {len(target)} targets: {', '.join(target)}", why=why, do=do)
    return target[0] if target else usual


def list_unlabeled(
    given: frames.ExamplesLike, path: str
) -> tuple[list[str], list[str] | np.ndarray]:
    """Names and images of what is to be predicted; names are empty for arrays.

    A folder (all images in it), an image, a table of paths, an idx file, a list of paths, an array.
    """
    if isinstance(given, (str, Path)):
        return _unlabeled_path(Path(given), path)
    if isinstance(given, pd.DataFrame):
        return _unlabeled_table(given, path, Path("."))
    paths = list(given) if isinstance(given, (list, tuple)) else []
    if paths and all(isinstance(one, (str, Path)) for one in paths):
        return list(map(str, paths)), check_paths(list(map(str, paths)))
    return [], array_to_bytes(given)


def _unlabeled_path(place: Path, path: str) -> tuple[list[str], list[str] | np.ndarray]:
    if not place.exists():
        raise tables.missing_file(place)
    if place.is_dir():
        files = [str(file) for file in _files_within(place) if is_image(file)]
        idx = sorted(filter(is_idx, place.iterdir()))
        if not files and idx:
            what, do = f"{place} has no images of their own", f"name one of them: {idx[0]}"
            raise DataError(what, why=f"it has {join_first([file.name for file in idx])}", do=do)
        if not files:
            raise _no_images(place, ())
        return [os.path.relpath(file, place) for file in files], files
    if is_idx(place):
        return [], read_idx(place, 3)[:, None]
    if file_kind(place) in TABLE_SUFFIXES:
        return _unlabeled_table(tables.read_table(place), path, place.parent)
    return [str(place)], check_paths([str(place)])


def _unlabeled_table(table: pd.DataFrame, path: str, folder: Path) -> tuple[list[str], list[str]]:
    column = path if path in table.columns else path_column(table, None)
    return list(map(str, table[column])), paths_in(table, column, folder)
