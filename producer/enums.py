"""Names that the contract fixes: tasks, queues, levels of detail, states, error codes."""

from __future__ import annotations

from enum import StrEnum


class Task(StrEnum):
    """Celery task names."""

    CAPTION = "blipline.caption"
    VQA = "blipline.vqa"
    CHAT = "blipline.chat"
    MATCH = "blipline.match"
    EMBED = "blipline.embed"
    DESCRIBE = "blipline.describe"
    CAPFILT = "blipline.capfilt"

    @property
    def short(self) -> str:
        """The name without its prefix: ``caption``."""
        return self.value.removeprefix("blipline.")

    @classmethod
    def parse(cls, name: str) -> Task:
        """Return the task of a short or full name; raises ValueError that lists all tasks."""
        for task in cls:
            if name in (task.short, task.value):
                return task
        known = ", ".join(task.short for task in cls)
        raise ValueError(f"unknown task {name!r:.100}: choose one of {known}")


class Queue(StrEnum):
    """Celery queues; each has its own consumers, and the engine serves interactive rows first."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Detail(StrEnum):
    """The level of detail of a description: its number of rounds and its default options."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class State(StrEnum):
    """The state of a job, as producers see it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: The job has ended, and its result has expired.
    EXPIRED = "expired"
    #: The job was never submitted to this deployment.
    UNKNOWN = "unknown"


class ErrorCode(StrEnum):
    """The reason that an item has no result."""

    IMAGE_UNREACHABLE = "image_unreachable"
    IMAGE_BLOCKED = "image_blocked"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_INVALID = "image_invalid"
    PROMPT_TOO_LONG = "prompt_too_long"
    OPTION_INVALID = "option_invalid"
    UNSUPPORTED_TASK = "unsupported_task"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    POISONED = "poisoned"
    INTERNAL = "internal"
