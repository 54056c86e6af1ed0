"""The experiment on transfer: its pictures are what it says, and in a quick run, too, similarity
decides.
"""

import numpy as np

from ravine_gallery import transfer


def test_a_draws_larger_sets_hold_its_smaller_ones_and_no_test_picture():
    y = np.repeat(["a", "b"], 20)
    small, test = transfer.draw_split(y, 3, 5, 1)
    large, again = transfer.draw_split(y, 15, 5, 1)
    assert set(small.train_rows) < set(large.train_rows) and (test == again).all()
    assert not set(large.train_rows) & set(test.tolist()) and len(test) == 10


def test_every_shape_can_be_told_from_the_others_when_it_stands_still():
    X, y = transfer.draw_shapes((*transfer.KNOWN_SHAPES, *transfer.NEW_SHAPES), 60, 0)
    assert X.shape == (600, 1, 16, 16) and X.dtype == np.uint8
    ink = [float(X[y == name].mean()) for name in dict.fromkeys(y)]
    assert min(ink) > 0.25 * 255 and len(set(np.round(ink, 1))) == 10


def test_features_help_on_a_like_task_and_not_on_an_unlike_one(outcome):
    found = outcome("transfer")
    assert found.numbers["gain of features, like, 3 a class"] > 0.1
    assert found.numbers["gain of features, unlike, 3 a class"] < 0
    assert len(found.figures) == 2
