"""The page driven in a real browser, through the real queue and a worker with the demo's model.

After each test, `visitor` checks that the console had no error, and that nothing was asked of
anybody but the gateway.
"""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from producer import Client, State
from tests.page.visitor import IMAGES, PATIENCE_MS, Served, Visitor

CAPTION = "a orange star above a yellow circle on a brown background"


@pytest.fixture(autouse=True)
def patience() -> None:
    """How long to wait for what is expected."""
    expect.set_options(timeout=PATIENCE_MS)


def said(page: Page, place: str) -> str:
    """The answer that comes to stand in a place."""
    answer = page.locator(f"{place} .said")
    answer.wait_for()
    return answer.inner_text()


def test_a_wrong_key_opens_nothing_and_the_right_one_the_page(visitor: Visitor) -> None:
    page = visitor.page
    page.goto(visitor.served.url)
    for wrong in ("nonsense", "blip_000000000000_" + "0" * 48):
        page.fill("#key", wrong)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text(
            "This key is not known here, or was revoked."
        )
        assert wrong not in page.content()
    # Chromium itself notes that the answers were 401.
    assert all("401" in error for error in visitor.errors)
    visitor.errors.clear()
    page.fill("#key", visitor.served.keys["acme"])
    page.press("#key", "Enter")
    page.wait_for_selector("#do-caption")
    assert visitor.errors == []
    page.get_by_role("button", name="acme: sign out").click()
    page.wait_for_selector("#key")
    # Gradio complains where a page is left while it listens.
    visitor.errors.clear()
    page.goto(visitor.served.url)
    page.wait_for_selector("#key")


def test_a_picture_is_captioned_and_the_text_counted(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.choose()
    page.click("#do-caption")
    assert said(page, "#caption-answer") == CAPTION
    expect(page.locator("#caption-answer .about")).to_contain_text("57 characters · 11 words")
    expect(page.locator("#caption-answer .about span").last).to_contain_text(" s")
    assert visitor.served.jobs("acme")


#: A function of a picture's bytes, as base64.
AS_BYTES = "const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));"


def test_a_picture_can_be_pasted_and_dropped(visitor: Visitor) -> None:
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visitor.sign_in()
    data = base64.b64encode((IMAGES / "scene-01.png").read_bytes()).decode()
    page.evaluate(
        f"""async data => {{ {AS_BYTES}
            const picture = new Blob([bytes], {{type: "image/png"}});
            await navigator.clipboard.write([new ClipboardItem({{"image/png": picture}})]); }}""",
        data,
    )
    page.get_by_label("Paste from clipboard").click()
    page.locator("#picture img").wait_for()
    page.click("#do-caption")
    assert (
        said(page, "#caption-answer") == "a orange star above a black circle on a pink background"
    )
    page.get_by_label("Remove Image").click()
    files = page.evaluate_handle(
        f"""data => {{ {AS_BYTES}
            const files = new DataTransfer();
            files.items.add(new File([bytes], "a.png", {{type: "image/png"}}));
            return files; }}""",
        data,
    )
    page.locator("#picture button.upload-container").dispatch_event("drop", {"dataTransfer": files})
    page.locator("#picture img").wait_for()


def test_a_prompt_begins_the_caption_and_options_change_its_length(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.choose()
    page.fill("#prompt input, #prompt textarea", "a orange")
    page.get_by_text("Options").click()
    page.fill("#max-new-tokens input", "3")
    page.click("#do-caption")
    short = said(page, "#caption-answer")
    assert short.startswith("a orange")
    assert len(short) < len(CAPTION)


def test_a_question_is_answered_by_the_keyboard_alone(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.choose()
    page.get_by_role("tab", name="Caption").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="Ask")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    for _ in range(3):
        # Past the other tabs.
        page.keyboard.press("Tab")
    expect(page.get_by_role("textbox", name="Question")).to_be_focused()
    page.keyboard.type("what color is the background?")
    page.keyboard.press("Enter")
    assert said(page, "#ask-answer") == "brown"


def test_a_dialogue_goes_on_and_a_new_picture_begins_another(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.choose()
    visitor.tab("Chat")
    replied = page.locator("#dialogue .replied")
    first, second = "how many shapes are there?", "what color is the star?"
    with Client(visitor.served.redis_url) as client:
        picture = IMAGES / "scene-02.jpg"
        alone = client.ask(picture, second).result(60)
        # The demo's model was not taught dialogues, and what went before confuses it.
        further = client.chat(picture, second, [(first, "two")]).result(60)
    assert further != alone
    for turn, (question, reply) in enumerate([(first, "two"), (second, further)]):
        page.fill("#chat-question input, #chat-question textarea", question)
        page.click("#do-chat")
        expect(replied).to_have_count(turn + 1)
        expect(replied.last).to_have_text(reply)
    page.click("#do-clear")
    expect(replied).to_have_count(0)
    page.fill("#chat-question input, #chat-question textarea", "what is on top?")
    page.click("#do-chat")
    expect(replied).to_have_count(1)
    expect(page.locator("#dialogue .empty")).to_be_hidden()
    visitor.choose("scene-03.webp")
    expect(replied).to_be_hidden()
    expect(page.locator("#dialogue .empty")).to_be_visible()
    page.fill("#chat-question input, #chat-question textarea", "how many shapes are there?")
    page.press("#chat-question input, #chat-question textarea", "Enter")
    expect(replied).to_have_text(["one"])


def test_texts_are_compared_with_a_picture(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.choose()
    visitor.tab("Match")
    page.fill("#texts textarea", f"a red square on a grey background\n\n{CAPTION}")
    page.click("#do-match")
    terms = page.locator("#match-answer .term")
    expect(terms).to_have_text([CAPTION, "a red square on a grey background"])
    assert float(page.locator("#match-answer .value").first.inner_text()) > 0.9


def test_a_batch_ends_with_a_row_for_each_file_and_both_downloads(
    visitor: Visitor, tmp_path: Path
) -> None:
    broken = tmp_path / "=broken.png"
    broken.write_bytes(b"not a picture")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    page = visitor.sign_in()
    visitor.tab("Batch")
    files = [IMAGES / "scene-02.jpg", broken, IMAGES / "scene-03.webp", empty]
    page.set_input_files("#files input[type=file]", files)
    expect(page.locator("#files .file-preview tr, #files tr.file")).to_have_count(4)
    page.click("#do-batch")
    expect(page.locator("#batch-progress .about span").first).to_have_text(
        "Done: 4 of 4 · 2 failed"
    )
    rows = page.locator("#batch-results tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(0)).to_contain_text(CAPTION)
    expect(rows.nth(1)).to_contain_text("image_invalid")
    expect(rows.nth(3)).to_contain_text("is empty")
    lines = [json.loads(line) for line in fetched(page, "JSONL").splitlines()]
    assert [line["status"] for line in lines] == ["ok", "error", "ok", "error"]
    assert lines[0] == {"custom_id": "scene-02.jpg", "status": "ok", "text": CAPTION}
    assert lines[1]["error"]["code"] == "image_invalid"
    table = list(csv.DictReader(fetched(page, "CSV").splitlines()))
    assert [row["text"] for row in table] == [line.get("text", "") for line in lines]
    assert table[1]["custom_id"].startswith("'=")


def fetched(page: Page, kind: str) -> str:
    """A file that the page offers."""
    with page.expect_download() as download:
        page.get_by_role("link", name=kind, exact=True).click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def test_a_batch_asks_one_question_of_all(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.tab("Batch")
    page.set_input_files(
        "#files input[type=file]", [IMAGES / "scene-02.jpg", IMAGES / "scene-03.webp"]
    )
    page.get_by_role("radio", name="Question").check()
    page.click("#do-batch")
    assert visitor.complaint() == "Write a question first."
    page.get_by_label("Question, or how captions begin").fill("how many shapes are there?")
    page.click("#do-batch")
    expect(page.locator("#batch-results .said")).to_have_text(["two", "one"])


def test_what_is_wrong_is_said_in_a_sentence(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.sign_in()
    page.click("#do-caption")
    assert visitor.complaint() == "Choose a picture first, or give the address of one."
    page.fill("#url input, #url textarea", "http://example.com/a.png")
    page.click("#do-caption")
    assert visitor.complaint() == "The address of a picture begins with https://."
    # The worker refuses it, and the gateway never asks for it.
    page.fill("#url input, #url textarea", "https://127.0.0.1:1/a.png")
    page.click("#do-caption")
    assert "127.0.0.1" in visitor.complaint()
    page.fill("#url input, #url textarea", "")
    visitor.tab("Batch")
    page.click("#do-batch")
    assert visitor.complaint() == "Choose some pictures first."
    visitor.tab("Ask")
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    page.set_input_files("#picture input[type=file]", text)
    page.locator("#picture img").wait_for(state="attached")
    page.click("#do-ask")
    assert visitor.complaint() == "Write a question first."
    page.get_by_role("textbox", name="Question").fill("what is it?")
    page.click("#do-ask")
    assert visitor.complaint().startswith("Not an image of a known format")


def test_a_file_that_is_too_large_is_refused(visitor: Visitor, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(70 * 1024 * 1024)
    page = visitor.sign_in()
    page.set_input_files("#picture input[type=file]", large)
    assert "maximum allowed size" in visitor.complaint()


def test_a_wrong_option_is_named_as_the_page_names_it(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.choose()
    page.get_by_text("Options").click()
    page.fill("#seed input, #seed textarea", "many")
    page.click("#do-caption")
    assert visitor.complaint() == "Seed = 'many': a number is needed, or nothing."
    page.fill("#seed input, #seed textarea", "")
    page.fill("#num-beams input", "99")
    page.click("#do-caption")
    assert visitor.complaint().startswith("Beams = 99: ")


def test_without_a_worker_the_wait_ends_with_a_sentence_and_the_queue_shows(
    browser: Browser, idle: Served
) -> None:
    visitor = Visitor(browser, idle)
    page = visitor.sign_in()
    visitor.choose()
    page.get_by_text("Options").click()
    page.fill("#deadline-s input, #deadline-s textarea", "0.1")
    page.click("#do-caption")
    assert visitor.complaint().startswith("No worker has begun it after 0.1 s, so it was cancelled")
    with Client(idle.redis_url) as client:
        # What was cancelled is open until a worker comes by.
        client.caption("https://example.com/a.png")
        expect(page.locator(".facts dd").first).to_have_text("2")
        page.click("#do-caption")
        assert visitor.complaint() == "There is no room in the queue now: try again later."
    visitor.close()
    assert visitor.errors == []


def test_a_batch_can_be_cancelled(browser: Browser, idle: Served) -> None:
    visitor = Visitor(browser, idle)
    page = visitor.sign_in()
    visitor.tab("Batch")
    page.set_input_files("#files input[type=file]", [IMAGES / "scene-02.jpg"])
    page.click("#do-batch")
    expect(page.locator("#batch-progress")).to_contain_text("0 of 1")
    page.click("#do-cancel")
    expect(page.locator("#batch-progress")).to_contain_text("Cancelled: 0 of 1")
    expect(page.locator("#batch-results .about")).to_contain_text("cancelled")
    expect(page.locator("#do-cancel")).to_be_hidden()
    visitor.close()
    assert visitor.errors == []


def test_an_answer_is_seen_to_be_waited_for_and_another_picture_ends_the_wait(
    browser: Browser, slow: Served
) -> None:
    visitor = Visitor(browser, slow)
    page = visitor.sign_in()
    visitor.choose()
    job_id = job_pressed(visitor)
    waiting = page.locator("#caption-answer .waiting")
    expect(waiting).to_be_in_viewport()
    visitor.choose("scene-03.webp")
    expect(waiting).to_be_hidden()
    with Client(slow.redis_url) as client:
        # Pytest's time limit ends what takes for ever.
        while client.job(job_id).status() is not State.CANCELLED:
            page.wait_for_timeout(50)
    visitor.close()
    assert visitor.errors == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_slow_network_takes_no_answer_away(visitor: Visitor, when: str) -> None:
    # What the page says of a picture that was chosen comes late, or is answered late.
    visitor.context.add_init_script(
        f"""{{ const ask = window.fetch;
        window.fetch = async (where, how) => {{
            const slow = String(where).includes("/run/") && String(how?.body).includes("scene-02");
            const pause = () => new Promise(done => setTimeout(done, slow ? 1500 : 0));
            if ({json.dumps(when)} === "before") await pause();
            const answer = await ask(where, how);
            if ({json.dumps(when)} === "after") await pause();
            if (slow) document.title = "slow";
            return answer; }}; }}"""
    )
    page = visitor.sign_in()
    visitor.choose()
    page.click("#do-caption")
    assert said(page, "#caption-answer") == CAPTION
    expect(page).to_have_title("slow")
    # Had it been taken away, that would have been seen by now.
    page.wait_for_timeout(500)
    assert said(page, "#caption-answer") == CAPTION


def test_who_presses_again_is_answered_last(browser: Browser, slow: Served) -> None:
    visitor = Visitor(browser, slow)
    page = visitor.sign_in()
    visitor.choose()
    with Client(slow.redis_url) as client:
        first = job_pressed(visitor)
        page.fill("#prompt input, #prompt textarea", "a orange")
        last = job_pressed(visitor)
        # Pytest's time limit ends what takes for ever.
        while client.job(first).status() is not State.CANCELLED:
            page.wait_for_timeout(50)
        assert client.job(last).status() is State.QUEUED
    expect(page.locator("#caption-answer .waiting")).to_be_visible()
    visitor.close()
    assert visitor.errors == []


def job_pressed(visitor: Visitor) -> str:
    """Ask for a caption; returns the id of its job."""
    known = visitor.served.jobs("acme")
    visitor.page.click("#do-caption")
    # Pytest's time limit ends what takes for ever.
    while not (new := visitor.served.jobs("acme") - known):
        visitor.page.wait_for_timeout(50)
    (job_id,) = new
    return job_id


def test_an_answer_does_not_outlive_its_picture(visitor: Visitor) -> None:
    page = visitor.sign_in()
    answer = page.locator("#caption-answer .said")
    visitor.choose()
    page.click("#do-caption")
    expect(answer).to_be_visible()
    visitor.choose("scene-03.webp")
    expect(answer).to_be_hidden()
    visitor.choose()
    expect(answer).to_have_text(CAPTION)
    visitor.choose("scene-03.webp")
    page.click("#do-caption")
    expect(answer).to_be_visible()
    page.fill("#url input, #url textarea", "http://example.com/a.png")
    expect(answer).to_be_hidden()
    page.fill("#url input, #url textarea", "")
    expect(answer).to_be_visible()
    page.get_by_text("Options").click()
    page.fill("#seed input, #seed textarea", "many")
    page.click("#do-caption")
    visitor.complaint()
    expect(answer).to_have_count(0)


def test_whose_session_ended_comes_to_the_form(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.context.clear_cookies()
    page.wait_for_selector("#key")
    # Chromium itself notes that an answer was 401.
    visitor.errors.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_has_the_colors_that_its_reader_wants(
    browser: Browser, served: Served, width: int, scheme: str
) -> None:
    visitor = Visitor(
        browser, served, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    page = visitor.sign_in()
    visitor.choose()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(244, 244, 241)", "dark": "rgb(20, 21, 23)"}[scheme]
    for tab in ("Caption", "Ask", "Chat", "Match", "Batch"):
        visitor.tab(tab)
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        expect(page.locator("#several").first).to_be_visible(visible=tab == "Batch")
        expect(page.locator("#one").first).to_be_visible(visible=tab != "Batch")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
    visitor.close()
    assert visitor.errors == []
    assert visitor.outside == []
