"""A plug-in of pytest: the fixture `watch_training` fails a test whose training has a fault.

    def test_training(watch_training):
        watcher = watch_training(model, optimizer)
        for x, y in batches:
            optimizer.zero_grad()
            watcher.loss(criterion(model(x), y)).backward()
            optimizer.step()

pytest loads it where Ravine is installed. Torch is imported by the first test that asks for it.
"""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

TEST_WATCHERS: pytest.StashKey[list[Any]] = pytest.StashKey()  # of a test


@pytest.fixture
def watch_training(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """`ravine.watch` until the test ends, which then fails with the errors that were found.

    It takes what `ravine.watch` takes, and returns the watcher: `watcher.loss(loss)` reports a
    loss. Without losses the checks that read them are not measured. Warnings and notes do not fail.
    """
    from ravine.watching.watcher import watch

    watchers: list[Any] = request.node.stash.setdefault(TEST_WATCHERS, [])

    def start(model: Any, optimizer: Any = (), **settings: Any) -> Any:
        watchers.append(watch(model, optimizer, quiet=True, **settings).start())
        return watchers[-1]

    yield start
    while watchers:  # the test has failed
        watchers.pop().stop()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """End to watch once the test function has ended, and fail where errors were found."""
    result = yield
    texts = []
    watchers = pyfuncitem.stash.get(TEST_WATCHERS, [])
    while watchers:
        watcher = watchers.pop(0)
        watcher.stop()
        texts += _error_texts(watcher)
    if texts:
        pytest.fail("\n\n".join(texts), pytrace=False)
    return result


def _error_texts(watcher: Any) -> list[str]:
    from ravine.reporting.findings_text import finding_text

    return [finding_text(found) for found in watcher.findings() if found.severity == "error"]
