"""The page after a reload, in a browser."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.page.visitor import CAPTION, IMAGES, Served, Visitor

CHAT = "#chat-question input, #chat-question textarea"
QUESTION = "how many shapes are there?"
#: Beginnings of the errors that Gradio logs when a stream of events ends with its page.
ENDED_STREAM = ("AbortError", "Unexpected error Connection errored out")


def reload(visitor: Visitor) -> None:
    """Reload the page, and forget its errors about streams of events that the reload ended."""
    visitor.page.reload()
    visitor.page.wait_for_selector("#do-caption")
    visitor.errors = [error for error in visitor.errors if not error.startswith(ENDED_STREAM)]


def test_a_reload_keeps_the_image_the_inputs_and_the_answers(regular: Visitor) -> None:
    page = regular.page
    regular.choose()
    page.fill("#prompt input, #prompt textarea", "an orange")
    page.click("#do-caption")
    assert regular.answer() == CAPTION
    regular.tab("Chat")
    page.fill(CHAT, QUESTION)
    page.click("#do-chat")
    expect(page.locator(".dialogue-answer")).to_have_text(["two"])
    reload(regular)
    assert regular.answer() == CAPTION
    expect(page.locator("#image img")).to_have_js_property("naturalWidth", 96)
    expect(page.locator("#prompt input, #prompt textarea")).to_have_value("an orange")
    regular.tab("Chat")
    expect(page.locator(".dialogue-answer")).to_have_text(["two"])
    # The server also keeps the dialogue.
    page.fill(CHAT, "what is on top?")
    page.click("#do-chat")
    expect(page.locator(".dialogue-answer")).to_have_text(["two", "an orange star"])


def test_a_reload_keeps_a_cleared_dialogue_and_a_removed_image(regular: Visitor) -> None:
    page = regular.page
    regular.choose()
    regular.tab("Chat")
    # The dialogue of the test before.
    page.click("#do-clear")
    expect(page.locator(".dialogue-answer")).to_have_count(0)
    page.fill(CHAT, QUESTION)
    page.click("#do-chat")
    expect(page.locator(".dialogue-answer")).to_have_count(1)
    page.click("#do-clear")
    expect(page.locator(".dialogue-answer")).to_have_count(0)
    with page.expect_response(lambda response: "/run/" in response.url):
        page.get_by_label("Remove Image").click()
    page.locator("#image img").wait_for(state="detached")
    reload(regular)
    regular.tab("Chat")
    expect(page.locator("#dialogue")).to_contain_text("Ask a question")
    assert page.locator("#image img").count() == 0


def test_a_visit_belongs_to_its_tab_and_its_tenant(regular: Visitor, browser: Browser) -> None:
    page = regular.page
    regular.choose()
    page.click("#do-caption")
    regular.answer()
    address = page.url
    other_tab = regular.context.new_page()
    other_tab.goto(address)
    other_tab.wait_for_selector("#do-caption")
    assert other_tab.url != address
    expect(other_tab.locator("#image img")).to_have_count(0)
    other_tab.close()
    globex = Visitor(browser, regular.served, browser.new_context())
    visit = address.partition("visit=")[2]
    globex.page.add_init_script(f"sessionStorage.setItem('visit', '{visit}')")
    globex.sign_in("globex")
    assert globex.page.url == address
    globex.page.wait_for_timeout(1000)
    assert globex.page.locator("#image img").count() == 0
    assert globex.page.locator("#caption-answer .answer-text").count() == 0
    globex.close()
    assert globex.errors == []


def test_a_reload_follows_a_running_batch(browser: Browser, idle: Served) -> None:
    visitor = Visitor(browser, idle)
    page = visitor.sign_in()
    visitor.tab("Batch")
    page.set_input_files("#files input[type=file]", [IMAGES / "scene-02.jpg"])
    page.click("#do-batch")
    expect(page.locator("#batch-progress")).to_contain_text("0 of 1")
    reload(visitor)
    visitor.tab("Batch")
    expect(page.locator("#batch-progress")).to_contain_text("0 of 1")
    expect(page.locator("#files tr.file")).to_have_count(1)
    page.click("#do-cancel")
    expect(page.locator("#batch-results .answer-details")).to_contain_text("cancelled")
    reload(visitor)
    visitor.tab("Batch")
    expect(page.locator("#batch-results .answer-details")).to_contain_text("cancelled")
    visitor.close()
    assert visitor.errors == []
