"""Devices and their free memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from worker.engine.errors import LoadError

#: Where the two versions of cgroup keep limit, use and what of the use is given back on demand.
V1: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2: Final = ("memory.max", "memory.current", "inactive_file")


def pick_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises LoadError."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise LoadError(f"Unknown device {device!r}; use auto, cpu or cuda.") from error
    if picked.type not in ("cpu", "cuda"):
        raise LoadError(f"Device {device!r} is not supported; use auto, cpu or cuda.")
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise LoadError("This machine has no usable CUDA device; use device cpu or auto.")
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise LoadError(
            f"This machine has {torch.cuda.device_count()} CUDA devices, counted from 0;"
            f" there is no {device}."
        )
    return picked


def free_bytes(device: torch.device, root: Path = Path("/")) -> int:
    """Bytes that can be taken now.

    Of a CPU the machine's memory and that of each control group around this process, whichever has
    least; `root` is where /proc and /sys are.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([available_bytes(root), *group_bytes(root)])


def available_bytes(root: Path) -> int:
    """What the kernel says can be taken without swapping; where it does not say, all there is."""
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def group_bytes(root: Path) -> Iterator[int]:
    """What is left in each control group that has a limit, from the process's own upwards."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            yield from _left(root / "sys/fs/cgroup/memory", path, V1)
        elif not controllers:
            yield from _left(root / "sys/fs/cgroup", path, V2)


def _left(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    limit_name, used_name, inactive_name = names
    own = mount / path.lstrip("/")
    # In a container the path may be the host's: then the mount itself is the container's group.
    for group in [own, *own.parents]:
        limit = _read(group / limit_name)
        if limit.isdecimal():  # `max` is none
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
