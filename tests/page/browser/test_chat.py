"""Dialogues in a browser, answered by a worker with the demo model."""

from __future__ import annotations

from playwright.sync_api import expect

from producer import Client
from tests.page.visitor import IMAGES, Visitor

QUESTION = "#chat-question input, #chat-question textarea"


def test_a_dialogue_continues_and_a_new_image_begins_another(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.choose()
    visitor.tab("Chat")
    replies = page.locator("#dialogue .dialogue-answer")
    first, second = "how many shapes are there?", "what color is it?"
    with Client(visitor.served.redis_url) as client:
        image = IMAGES / "scene-02.jpg"
        without_history = client.ask(image, second).result(60)
        # The demo model was not trained on this question: a history changes its answer.
        with_history = client.chat(image, second, [(first, "two")]).result(60)
    assert with_history != without_history
    for turn, (question, reply) in enumerate([(first, "two"), (second, with_history)]):
        page.fill(QUESTION, question)
        page.click("#do-chat")
        expect(replies).to_have_count(turn + 1)
        expect(replies.last).to_have_text(reply)
    page.click("#do-clear")
    expect(replies).to_have_count(0)
    page.fill(QUESTION, "what is on top?")
    page.click("#do-chat")
    expect(replies).to_have_count(1)
    expect(page.locator("#dialogue .empty")).to_be_hidden()
    visitor.choose("scene-03.webp")
    expect(replies).to_be_hidden()
    expect(page.locator("#dialogue .empty")).to_be_visible()
    page.fill(QUESTION, "how many shapes are there?")
    page.press(QUESTION, "Enter")
    expect(replies).to_have_text(["one"])
