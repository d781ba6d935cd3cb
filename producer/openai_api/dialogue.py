"""Messages of a chat completion: the image, the question, and the earlier turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..contract import MAX_TURNS
from .errors import OpenAIError
from .parameters import invalid_type, unsupported


@dataclass(slots=True)
class Exchange:
    """Consecutive messages of the user, and the answer of the assistant."""

    questions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    @property
    def question(self) -> str:
        """The text of the user's messages."""
        return " ".join(filter(None, self.questions))

    def turn(self) -> dict[str, str]:
        """Return the turn of a dialogue."""
        return {"question": self.question, "answer": " ".join(filter(None, self.answers))}


@dataclass(slots=True)
class MessageDialogue:
    """The dialogue of messages: about one image, ending with a question."""

    image: str = ""
    exchanges: list[Exchange] = field(default_factory=list)

    @classmethod
    def of(cls, messages: object) -> MessageDialogue:
        """Read messages; raises OpenAIError, which names the message."""
        if not isinstance(messages, list):
            raise invalid_type("messages", "an array", messages)
        dialogue = cls()
        for index, message in enumerate(messages):
            if not isinstance(message, dict):
                raise invalid_type(f"messages[{index}]", "an object", message)
            dialogue._add(f"messages[{index}]", message)
        if not dialogue.exchanges or dialogue.exchanges[-1].answers:
            raise OpenAIError("The last message must be one of the user", param="messages")
        if not dialogue.image:
            raise OpenAIError(
                "No message contains an image: the model answers questions about an image; add a "
                "part of the type 'image_url' to a message of the user",
                code="missing_image",
                param="messages",
            )
        return dialogue

    @property
    def question(self) -> str:
        """The question; empty if the user has sent the image alone."""
        return self.exchanges[-1].question

    @property
    def history(self) -> list[dict[str, str]]:
        """Earlier turns about the same image, the oldest first."""
        return [exchange.turn() for exchange in self.exchanges[:-1]][-MAX_TURNS:]

    def _add(self, param: str, message: Mapping[str, Any]) -> None:
        role = message.get("role")
        texts, images = _read_content(param, message)
        if role == "user":
            self._add_question(param, texts, images)
        elif images:
            raise unsupported(param, "Only messages of the user may contain images")
        elif role == "assistant":
            if message.get("tool_calls") or message.get("function_call"):
                raise unsupported(param, "Calls of tools are not supported")
            if not self.exchanges:
                raise OpenAIError("The first message must be one of the user", param=param)
            self.exchanges[-1].answers += texts
        elif role in ("system", "developer"):
            # Many clients send an empty one.
            if texts:
                raise unsupported(
                    f"{param}.role",
                    f"Messages of the role {role!r} are not supported: the model has no "
                    "instructions; put them into the question",
                )
        else:
            raise unsupported(f"{param}.role", f"The role {role!r:.100} is not supported")

    def _add_question(self, param: str, texts: list[str], images: list[str]) -> None:
        if len(images) > 1:
            raise unsupported(
                f"{param}.content",
                f"The message contains {len(images)} images; a question is about one image",
            )
        if images and images[0] != self.image:
            # The newest image decides; earlier turns are about another one. A question that has no
            # answer yet is about this one.
            self.image = images[0]
            self.exchanges = [exchange for exchange in self.exchanges[-1:] if not exchange.answers]
        if not self.exchanges or self.exchanges[-1].answers:
            self.exchanges.append(Exchange())
        self.exchanges[-1].questions += texts


def _read_content(param: str, message: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the texts that are not blank, and the images, of a message."""
    content = message.get("content")
    param = f"{param}.content"
    if content is None:
        return [], []
    if isinstance(content, str):
        return [content.strip()] if content.strip() else [], []
    if not isinstance(content, list):
        raise invalid_type(param, "a string or an array of parts", content)
    parts = list(_read_parts(param, content))
    texts = [text.strip() for kind, text in parts if kind == "text" and text.strip()]
    return texts, [url for kind, url in parts if kind == "image_url"]


def _read_parts(param: str, parts: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield the type of each part, and its text or URL."""
    for index, part in enumerate(parts):
        name = f"{param}[{index}]"
        if not isinstance(part, dict):
            raise invalid_type(name, "an object", part)
        kind = part.get("type")
        if kind not in ("text", "image_url"):
            message = f"Parts of the type {kind!r:.100} are not supported"
            raise unsupported(f"{name}.type", f"{message}; send 'text' or 'image_url'")
        value = part.get(kind)
        if kind == "image_url" and isinstance(value, dict):
            name, value = f"{name}.image_url", value.get("url")
            kind_name = f"{name}.url"
        else:
            kind_name = f"{name}.{kind}"
        if not isinstance(value, str):
            raise invalid_type(kind_name, "a string", value)
        yield kind, value
