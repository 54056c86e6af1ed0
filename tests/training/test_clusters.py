"""Jobs on a real Ray and a real Dask cluster of two local workers: the same numbers, also where a
worker is killed in the middle.
"""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ravine
from ravine import catalog
from ravine.errors import InputError
from ravine.run_progress import RunProgress
from ravine.training import clusters

PACKAGES = {"ray": "ray", "dask": "distributed"}
PLAIN = catalog.plain().vary("data.source", "digits").vary("epochs", 6)


@pytest.fixture(params=["ray", "dask"])
def address(request, monkeypatch):
    """The address of a cluster of two workers on this machine."""
    pytest.importorskip(PACKAGES[request.param], reason=f"{request.param} is not installed")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    clusters.connect.cache_clear()
    yield request.param
    found: Any = clusters.connect(request.param)
    if request.param == "ray":
        found.ray.shutdown()
    else:
        found.client.cluster.close()
        found.client.close()
    clusters.connect.cache_clear()


def busy_workers(address):
    """The processes that train for a cluster."""
    if address == "dask":
        cluster: Any = clusters.connect(address)
        processing, pids = cluster.client.processing(), cluster.client.run(os.getpid)
        return [pids[worker] for worker, tasks in processing.items() if tasks]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        if command.startswith("ray::_train_remotely"):
            found.append(int(folder.name))
    return found


def kill_one(address, killed):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not killed:
        for pid in busy_workers(address)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        time.sleep(0.02)


def test_a_study_on_a_cluster_has_the_numbers_of_one_process(address):
    sent = []
    cluster: Any = clusters.connect(address)
    send = type(cluster).send
    cluster.send = lambda task: sent.append(task) or send(cluster, task)
    assert cluster.count == 2
    choices = {str(h): PLAIN.vary("network.hidden", (h,)) for h in (8, 12, 16, 24)}
    choices["long"] = PLAIN.vary("epochs", 60)
    killed = []
    killer = threading.Thread(target=kill_one, args=(address, killed))
    killer.start()
    seen = []
    tell = {"report": lambda at: seen.append(at.board.read())}
    verdict = ravine.compare(choices, seeds=4, workers=address, trees=False, **tell)
    killer.join()
    assert len(seen) == 5 and seen[-1] == RunProgress(pytest.approx(1.0), 0, 20)
    assert killed and len(sent) == 1  # five jobs, one of them twice, and the data went once
    alone = ravine.compare(choices, seeds=4, workers=1, trees=False)
    for one in verdict.choices:
        assert one.scores == alone[one.name].scores
    assert verdict.differences == alone.differences
    settings = {"trials": 9, "sampler": "random", "pruner": "halving", "confirm": 0}
    space = {"optimizer.lr": "log:1e-3..1", "network.hidden": [[8], [16]]}
    found = ravine.tune(PLAIN, space, workers=address, **settings)
    same = ravine.tune(PLAIN, space, workers=1, **settings)
    assert found.trials == same.trials and found.cost < 0.5


@pytest.mark.parametrize("given", ["rays", "tcp:/127.0.0.1", "http://127.0.0.1:80", "", "-1"])
def test_what_names_no_cluster_is_refused(given):
    with pytest.raises(InputError, match="name a cluster"):
        ravine.train(PLAIN, workers=given)


def test_a_cluster_that_is_not_there_is_said_before_any_work(monkeypatch):
    pytest.importorskip("distributed", reason="dask is not installed")
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match="tcp://127.0.0.1:1 cannot be reached"):
        ravine.train(PLAIN, workers="tcp://127.0.0.1:1")


def test_a_package_that_is_missing_is_named(monkeypatch):
    def miss(self, address):
        raise ImportError("No module named 'ray'")

    monkeypatch.setattr(clusters._RayCluster, "__init__", miss)
    clusters.connect.cache_clear()
    with pytest.raises(InputError, match=r"un pip install ravine\[ray\]"):
        ravine.train(PLAIN, workers="ray")
