"""Redis's own counters, and a table of them by phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import redis


@dataclass(frozen=True, slots=True)
class Reading:
    """Redis's counters at one moment."""

    #: Seconds of processor time.
    cpu_s: float
    #: Processor time of Redis's forks, which rewrite the append-only file on another core.
    forks_s: float
    #: Number of commands, including those called by scripts.
    commands: int
    scripts: int
    received_bytes: int
    sent_bytes: int
    #: Bytes of memory in use.
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a benchmark: items, time and Redis's counters."""

    name: str
    items: int
    seconds: float
    before: Reading
    after: Reading

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds

    @property
    def cpu_s(self) -> float:
        """Seconds of Redis's processor time."""
        return self.after.cpu_s - self.before.cpu_s

    @property
    def core_rate(self) -> float:
        """Items per second that would saturate Redis's one core."""
        return self.items / self.cpu_s

    @property
    def kept_bytes(self) -> float:
        """Redis memory per item at the end of the phase."""
        return self.per_item("used_bytes")

    def per_item(self, counter: str) -> float:
        """Return the increase of a counter per item."""
        increase: float = getattr(self.after, counter) - getattr(self.before, counter)
        return increase / self.items


def read(client: redis.Redis) -> Reading:
    """Read the counters."""
    pipe = client.pipeline(transaction=False)
    for section in ("cpu", "stats", "memory", "commandstats"):
        pipe.info(section)
    cpu, stats, memory, commands = pipe.execute()
    return Reading(
        cpu["used_cpu_user"] + cpu["used_cpu_sys"],
        cpu["used_cpu_user_children"] + cpu["used_cpu_sys_children"],
        stats["total_commands_processed"],
        sum(_calls(commands, name) for name in ("evalsha", "eval")),
        stats["total_net_input_bytes"],
        stats["total_net_output_bytes"],
        memory["used_memory"],
    )


def _calls(commands: dict[str, Any], name: str) -> int:
    return int(commands.get(f"cmdstat_{name}", {}).get("calls", 0))


#: Width in characters of each column except the first.
WIDTHS: Final = (12, 12, 16, 10, 9, 9, 9)


def table(phases: list[Phase]) -> str:
    """Format phases as a table."""
    head = ("", "items/s", "Redis core", "items/s a core", "commands", "scripts", "in", "out")
    rows = [head, *(_row(phase) for phase in phases)]
    return "\n".join(
        "".join(
            [
                f"{row[0]:<8}",
                *(f"{cell:>{width}}" for cell, width in zip(row[1:], WIDTHS, strict=True)),
            ]
        )
        for row in rows
    )


def _row(phase: Phase) -> tuple[str, ...]:
    return (
        phase.name,
        f"{phase.rate:,.0f}",
        f"{phase.cpu_s / phase.seconds:.0%}",
        f"{phase.core_rate:,.0f}",
        f"{phase.per_item('commands'):.2f}",
        f"{phase.per_item('scripts'):.3f}",
        f"{phase.per_item('received_bytes'):,.0f}",
        f"{phase.per_item('sent_bytes'):,.0f}",
    )
