"""Small parts with settings of every kind, for the tests of parts."""

from collections.abc import Mapping
from typing import Literal, Protocol

from ravine.errors import RecipeError
from ravine.part import Number, part, setting


class Shape(Protocol): ...


@part
class Square:
    side: Number = setting(default=1.0, gt=0)


@part
class Circle:
    radius: Number = setting(default=1.0, gt=0, le=10)
    kind: Literal["full", "empty"] = "full"


@part
class Drawing:
    shape: Shape = Square()
    more: tuple[Shape, ...] = ()
    frame: Shape | None = None
    sizes: tuple[int, ...] = setting(default=(3, 4), ge=1)
    title: str | None = None
    count: int = setting(default=2, ge=0)

    def check(self) -> None:
        if self.count == 0 and self.more:
            raise RecipeError("count is 0", why="there are more shapes", do="raise count")


class Content(Protocol): ...


@part
class Label:
    count: int = 1
    shade: float | None = 0.5
    pairs: tuple[tuple[int, int], ...] = ()
    words: Mapping[str, tuple[str, ...]] | None = None
    many: int | Literal["all"] | None = None
    shown: bool = True


@part
class Box:
    content: Content
    spare: Content | None = None
    more: tuple[Content, ...] = ()
    extra: tuple[Content, ...] | None = None
    inside: Shape | None = None
    price: Number = 2.0
