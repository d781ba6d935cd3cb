"""The syntax of named adapters in a setting: `red=./lora-red,blue=owner/lora`."""

from __future__ import annotations

from producer.contract import is_adapter_name
from producer.net.address_policy import split_list


def parse_adapters(setting: str) -> list[tuple[str, str]]:
    """Return the names of adapters, and the directory or hub name of each, in their order.

    Raises ValueError.
    """
    adapters: dict[str, str] = {}
    for entry in split_list(setting):
        name, separator, reference = (part.strip() for part in entry.partition("="))
        if not separator or not reference or not is_adapter_name(name):
            raise ValueError(
                f"{entry!r} is no adapter: write name=directory or name=owner/name, with a name of "
                "at most 64 letters, digits and the characters ._-"
            )
        if name in adapters:
            raise ValueError(f"the adapter {name!r} occurs twice")
        adapters[name] = reference
    return list(adapters.items())
