"""Selection of the device, and its amount of free memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from worker.engine.errors import LoadError

#: Files with the memory limit and usage of a control group, and the field of its reclaimable memory
#: in memory.stat, for cgroup versions 1 and 2.
V1: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2: Final = ("memory.max", "memory.current", "inactive_file")


def pick_device(device: str) -> torch.device:
    """Return the torch device of a setting; `auto` is CUDA if there is one. Raises LoadError."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        selected = torch.device(device)
    except RuntimeError as error:
        raise LoadError(f"Unknown device {device!r}; use auto, cpu or cuda.") from error
    if selected.type not in ("cpu", "cuda"):
        raise LoadError(f"Device {device!r} is not supported; use auto, cpu or cuda.")
    if selected.type == "cuda" and not torch.cuda.is_available():
        raise LoadError("This machine has no usable CUDA device; use device cpu or auto.")
    if selected.type == "cuda" and (selected.index or 0) >= torch.cuda.device_count():
        raise LoadError(
            f"This machine has {torch.cuda.device_count()} CUDA devices, numbered from 0;"
            f" {device} does not exist."
        )
    return selected


def free_bytes(device: torch.device, root: Path = Path("/")) -> int:
    """Return the bytes that can be allocated now.

    On a CPU it is the minimum of the machine's free memory and that of each control group of this
    process; `root` is the parent of /proc and /sys.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([available_bytes(root), *cgroup_bytes(root)])


def check_free(size: int, device: torch.device, purpose: str) -> None:
    """Raise MemoryError if a CPU has fewer than `size` free bytes.

    Linux would overcommit, and kill the process when it writes to the memory. A GPU's allocator
    raises its own error.
    """
    if device.type == "cpu" and size > free_bytes(device):
        raise MemoryError(f"{purpose} needs {size:,} bytes")


def available_bytes(root: Path) -> int:
    """Return the memory available without swapping, or all memory if Linux reports none."""
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cgroup_bytes(root: Path) -> Iterator[int]:
    """Yield the free bytes of each control group with a limit, from this process's upwards."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            yield from _free_in_groups(root / "sys/fs/cgroup/memory", path, V1)
        elif not controllers:
            yield from _free_in_groups(root / "sys/fs/cgroup", path, V2)


def _free_in_groups(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    limit_name, used_name, inactive_name = names
    process_group = mount / path.lstrip("/")
    # In a container the path may be the host's; the mount itself is then the container's group.
    for group in [process_group, *process_group.parents]:
        limit = _read(group / limit_name)
        if limit.isdecimal():  # `max` means no limit
            inactive = _read(group / "memory.stat").partition(f"{inactive_name} ")[2]
            cache = int(inactive.split()[0]) if inactive else 0
            yield max(0, int(limit) - int(_read(group / used_name)) + cache)
        if group == mount:
            return


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
