"""Validation of items."""

from __future__ import annotations

from typing import Any

import pytest

from producer.contract import ErrorPayload, Task
from worker.consumer.chunk_options import read_options
from worker.consumer.validation import check_item
from worker.errors import ItemRejected
from worker.recipes.capfilt import FilterTerms

IMAGE = "https://x/y.png"


def error_of(task: Task, item: Any) -> ErrorPayload:
    with pytest.raises(ItemRejected) as raised:
        check_item(task, item)
    return raised.value.result["error"]


def test_ranked_answers_refuse_options_of_generated_ones() -> None:
    question = {"image": IMAGE, "question": "is it a cat?", "answers": ["yes", "no", "yes"]}
    item = check_item(Task.VQA, question)
    assert item.answers == ("yes", "no")
    read_options({"output_scores": True}, False, 0.0).of_item(item)
    with pytest.raises(ItemRejected, match="num_beams: answers are ranked, not generated"):
        read_options({"num_beams": 2}, False, 0.0).of_item(item)
    assert (
        "answers: an answer is empty"
        in error_of(Task.VQA, question | {"answers": [" "]})["message"]
    )
    assert (
        "does not accept it; use vqa"
        in error_of(Task.CAPTION, {"image": IMAGE, "answers": ["yes"]})["message"]
    )


def test_a_caption_takes_its_prompt_and_a_question_its_question() -> None:
    caption = check_item(Task.CAPTION, {"image": IMAGE, "prompt": "a red"})
    question = check_item(Task.VQA, {"image": IMAGE, "question": "how many?"})
    assert (caption.text, question.text) == ("a red", "how many?")


def test_a_description_has_each_prompt_once_and_a_level_of_detail() -> None:
    item = check_item(Task.DESCRIBE, {"image": IMAGE, "prompts": ["", "a photo of ", "a photo of"]})
    assert (item.prompts, item.detail) == (("", "a photo of"), "medium")


def test_capfilt_has_one_synthetic_caption_and_even_chances_unless_told_otherwise() -> None:
    texts = {"image": IMAGE, "texts": ["a cat"]}
    assert check_item(Task.CAPFILT, texts).filter_terms == FilterTerms(1, 0.5, 0.5)
    item = check_item(Task.CAPFILT, texts | {"captions": 0, "threshold": 0})
    assert item.filter_terms == FilterTerms(0, 0.0, 0.0)
    item = check_item(Task.CAPFILT, texts | {"threshold": 0.9, "synthetic_threshold": 0.0})
    assert item.filter_terms == FilterTerms(1, 0.9, 0.0)


def test_a_prompt_of_a_description_has_the_limit_of_a_text() -> None:
    error = error_of(Task.DESCRIBE, {"image": IMAGE, "prompts": ["", "why " * 10_000]})
    assert error["code"] == "prompt_too_long"


def test_an_item_may_ask_for_a_task_of_its_own() -> None:
    item = check_item(Task.CAPTION, {"image": IMAGE, "task": "vqa", "question": "how many?"})
    assert item.task is Task.VQA


@pytest.mark.parametrize(
    ("task", "item", "message"),
    [
        (Task.VQA, {"image": IMAGE}, "question: empty or missing"),
        (Task.VQA, {"image": IMAGE, "question": " \n"}, "question: empty or missing"),
        (Task.VQA, {"image": IMAGE, "question": "q", "prompt": "p"}, "prompt:"),
        (Task.CAPTION, {"image": IMAGE, "question": "q"}, "does not accept it; use vqa or chat"),
        (Task.CHAT, {"image": IMAGE}, "question: empty or missing"),
        (Task.CHAT, {"image": IMAGE, "question": "q", "history": ["a"]}, "history.0='a'"),
        (Task.CHAT, {"image": IMAGE, "question": "q", "history": [{"question": "a"}]}, "answer"),
        (
            Task.VQA,
            {"image": IMAGE, "question": "q", "history": []},
            "does not accept it; use chat",
        ),
        (Task.MATCH, {"image": IMAGE}, "texts: empty or missing"),
        (Task.MATCH, {"image": IMAGE, "texts": []}, "texts=[]"),
        (Task.MATCH, {"image": IMAGE, "texts": ["a", " "]}, "texts: a text is empty"),
        (Task.MATCH, {"image": IMAGE, "texts": ["a"] * 257}, "texts="),
        (Task.MATCH, {"texts": ["a"]}, "image: missing"),
        (Task.EMBED, {}, "image: missing"),
        (Task.EMBED, {"image": IMAGE, "text": "a"}, "not both"),
        (Task.EMBED, {"text": " "}, "text: empty"),
        (Task.CAPTION, {"image": IMAGE, "text": "a"}, "does not accept it; use embed"),
        (Task.CAPTION, {"image": IMAGE, "prompts": ["a"]}, "does not accept it; use describe"),
        (Task.DESCRIBE, {"image": IMAGE, "prompt": "a"}, "does not accept it; use caption"),
        (Task.DESCRIBE, {"image": IMAGE, "prompts": []}, "prompts=[]"),
        (Task.DESCRIBE, {"image": IMAGE, "prompts": ["a"] * 17}, "prompts="),
        (Task.DESCRIBE, {"image": IMAGE, "prompts": "a"}, "prompts='a'"),
        (Task.DESCRIBE, {"image": IMAGE, "detail": "huge"}, "detail='huge'"),
        (Task.DESCRIBE, {"detail": "low"}, "image: missing"),
        (Task.CAPFILT, {"image": IMAGE}, "texts: empty or missing"),
        (Task.CAPFILT, {"image": IMAGE, "texts": ["a", " "]}, "texts: a text is empty"),
        (Task.CAPFILT, {"texts": ["a"]}, "image: missing"),
        (Task.CAPFILT, {"image": IMAGE, "texts": ["a"], "captions": 17}, "captions=17"),
        (Task.CAPFILT, {"image": IMAGE, "texts": ["a"], "captions": -1}, "captions=-1"),
        (Task.CAPFILT, {"image": IMAGE, "texts": ["a"], "captions": "2"}, "captions='2'"),
        (Task.CAPFILT, {"image": IMAGE, "texts": ["a"], "threshold": 1.1}, "threshold=1.1"),
        (Task.CAPFILT, {"image": IMAGE, "texts": ["a"], "threshold": float("nan")}, "threshold"),
        (Task.MATCH, {"image": IMAGE, "texts": ["a"], "captions": 1}, "use capfilt"),
        (Task.CAPTION, {}, "image: missing"),
        (Task.CAPTION, {"image": 5}, "image=5"),
        (Task.CAPTION, {"image": IMAGE, "colour": "red"}, "colour: no such name"),
        (Task.CAPTION, {"image": IMAGE, "task": "segment"}, "choose one of caption, vqa, chat"),
        (Task.CAPTION, "an image", "item="),
    ],
)
def test_the_error_of_an_invalid_item_names_the_field(task: Task, item: Any, message: str) -> None:
    error = error_of(task, item)
    assert error["code"] == "option_invalid"
    assert message in error["message"]


def test_a_text_far_beyond_any_model_never_reaches_the_engine() -> None:
    error = error_of(Task.VQA, {"image": IMAGE, "question": "why " * 10_000})
    assert error["code"] == "prompt_too_long"
    assert "39,999 characters" in error["message"]


def test_an_error_that_the_producer_set_is_returned() -> None:
    error = {"code": "image_unreachable", "message": "no such file"}
    assert error_of(Task.CAPTION, {"error": error}) == error


def test_of_a_long_dialogue_the_newest_turns_are_read() -> None:
    turns = [{"question": f"{number} " * 1000, "answer": "yes"} for number in range(50)]
    item = check_item(Task.CHAT, {"image": IMAGE, "question": "q", "history": turns})
    assert 0 < sum(len(question) + len(answer) for question, answer in item.history) <= 20_000
    assert item.history[-1][0].startswith("49 ")


def test_texts_that_are_too_long_together_never_reach_the_engine() -> None:
    error = error_of(Task.MATCH, {"image": IMAGE, "texts": ["t" * 19_000] * 20})
    assert error["code"] == "prompt_too_long"
    assert "380,000 characters" in error["message"]


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t", "\u00a0", "  \n "])
def test_whitespace_around_a_text_does_not_count(space: str) -> None:
    def checked(around: str) -> list[Any]:
        def text(words: str) -> str:
            return f"{around}{words}{around}"

        turn = {"question": text("one?"), "answer": text("two")}
        items: list[tuple[Task, dict[str, Any]]] = [
            (Task.CAPTION, {"prompt": text("a photo of")}),
            (Task.VQA, {"question": text("how many?")}),
            (Task.CHAT, {"question": text("how many?"), "history": [turn]}),
        ]
        results = [check_item(task, {"image": IMAGE, **fields}) for task, fields in items]
        embed = check_item(Task.EMBED, {"text": text("a cat")})
        return [(item.text, item.history) for item in [*results, embed]]

    assert checked(space) == checked("")
