"""The syntax of the setting of devices: `all`, `0,1,3` or `cpu:2`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from producer.net.address_policy import split_list


@dataclass(frozen=True)
class DeviceChoice:
    """The devices of a machine that get a process tree each."""

    #: Numbers of GPUs; empty with `all_gpus` or CPU trees.
    gpus: tuple[int, ...] = ()
    all_gpus: bool = False
    #: Process trees that share the cores; 0: GPUs.
    cpu_trees: int = 0


def parse_devices(setting: str) -> DeviceChoice | None:
    """Return the chosen devices, or None for an empty setting. Raises ValueError."""
    text = setting.strip().lower()
    if not text:
        return None
    if text == "all":
        return DeviceChoice(all_gpus=True)
    if match := re.fullmatch(r"cpu:([1-9][0-9]{0,3})", text):
        return DeviceChoice(cpu_trees=int(match[1]))
    matches = [re.fullmatch(r"(?:cuda:)?([0-9]{1,4})", entry) for entry in split_list(text)]
    gpus = tuple(int(match[1]) for match in matches if match)
    if len(gpus) != len(matches) or not gpus:
        raise ValueError("choose all, numbers of GPUs as 0,1,3, or cpu:<n> for n trees on the CPU")
    if len(set(gpus)) < len(gpus):
        raise ValueError("a GPU occurs twice")
    return DeviceChoice(gpus)
