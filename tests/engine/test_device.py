"""Free memory of a device, with files of /proc and /sys in place of the system's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from worker.engine.device import free_bytes

CPU = torch.device("cpu")


def machine(root: Path, files: dict[str, str]) -> Path:
    """A made-up /proc and /sys with 1 GB available."""
    for name, text in {"proc/meminfo": "MemAvailable:  1000000 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "sys/fs/cgroup"


V1 = "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 1_024_000_000),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, 1_024_000_000),
        # What the group's files hold in the cache is given back on demand.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/b/memory.max": "900000000\n",
                f"{V2}/a/b/memory.current": "500000000\n",
                f"{V2}/a/b/memory.stat": "active_file 7\ninactive_file 100000000\nslab 3\n",
            },
            500_000_000,
        ),
        # A group further up may have less left.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/b/memory.max": "900000000\n",
                f"{V2}/a/b/memory.current": "0\n",
                f"{V2}/a/memory.max": "950000000\n",
                f"{V2}/a/memory.current": "940000000\n",
            },
            10_000_000,
        ),
        # In a container the path is the host's.
        (
            {
                "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/x\n0::/\n",
                f"{V1}/memory.limit_in_bytes": "300000000\n",
                f"{V1}/memory.usage_in_bytes": "100000000\n",
                f"{V1}/memory.stat": "inactive_file 1\ntotal_inactive_file 5000000\n",
            },
            205_000_000,
        ),
        # Version 1 writes a very large number where there is no limit.
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
                f"{V1}/memory.usage_in_bytes": "100\n",
            },
            1_024_000_000,
        ),
    ],
)
def test_free_memory_of_a_cpu_is_the_least_of_machine_and_groups(
    tmp_path: Path, files: dict[str, str], free: int
) -> None:
    assert free_bytes(CPU, machine(tmp_path, files)) == free


def test_free_memory_of_this_machine_is_within_reason() -> None:
    assert 10**7 < free_bytes(CPU) < 10**14
