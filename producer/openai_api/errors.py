"""Errors in OpenAI's form: those of the routes, and problems of the gateway, converted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from ..errors import InvalidInput
from ..gateway.http.error_format import ErrorResponse
from ..gateway.http.problems import Problem, as_problem
from ..gateway.jobs.awaited_jobs import rename_fields

#: Beginning of the paths of this API.
PREFIX: Final = "/openai/"
#: Type of an error by its status; others are `invalid_request_error` or `server_error`.
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
#: Codes that programs know by OpenAI's names.
_CODES: Final[Mapping[str, str]] = {
    "unauthorized": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "quota_exceeded": "insufficient_quota",
    "daily_quota_exceeded": "insufficient_quota",
    "not_found": "unknown_url",
}


class OpenAIError(Exception):
    """An error response of a route; `code` is a code of the gateway or of OpenAI."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid_value",
        param: str | None = None,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.status = status
        self.headers = dict(headers or {})

    @classmethod
    def of_problem(cls, problem: Problem, param: str | None = None) -> OpenAIError:
        """Return the error of a problem that a parameter has caused."""
        return cls(
            str(problem.detail),
            code=problem.code,
            param=param,
            status=_status(problem.status_code),
            headers=problem.headers,
        )


@contextmanager
def errors_of(params: Mapping[str, str], default: str) -> Iterator[None]:
    """Raise the errors of a job's fields as those of the parameters that they come from."""
    try:
        yield
    except RequestValidationError as error:
        raise _validation_error(error, params, default) from None
    except InvalidInput as error:
        raise OpenAIError.of_problem(as_problem(error), default) from None


async def error_response(_: Request, error: Exception) -> Response:
    """Return the response of an OpenAIError; for `add_exception_handler`."""
    assert isinstance(error, OpenAIError)
    body = error_body(str(error), error.status, error.code, error.param)
    return Response(json.dumps(body), error.status, error.headers, "application/json")


def error_body(message: str, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """Return the body of an error."""
    default = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": message,
            "type": _TYPES.get(status, default),
            "param": param,
            "code": _CODES.get(code, code),
        }
    }


def convert_error(status: int, code: str, detail: str) -> ErrorResponse:
    """Return the error for a problem, for ErrorFormatMiddleware."""
    status = _status(status)
    return ErrorResponse(status, error_body(detail, status, code))


def _status(status: int) -> int:
    """Return the status that OpenAI uses: 400 for an invalid value."""
    return 400 if status == 422 else status


def _validation_error(
    error: RequestValidationError, params: Mapping[str, str], default: str
) -> OpenAIError:
    """Return the error of invalid fields; options are parameters themselves."""
    renamed = rename_fields(error, params)
    first = [str(name) for name in renamed.errors()[0]["loc"][1:2]]
    problem = as_problem(renamed)
    return OpenAIError.of_problem(problem, first[0] if first else default)
