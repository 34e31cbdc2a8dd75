"""Failures of a request -> the JSON and headers a client gets, in OpenAI's shape.

    {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}

No message repeats what the client sent: neither the log nor the answer may hold a user's text.
"""

import math
from http import HTTPStatus

from fastapi.responses import JSONResponse
from pydantic import ValidationError

CODES = {
    400: "invalid_json",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    422: "invalid_value",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "unavailable",
    504: "timeout",
}
"""Default `code` of each status."""


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: the HTTP status.
        message: what was wrong, what was expected, what to do.
        param: the request's field at fault.
        code: a stable word for programs; by default that of the status.
        retry_after_s: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code or CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))
        self.retry_after_s = retry_after_s

    def response(self) -> JSONResponse:
        """The answer a client gets."""
        error = {
            "message": self.message,
            "type": _kind(self.status),
            "param": self.param,
            "code": self.code,
        }
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        return JSONResponse({"error": error}, self.status, headers)


def from_validation(error: ValidationError, fields: list[str]) -> ApiError:
    """The answer to a body that is not the JSON asked for.

    Args:
        error: what pydantic found; only its first problem is told.
        fields: names a body may have.
    """
    problem = error.errors(include_input=False, include_url=False)[0]
    if problem["type"] == "json_invalid":
        return ApiError(400, 'the body is not valid JSON in UTF-8; send {"input": "some text"}')
    if problem["type"] == "extra_forbidden":
        known = ", ".join(fields)
        return ApiError(422, f"the body has an unknown field; known: {known}", code="unknown_field")
    if not problem["loc"]:
        return ApiError(422, 'the body is not a JSON object; send {"input": "some text"}')
    param = str(problem["loc"][0])
    return ApiError(422, f"{param}: {problem['msg']}", param=param)


def _kind(status: int) -> str:
    """OpenAI's `type` of an error."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
