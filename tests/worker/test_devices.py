"""Devices that get a process tree, their share of the cores, and their settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from config.devices import parse_devices
from config.settings import WorkerSettings
from demo.stack import ROOT
from producer.errors import InvalidInput
from worker.engine.errors import LoadError
from worker.processes.cores import divide_cores, pinned, usable_cores
from worker.processes.devices import Device, list_gpus, select_devices
from worker.processes.machine_tree import tree_settings
from worker.processes.supervisor import Stopped

GPUS = ["NVIDIA H200", "NVIDIA H200", "NVIDIA L4"]
CORES = set(range(8))


def names(setting: str, gpus: Sequence[str] = GPUS) -> list[tuple[str, str]]:
    choice = parse_devices(setting)
    assert choice is not None
    return [(device.name, device.setting) for device in select_devices(choice, lambda: gpus, CORES)]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("all", [("cuda:0", "cuda:0"), ("cuda:1", "cuda:1"), ("cuda:2", "cuda:2")]),
        (" ALL ", [("cuda:0", "cuda:0"), ("cuda:1", "cuda:1"), ("cuda:2", "cuda:2")]),
        ("2", [("cuda:2", "cuda:2")]),
        ("2, cuda:0", [("cuda:2", "cuda:2"), ("cuda:0", "cuda:0")]),
        ("cpu:2", [("cpu:0", "cpu"), ("cpu:1", "cpu")]),
    ],
)
def test_a_setting_names_its_devices(setting: str, expected: list[tuple[str, str]]) -> None:
    assert names(setting) == expected


@pytest.mark.parametrize("setting", ["", "  "])
def test_without_the_setting_there_is_one_tree(setting: str) -> None:
    assert parse_devices(setting) is None


@pytest.mark.parametrize(
    "setting",
    [
        *("gpu", "0,,x", "-1", "0-3", "0.5", "0,all", "0,0", "1,cuda:1", ",", "cuda", "cuda:"),
        *("99999", "٣", "cpu", "cpu:0", "cpu:-1", "cpu:2,0", "cpu:99999"),
    ],
)
def test_another_value_is_refused_by_its_name(setting: str) -> None:
    with pytest.raises(InvalidInput, match=r"^BLIPLINE_DEVICES=.*(choose all|occurs twice)"):
        WorkerSettings.load(devices=setting)


def test_the_two_settings_of_devices_exclude_each_other() -> None:
    with pytest.raises(InvalidInput, match=r"BLIPLINE_DEVICES=.*DEVICE is set, too"):
        WorkerSettings.load(devices="all", device="cuda:1")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("1,5", r"cuda:5 does not exist; this machine has cuda:0 \(NVIDIA H200\), cuda:1"),
        ("3,4", "cuda:3, cuda:4 do not exist"),
        ("cpu:9", "cpu:9 needs a core for each process tree; this worker may use 8"),
    ],
)
def test_a_device_that_does_not_exist_is_named_with_those_that_do(
    setting: str, message: str
) -> None:
    with pytest.raises(LoadError, match=message):
        names(setting)


def test_a_machine_without_gpus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # Also true where there are some
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(LoadError, match="this machine has no usable CUDA device"):
        list_gpus(lambda: False)


def test_the_list_of_gpus_can_be_stopped() -> None:
    with pytest.raises(Stopped):
        list_gpus(lambda: True)


@pytest.mark.parametrize("parts", range(1, 12))
def test_cores_are_divided_fairly(parts: int) -> None:
    shares = divide_cores(CORES, parts)
    assert len(shares) == parts
    assert set().union(*shares) == CORES
    sizes = {len(share) for share in shares}
    assert max(sizes) - min(sizes) <= 1
    if parts <= len(CORES):
        assert sum(map(len, shares)) == len(CORES)


def test_threads_of_a_core_and_cores_of_a_socket_stay_together(tmp_path: Path) -> None:
    # Two sockets with two cores of two threads each, numbered as Linux does
    for cpu in range(8):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{cpu // 2 % 2}\n")
        (topology / "core_id").write_text(f"{cpu % 2}\n")
    assert divide_cores(CORES, 2, tmp_path) == [{0, 1, 4, 5}, {2, 3, 6, 7}]
    assert divide_cores(CORES, 4, tmp_path) == [{0, 4}, {1, 5}, {2, 6}, {3, 7}]


def test_a_process_starts_on_its_cores_alone() -> None:
    before = usable_cores()
    core = min(before)
    program = "from worker.images.memory_budget import CORES; print(CORES)"
    with pinned({core}):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True
        )
    assert done.stdout == b"1\n"
    assert os.sched_getaffinity(0) == before


def test_each_tree_has_its_own_directory_and_files_and_no_port(tmp_path: Path) -> None:
    settings = WorkerSettings.load(devices="all", metrics_port=9100, ready_file=tmp_path / "x")
    devices = [Device(f"cuda:{number}", f"cuda:{number}", frozenset()) for number in range(2)]
    first, second = (tree_settings(settings, device, tmp_path).environment() for device in devices)
    different = {name for name in first if first[name] != second[name]}
    assert different == {"BLIPLINE_DEVICE", "BLIPLINE_RUN_DIR", "BLIPLINE_READY_FILE"}
    assert second["BLIPLINE_METRICS_PORT"] == "0"
    assert second["BLIPLINE_RUN_DIR"] == str(tmp_path / "cuda-1")
    assert first["BLIPLINE_DEVICES"] == ""
