"""What a client gets when a request fails."""

import json

import pytest
from pydantic import ValidationError

from pipelines.serve.app import ClassifyRequest
from pipelines.serve.errors import ApiError, from_validation


def body_of(error: ApiError) -> dict:
    return json.loads(error.response().body)["error"]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "invalid_json"),
        (413, "invalid_request_error", "body_too_large"),
        (418, "invalid_request_error", "i'm_a_teapot"),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (503, "server_error", "unavailable"),
    ],
)
def test_the_body_has_openai_shape(status, kind, code):
    error = body_of(ApiError(status, "why", param="input"))
    assert error == {"message": "why", "type": kind, "param": "input", "code": code}


def test_retry_after_is_whole_seconds_rounded_up():
    assert ApiError(429, "", retry_after_s=1.2).response().headers["retry-after"] == "2"
    assert ApiError(429, "", retry_after_s=0.0).response().headers["retry-after"] == "1"
    assert "retry-after" not in ApiError(500, "").response().headers


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        ("SECRET", 400, None, "invalid_json"),
        ('{"input": "a\\ud800"}', 400, None, "invalid_json"),
        ("[" * 100_000, 400, None, "invalid_json"),
        ('["SECRET"]', 422, None, "invalid_value"),
        ('{"input": "a", "SECRET": 1}', 422, None, "unknown_field"),
        ('{"model": "SECRET"}', 422, "input", "invalid_value"),
        ('{"input": {"SECRET": 1}}', 422, "input", "invalid_value"),
        ('{"input": ["a", 7]}', 422, "input", "invalid_value"),
        ('{"input": "a", "model": 7}', 422, "model", "invalid_value"),
    ],
)
def test_a_bad_body_is_told_without_repeating_it(body, status, param, code):
    with pytest.raises(ValidationError) as caught:
        ClassifyRequest.model_validate_json(body)
    error = from_validation(caught.value, ["input", "model"])
    assert (error.status, error.param, error.code) == (status, param, code)
    assert "SECRET" not in error.message
