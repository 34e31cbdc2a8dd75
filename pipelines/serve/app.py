"""The HTTP face of a model: an async `predict` in, an ASGI application out; no Ray in it.

    POST /v1/classify   {"input": "text" or ["text", ...], "model": optional id}
    GET  /v1/models     OpenAI's list, with the artifact's digest and labels
    GET  /healthz       (and /health)

Every failure is OpenAI-shaped JSON (`errors.py`). Every answer carries `x-request-id` (the
client's own, if it sent a plain one) and `x-model-digest`. No text of a user is logged.
"""

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.core.config import Json
from pipelines.serve.admission import Admission
from pipelines.serve.config import ServeConfig
from pipelines.serve.errors import ApiError, from_validation

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
DRAINED = 64  # limits' worth of a too large body that is read and dropped, so that 413 is seen

Predict = Callable[[list[str]], Awaitable[list[Json]]]
"""Texts -> `label`, `score` and `scores` (by label) of each, in their order."""


@dataclass(frozen=True)
class ModelCard:
    """What the endpoint tells of its model; `created` is in Unix seconds."""

    id: str
    digest: str
    labels: tuple[str, ...]
    created: int


Texts = Annotated[
    list[str],
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value,
        json_schema_input_type=str | list[str],
    ),
]


class ClassifyRequest(BaseModel):
    """Body of `POST /v1/classify`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: Texts = Field(description="one text, or several")
    model: str | None = Field(default=None, description="the model's id; may be left out")


class Classified(BaseModel):
    """The class of one text."""

    index: int
    label: str
    score: float
    scores: dict[str, float]


class ClassifyResponse(BaseModel):
    """Answer of `POST /v1/classify`: one item a text, in the order of the input."""

    id: str
    object: str = "list"
    model: str
    data: list[Classified]


def build_app(
    predict: Predict, card: ModelCard, config: ServeConfig, *, send_id: bool = True
) -> FastAPI:
    """The application that answers with `predict`.

    Args:
        predict: the model; an `ApiError` it raises is the answer.
        card: names the model.
        config: the limits.
        send_id: put `x-request-id` in every answer; False behind Ray's proxy, which does it too.
    """
    app = FastAPI(title=f"Rayline: {card.id}", docs_url=None, redoc_url=None)
    admission = Admission(config.max_in_flight)

    @app.post("/v1/classify", openapi_extra=_BODY)
    async def classify(request: Request) -> ClassifyResponse:
        asked = _parse(await _body(request, config), card, config)
        with admission.admitted():
            predictions = await _in_time(predict(asked.input), config.timeout_s)
        data = [Classified(index=index, **one) for index, one in enumerate(predictions)]
        return ClassifyResponse(id=f"classify-{request.state.id}", model=card.id, data=data)

    @app.get("/v1/models")
    async def models() -> Json:
        return {"object": "list", "data": [_listed(card)]}

    @app.get("/health")
    @app.get("/healthz")
    async def health() -> Json:
        return {"status": "ok", "model": card.id, "digest": card.digest}

    app.add_exception_handler(ApiError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_middleware(Envelope, digest=card.digest, send_id=send_id)
    return app


class Envelope:
    """Around every request: its id and the model's digest in the answer, one log line, no crash."""

    def __init__(self, app: ASGIApp, digest: str, *, send_id: bool) -> None:
        self.app = app
        self.digest = digest
        self.send_id = send_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["id"] = request_id

        async def labelled(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if self.send_id:
                    headers["x-request-id"] = request_id
                headers["x-model-digest"] = self.digest
            await send(message)

        try:
            await self.app(scope, receive, labelled)
        except ClientDisconnect:
            status = 499
        except Exception as error:  # noqa: BLE001 (the last resort: a client gets JSON even then)
            log.error("%s failed: %s", request_id, _place(error))
            if not status:
                wrong = ApiError(500, f"the server failed; tell its operator {request_id}")
                await wrong.response()(scope, receive, labelled)
        route = getattr(scope.get("route"), "path", "-")  # a path may hold a user's text
        elapsed_ms = 1e3 * (time.perf_counter() - started)
        log.info("%s %s %s %d %.1f ms", request_id, scope["method"], route, status, elapsed_ms)


async def _body(request: Request, config: ServeConfig) -> bytes:
    """The request's body, of which never more than the limit is held.

    Raises:
        ApiError: 413, it is longer; 408, it does not arrive in time.
    """
    limit = 1024 * config.max_body_kb
    size, body = 0, bytearray()
    try:
        async with asyncio.timeout(config.timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit:
                    body += chunk
                elif size > DRAINED * limit:
                    break
    except TimeoutError:
        raise ApiError(
            408, f"the body did not arrive within {config.timeout_s:g} s; send it faster"
        ) from None
    if size > limit:
        raise ApiError(
            413, f"the body is over {config.max_body_kb} KiB; send fewer or shorter texts"
        )
    return bytes(body)


def _parse(body: bytes, card: ModelCard, config: ServeConfig) -> ClassifyRequest:
    """The request in `body`.

    Raises:
        ApiError: 400, not JSON; 404, another model; 422, not what is asked for.
    """
    try:
        asked = ClassifyRequest.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error, list(ClassifyRequest.model_fields)) from None
    if asked.model not in (None, card.id):
        raise ApiError(
            404,
            f"model: another one is served here; leave it out or send {card.id!r}",
            param="model",
            code="model_not_found",
        )
    if not 1 <= len(asked.input) <= config.max_texts:
        raise ApiError(
            422,
            f"input: {len(asked.input)} texts, expected 1 to {config.max_texts} a request",
            param="input",
        )
    for index, text in enumerate(asked.input):
        if not text.strip():
            raise ApiError(422, f"input[{index}]: the text is empty", param="input")
    return asked


async def _in_time(answer: Awaitable[list[Json]], timeout_s: float) -> list[Json]:
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError:
        raise ApiError(
            504,
            f"no answer within {timeout_s:g} s; send fewer texts, or again later",
            retry_after_s=1,
        ) from None


async def _answer(_request: Request, error: Exception) -> Response:
    """The JSON of an error raised in a route, or by the router for a path or method unknown."""
    if isinstance(error, ApiError):
        return error.response()
    assert isinstance(error, HTTPException)
    routes = "POST /v1/classify, GET /v1/models, GET /healthz"
    response = ApiError(error.status_code, f"{error.detail}; here are {routes}").response()
    response.headers.update(error.headers or {})
    return response


def _listed(card: ModelCard) -> Json:
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "rayline",
        "digest": card.digest,
        "labels": card.labels,
    }


def _place(error: Exception) -> str:
    """The kind of an error and the line it came from; its message may quote a user's text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {frame.filename}:{frame.lineno}"


_BODY: Json = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ClassifyRequest.model_json_schema()}},
    }
}
