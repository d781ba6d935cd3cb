"""`blipline up`: one command serves the API, and its end leaves no process."""

from __future__ import annotations

import signal
import subprocess

import httpx
import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit

from .shell import PROGRAM

#: The header of a PNG image, 1 x 1 pixels.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000"
    "020001486a3c110000000049454e44ae426082"
)


def test_one_command_answers_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLIPLINE_REDIS_URL", raising=False)
    monkeypatch.setenv("BLIPLINE_PAGE", "false")
    # The null engine answers each image with its id, and starts without torch.
    process = subprocess.Popen(
        [*PROGRAM, "up", "--model", "null", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().removeprefix("gateway: ").strip()
        key = process.stdout.readline().removeprefix("key: ").strip()
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.post(f"{url}/v1/caption", content=PNG, headers=headers, timeout=60)
        assert answer.json()["status"] == "done"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == Exit.OK
    finally:
        # The keeper ends what the command has started.
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("command", ["up", "worker"])
def test_a_missing_worker_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run([command]) == Exit.USAGE
    message = capsys.readouterr().err
    assert f"blipline {command} starts a worker, which needs celery: `pip install" in message
    assert "'.[worker]'" in message
