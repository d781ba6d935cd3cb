"""A copy of Redis taken under load restores into a new server, as docs/operations.md describes."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from pathlib import Path

from config.settings import NULL_MODEL
from demo.stack import Worker, redis_server, running_worker
from producer import Client
from producer.batch import Batch
from tests.faults.processes import processes_of, send
from tests.redis_servers import Server, wait_until

#: Enough for a copy in the middle of the work: each is a job of its own.
ITEMS = 1000
PASSWORD = "s3cret"
#: Jobs that ran at the time of the copy wait for one lease.
SETTINGS = {"BLIPLINE_MODEL": NULL_MODEL, "BLIPLINE_LEASE_S": "2", "BLIPLINE_SWEEP_S": "1"}


def url_of(server: Server) -> str:
    return f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"


def redis_cli(server: Server, *arguments: str) -> str:
    command = [str(Path(redis_server()).with_name("redis-cli")), "-p", str(server.port)]
    command += ["-a", PASSWORD, "--no-auth-warning", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def copy_in_the_middle(server: Server, worker: Worker, batch: Batch, copy: Path) -> int:
    """Copy the server while the batch is worked on; return the items that were done by then."""
    before = batch.progress().done
    wait_until(lambda: batch.progress().done > before, "progress")
    # A busy machine may copy more slowly than the worker works.
    send(processes_of(worker.run_dir, "bulk"), signal.SIGSTOP)
    done = batch.progress().done
    redis_cli(server, "--rdb", str(copy))
    assert not batch.progress().finished, "the batch ended before the copy: raise ITEMS"
    return done


def has_written_its_file(server: Server) -> bool:
    """Return whether the append-only file contains everything in memory."""
    state = redis_cli(server, "INFO", "persistence")
    return "aof_rewrite_in_progress:0" in state and "aof_rewrite_scheduled:0" in state


def restored(directory: Path) -> Server:
    """Start a server from the copy, switch its append-only file on, and start it once more."""
    server = Server(directory, "appendonly no", "dbfilename backup.rdb", password=PASSWORD)
    server.start()
    redis_cli(server, "CONFIG", "SET", "appendonly", "yes")
    wait_until(lambda: has_written_its_file(server), "an append-only file")
    redis_cli(server, "CONFIG", "REWRITE")
    (directory / "backup.rdb").unlink()
    server.kill()
    server.start()
    return server


def test_a_copy_taken_under_load_completes_on_a_new_server(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = Server(tmp_path / "old", "repl-diskless-sync-delay 0", password=PASSWORD)
    old.start()
    try:
        with Client(url_of(old)) as client:
            images = (
                {"image": "https://images.example.com/a.png", "custom_id": str(number)}
                for number in range(ITEMS)
            )
            batch = client.submit_batch(images, chunk_items=1)
            with running_worker(url_of(old), SETTINGS, quiet=True) as worker:
                done = copy_in_the_middle(old, worker, batch, tmp_path / "new" / "backup.rdb")
                # Both machines are lost.
                old.kill()
                send(processes_of(worker.run_dir), signal.SIGKILL)
    finally:
        old.kill()
    new = restored(tmp_path / "new")
    try:
        with Client(url_of(new)) as client, running_worker(url_of(new), SETTINGS, quiet=True):
            again = client.batch(batch.id)
            assert again.progress().done >= done
            results = list(again.results(timeout=120))
    finally:
        new.kill()
    assert Counter(result.custom_id for result in results) == Counter(map(str, range(ITEMS)))
    assert all(result.text == result.custom_id for result in results)
