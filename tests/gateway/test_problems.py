"""Problem details: statuses of the codes, and no internal details."""

from __future__ import annotations

import json
import logging

import pytest
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError

from producer import contract, errors
from producer.contract import ErrorCode
from producer.errors import (
    BliplineError,
    ConnectionFailed,
    IdTaken,
    InvalidInput,
    JobFailed,
    QueueFull,
)
from producer.gateway.http.problems import (
    CODES,
    EXAMPLES,
    STATUS,
    Problem,
    as_problem,
    problem_response,
)


def kinds(root: type[BliplineError]) -> list[type[BliplineError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_of_the_contract_has_a_status(code: ErrorCode) -> None:
    status, title = STATUS[code]
    assert 400 <= status < 600
    assert title


def test_every_client_error_has_a_status() -> None:
    details = kinds(BliplineError)
    assert {InvalidInput, IdTaken, JobFailed, QueueFull} < set(details)
    ours = [kind for kind in details if kind.__module__ == errors.__name__]
    assert {kind.code for kind in ours} | {IdTaken("").code} <= set(STATUS)


def test_a_bare_status_has_a_code_of_that_status() -> None:
    assert all(STATUS[code][0] == status for status, code in CODES.items())
    assert all(STATUS[code][0] == status for status, code in EXAMPLES.items())


@pytest.mark.parametrize("status", [400, 401, 404, 405, 418, 451, 500, 502, 503])
def test_any_bare_status_becomes_a_problem(status: int) -> None:
    assert problem_response(as_problem(HTTPException(status))).status_code in (status, 400, 500)


def test_a_problem_follows_the_rfc() -> None:
    response = problem_response(Problem("id_taken", "photo-7 is something else"))
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.status_code == 409
    assert json.loads(bytes(response.body)) == {
        "type": "urn:blipline:error:id_taken",
        "title": "The id is in use",
        "status": 409,
        "detail": "photo-7 is something else",
        "code": "id_taken",
        "request_id": "",
    }


def test_a_detail_with_lone_surrogates_is_sent() -> None:
    json.loads(bytes(problem_response(Problem("not_found", "\ud800")).body))


def test_the_address_of_redis_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    problem = as_problem(ConnectionFailed("Redis at redis://:***@10.0.0.7:6379: refused"))
    assert (problem.code, problem.status_code) == ("connection_failed", 503)
    assert "10.0.0.7" not in str(problem)
    assert problem.headers == {"Retry-After": "5"}
    assert "10.0.0.7" in caplog.text


def test_a_full_queue_has_retry_after() -> None:
    error = QueueFull("Redis at redis://10.0.0.7 is full (its `maxmemory`)")
    error.retry_after_s = 12.4
    problem = as_problem(error)
    assert (problem.status_code, problem.headers) == (429, {"Retry-After": "13"})
    assert "10.0.0.7" not in str(problem)


def test_a_client_error_keeps_its_message() -> None:
    problem = as_problem(InvalidInput("top_p=2: too much", contract.ErrorCode.OPTION_INVALID))
    assert (problem.status_code, problem.code, problem.detail) == (
        422,
        "option_invalid",
        "top_p=2: too much",
    )


def test_an_internal_error_is_logged_and_not_disclosed(caplog: pytest.LogCaptureFixture) -> None:
    problem = as_problem(KeyError("hunter2"))
    assert (problem.code, problem.status_code) == ("internal", 500)
    assert "hunter2" not in str(problem)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "hunter2" in caplog.text


def test_a_long_list_of_errors_is_truncated() -> None:
    names = [{"type": "missing", "loc": ("body", f"n{number}")} for number in range(1012)]
    detail = as_problem(RequestValidationError(names)).detail
    assert detail.startswith("n0: is missing; n1: is missing; ")
    assert detail.endswith("n9: is missing; and 1,002 more")
    few = as_problem(RequestValidationError(names[:10])).detail
    assert few.endswith("n9: is missing")


def test_long_names_are_truncated() -> None:
    details = [{"type": "extra_forbidden", "loc": ("body", "x" * 9999)}]
    assert as_problem(RequestValidationError(details)).detail == f"{'x' * 100}: no such name"
