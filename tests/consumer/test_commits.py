"""Workers of one Redis that run other commits of a model: the second one says so."""

from __future__ import annotations

import logging

import pytest
import redis

from producer.contract import Task
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from tests.hub.conftest import NAME
from worker.consumer.chunk_options import read_options
from worker.consumer.commits import CommitMonitor
from worker.consumer.result_cache import ResultCache
from worker.consumer.validation import check_item
from worker.engine.protocol import ModelInfo


def model(name: str, commit: str) -> ModelInfo:
    return ModelInfo(name, f"revision of {commit}", 32, 3, ("caption",), commit)


def test_the_second_worker_with_another_commit_warns_once(
    connection: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    leases = Leases(connection)
    first = CommitMonitor(leases, [model(NAME, "a" * 40), model("owner/match", "c" * 40)])
    equal = CommitMonitor(leases, [model(NAME, "a" * 40), model("other/model", "b" * 40)])
    second = CommitMonitor(leases, [model(NAME, "b" * 40)])
    for monitor in (first, equal, first, second, first, second):
        monitor.report()
    assert [record.getMessage() for record in caplog.records] == [
        f"another worker of this Redis runs {NAME} at commit {'a' * 40}, and this one at"
        f" {'b' * 40}: answers may differ; set BLIPLINE_MODEL_REVISION on all workers"
    ]


def test_commits_of_ended_workers_and_models_of_directories_do_not_count(
    connection: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    keys, now = Keys(), connection.time()[0]
    connection.zadd(keys.models, {f"{NAME}@{'a' * 40}": now - 31})
    CommitMonitor(Leases(connection), [model(NAME, "b" * 40)]).report()
    CommitMonitor(Leases(connection), [model("/models/blip", "")]).report()
    assert connection.zrange(keys.models, 0, -1) == [f"{NAME}@{'b' * 40}".encode()]
    assert 0 < connection.ttl(keys.models) <= 30
    assert not caplog.records


def test_cached_answers_of_two_commits_never_mix() -> None:
    cache, item = ResultCache(redis.Redis(), 60), check_item(Task.EMBED, {"text": "x"})
    models = [model(NAME, commit) for commit in ("a", "b")]
    options = read_options({}, False, 0.0)
    assert len({cache.key(item, "", options.decoding, each.revision) for each in models}) == 2
