"""The HTTP application, without Ray: routes, every error, and OpenAI's own client."""

import asyncio
import json
import logging

import httpx
import openai
import pytest

from pipelines.serve.errors import ApiError

DIGEST = "d" * 64
CLASSIFY = "/v1/classify"


def client(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def ask(app, method, path, **options):
    async def once():
        async with client(app) as http:
            return await http.request(method, path, **options)

    return asyncio.run(once())


def error_of(response):
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-model-digest"] == DIGEST
    assert response.headers["x-request-id"]
    body = response.json()
    assert list(body) == ["error"]
    assert sorted(body["error"]) == ["code", "message", "param", "type"]
    return response.status_code, body["error"]["code"], body["error"]["param"]


def test_one_text_is_classified(serving):
    response = ask(serving(), "POST", CLASSIFY, json={"input": "a longer text"})
    assert response.status_code == 200
    assert response.json() == {
        "id": f"classify-{response.headers['x-request-id']}",
        "object": "list",
        "model": "demo-abc",
        "data": [{"index": 0, "label": "yes", "score": 0.9, "scores": {"no": 0.1, "yes": 0.9}}],
    }


def test_several_texts_keep_their_order(serving):
    body = {"model": "demo-abc", "input": ["short", "a longer text", "tiny"]}
    data = ask(serving(), "POST", CLASSIFY, json=body).json()["data"]
    assert [(one["index"], one["label"]) for one in data] == [(0, "no"), (1, "yes"), (2, "no")]


def test_models_lists_the_model_with_its_digest(serving):
    listed = ask(serving(), "GET", "/v1/models").json()
    assert listed["object"] == "list"
    assert listed["data"] == [
        {
            "id": "demo-abc",
            "object": "model",
            "created": 1_700_000_000,
            "owned_by": "rayline",
            "digest": DIGEST,
            "labels": ["no", "yes"],
        }
    ]


@pytest.mark.parametrize("path", ["/health", "/healthz"])
def test_health_is_answered(serving, path):
    response = ask(serving(), "GET", path)
    assert (response.status_code, response.json()["status"]) == (200, "ok")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "invalid_json", None),
        (b'{"input": ', 400, "invalid_json", None),
        (b'{"input": "\xff"}', 400, "invalid_json", None),
        (b"[" * 10_000, 400, "invalid_json", None),
        (b"\x1f\x8b\x08 gzip", 400, "invalid_json", None),
        (b"7", 422, "invalid_value", None),
        (b"{}", 422, "invalid_value", "input"),
        (b'{"input": 7}', 422, "invalid_value", "input"),
        (b'{"input": ["a", null]}', 422, "invalid_value", "input"),
        (b'{"input": ""}', 422, "invalid_value", "input"),
        (b'{"input": ["a", " \\n"]}', 422, "invalid_value", "input"),
        (b'{"input": []}', 422, "invalid_value", "input"),
        (b'{"input": ["a", "b", "c"]}', 422, "invalid_value", "input"),
        (b'{"input": "a", "temperature": 0}', 422, "unknown_field", None),
        (b'{"input": "a", "model": "gpt"}', 404, "model_not_found", "model"),
    ],
)
def test_a_bad_body_is_refused(serving, body, status, code, param):
    response = ask(serving(max_texts=2), "POST", CLASSIFY, content=body)
    assert error_of(response) == (status, code, param)


def test_an_unknown_path_is_404(serving):
    response = ask(serving(), "GET", "/v1/secret-path")
    assert error_of(response) == (404, "not_found", None)
    assert "secret" not in response.text


def test_a_wrong_method_is_405_and_names_the_right_one(serving):
    response = ask(serving(), "GET", CLASSIFY)
    assert error_of(response) == (405, "method_not_allowed", None)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_413_whether_or_not_it_says_its_length(serving, declared):
    async def chunks():
        for _ in range(3):
            yield b"x" * 1024

    content = b"x" * 3072 if declared else chunks()
    response = ask(serving(max_body_kb=2), "POST", CLASSIFY, content=content)
    assert error_of(response) == (413, "body_too_large", None)


def test_a_body_at_the_limit_is_read(serving):
    frame = b'{"input": "%s"}'
    body = frame % (b"x" * (1024 - len(frame) + 2))
    assert len(body) == 1024
    assert ask(serving(max_body_kb=1), "POST", CLASSIFY, content=body).status_code == 200


def test_an_endless_body_is_cut_off(serving):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1024
            yield b"x" * 1024

    received = 0

    async def send(message):
        nonlocal received
        received = message.get("status", received)

    async def run():
        source = endless()

        async def receive():
            return {"type": "http.request", "body": await anext(source), "more_body": True}

        scope = {"type": "http", "method": "POST", "path": CLASSIFY, "headers": []}
        scope |= {"query_string": b"", "root_path": "", "app": None}
        await serving(max_body_kb=1)(scope, receive, send)

    asyncio.run(run())
    assert received == 413
    assert sent == 65 * 1024  # 64 limits' worth and the chunk after


def test_a_body_that_never_ends_in_time_is_408(serving):
    async def stalled():
        yield b'{"input": '
        await asyncio.sleep(60)

    response = ask(serving(timeout_s=0.05), "POST", CLASSIFY, content=stalled())
    assert error_of(response) == (408, "request_timeout", None)


def test_a_slow_model_is_504(serving, predict):
    predict.gate.clear()
    response = ask(serving(timeout_s=0.05), "POST", CLASSIFY, json={"input": "a"})
    assert error_of(response) == (504, "timeout", None)


def test_requests_over_the_limit_get_429_at_once_and_the_others_their_answer(serving, predict):
    async def run():
        predict.gate.clear()
        app = serving(max_replicas=2, max_ongoing=2, max_queued=3)  # 7 in flight
        async with client(app) as http:
            asked = [
                asyncio.create_task(http.post(CLASSIFY, json={"input": "a"})) for _ in range(20)
            ]
            while sum(one.done() for one in asked) < 13:
                await asyncio.sleep(0.01)
            assert predict.waiting == 7
            predict.gate.set()
            return await asyncio.gather(*asked)

    responses = asyncio.run(run())
    assert sorted(one.status_code for one in responses) == [200] * 7 + [429] * 13
    for one in responses:
        if one.status_code == 429:
            assert error_of(one) == (429, "rate_limit_exceeded", None)
            assert int(one.headers["retry-after"]) >= 1


def test_an_error_of_the_gateway_is_the_answer(serving):
    async def unavailable(texts):
        raise ApiError(503, "no replica", retry_after_s=1)

    response = ask(serving(unavailable), "POST", CLASSIFY, json={"input": "a"})
    assert error_of(response) == (503, "unavailable", None)
    assert response.headers["retry-after"] == "1"


def test_a_crash_is_500_and_neither_answer_nor_log_holds_the_text(serving, caplog):
    async def crash(texts):
        raise ValueError(f"cannot encode {texts[0]}")

    with caplog.at_level(logging.INFO):
        response = ask(
            serving(crash),
            "POST",
            CLASSIFY,
            json={"input": "SECRET"},
            headers={"x-request-id": "mine"},
        )
    assert error_of(response) == (500, "internal_error", None)
    assert "mine" in response.text
    assert "SECRET" not in response.text + caplog.text
    assert "mine failed: ValueError at" in caplog.text


def test_a_request_is_logged_by_id_route_and_status(serving, caplog):
    with caplog.at_level(logging.INFO, "pipelines.serve.app"):
        ask(serving(), "POST", CLASSIFY, json={"input": "SECRET"}, headers={"x-request-id": "r1"})
    assert caplog.messages[0].startswith("r1 POST /v1/classify 200 ")
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(("given", "echoed"), [("abc-1.2:3", True), ("a b", False), ("", False)])
def test_a_plain_request_id_is_echoed_and_any_other_replaced(serving, given, echoed):
    response = ask(serving(), "GET", "/healthz", headers={"x-request-id": given})
    assert (response.headers["x-request-id"] == given) is echoed
    assert len(response.headers["x-request-id"]) == (len(given) if echoed else 32)


def test_the_schema_tells_the_body(serving):
    schema = ask(serving(), "GET", "/openapi.json").json()
    body = schema["paths"][CLASSIFY]["post"]["requestBody"]["content"]["application/json"]
    assert sorted(body["schema"]["properties"]) == ["input", "model"]


def test_openai_client_can_use_it(served):
    with openai.OpenAI(base_url=f"{served}/v1", api_key="none", max_retries=0) as api:
        assert [model.id for model in api.models.list()] == ["demo-abc"]
        answer = api.post("/classify", body={"input": ["a longer text"]}, cast_to=httpx.Response)
        assert answer.json()["data"][0]["label"] == "yes"
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            api.post("/classify", body={"input": ""}, cast_to=httpx.Response)
        assert (caught.value.param, caught.value.code) == ("input", "invalid_value")
        assert caught.value.request_id


def test_a_client_reads_413_after_a_body_of_10_mb(served):
    body = json.dumps({"input": "x" * 10_000_000})
    response = httpx.post(f"{served}/v1/classify", content=body, timeout=30)
    assert error_of(response) == (413, "body_too_large", None)
