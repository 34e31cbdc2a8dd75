"""A real endpoint on Ray Serve: answers, overload, a killed replica, scaling."""

import asyncio
import json
import os
import re
import signal
import socket
import threading
import time

import httpx
import openai
import psutil
import pytest
from ray import serve

from pipelines.core.errors import ArtifactError, ConfigError, ServeError
from pipelines.engines.predictor import load
from pipelines.serve import stage
from pipelines.serve.config import ServeConfig
from tests.ports import free_port

pytestmark = pytest.mark.ray


CONFIG = ServeConfig(port=free_port(), max_ongoing=2, max_queued=4, target_ongoing=1)


@pytest.fixture(scope="module")
def url(ray_local, tiny_classifier):
    yield stage.run(tiny_classifier, CONFIG)
    stage.shutdown()


@pytest.fixture(scope="module")
def http(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def interrupted(*_args, **_options):
    raise KeyboardInterrupt


def test_a_start_that_is_interrupted_leaves_no_serve_behind(
    ray_local, tiny_classifier, monkeypatch
):
    monkeypatch.setattr(serve, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.run(tiny_classifier, CONFIG)
    assert not serve.status().proxies


def pretrained(make_artifact):
    facts = {"task": {"kind": "masked-lm"}, "max_length": 32}
    return make_artifact(
        "Model", "train", {"rayline.json": json.dumps(facts).encode(), "config.json": b"{}"}
    )


def test_a_model_that_is_no_classifier_is_refused_before_serve_starts(ray_local, make_artifact):
    with pytest.raises(ArtifactError, match=r"is no classifier, .* fine-tune it first"):
        stage.run(pretrained(make_artifact), CONFIG)
    assert not serve.status().proxies


def replica(artifact, check_s):
    """A replica outside of Ray, whose model is busy until the event is set."""
    made, free = stage.Replica(artifact.uri, artifact.digest, check_s), threading.Event()
    made._thread.submit(free.wait)
    return made, free


def test_a_busy_model_that_has_just_answered_is_healthy(tiny_classifier):
    made, free = replica(tiny_classifier, check_s=60)
    asyncio.run(asyncio.wait_for(made.check_health(), 1))
    free.set()


def test_a_model_that_has_not_answered_for_long_is_asked(tiny_classifier):
    async def check():
        task = asyncio.create_task(made.check_health())
        await asyncio.sleep(0.1)
        waited = not task.done()
        free.set()
        await task
        return waited

    made, free = replica(tiny_classifier, check_s=0.0)
    assert asyncio.run(check())


def replicas():
    """Running copies of the model."""
    deployments = serve.status().applications[stage.APP].deployments
    return deployments["model"].replica_states.get("RUNNING", 0)


def test_it_answers_as_the_predictor_does(http, tiny_classifier):
    texts = ["abc", "0123 abc", "a longer text, with [SEP] and \u4e2d\u6587"]
    response = http.post("/v1/classify", json={"input": texts})
    assert response.status_code == 200
    data = response.json()["data"]
    expected = load(tiny_classifier.local()).predict(texts)
    assert [one["label"] for one in data] == [one.label for one in expected]
    assert [one["score"] for one in data] == pytest.approx([one.score for one in expected])
    assert response.headers["x-model-digest"] == tiny_classifier.digest


def test_openai_client_lists_the_model_and_health_is_answered(http, url, tiny_classifier):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as api:
        (model,) = api.models.list()
    assert model.id == f"tiny-{tiny_classifier.digest[:8]}"
    assert http.get("/v1/models").json()["data"][0]["labels"] == ["no", "yes"]
    assert http.get("/healthz").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"input": ""}', 422), (b"{", 400), (b'{"input": "%s"}' % (b"x" * 10_000_000), 413)],
)
def test_a_bad_request_gets_json_through_the_proxy(http, body, status):
    response = http.post("/v1/classify", content=body)
    assert response.status_code == status
    assert sorted(response.json()["error"]) == ["code", "message", "param", "type"]


def test_a_request_id_is_echoed_once(http):
    response = http.get("/v1/models", headers={"x-request-id": "mine-1"})
    assert response.headers.get_list("x-request-id") == ["mine-1"]


def test_100_at_once_each_get_200_or_429_in_json(url):
    async def run():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            body = {"input": ["0123456789 " * 20] * 60}
            posts = [client.post("/v1/classify", json=body) for _ in range(100)]
            return await asyncio.gather(*posts)

    responses = asyncio.run(run())
    counted = dict.fromkeys((200, 429), 0)
    for response in responses:
        counted[response.status_code] += 1  # any other status is a KeyError
        if response.status_code == 429:
            assert response.json()["error"]["code"] == "rate_limit_exceeded"
            assert 1 <= int(response.headers["retry-after"]) <= 60
        else:
            assert len(response.json()["data"]) == 60
    assert counted[200] >= CONFIG.max_in_flight
    assert counted[429] > 0


def test_load_adds_a_replica(url):
    async def run():
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            deadline = time.monotonic() + 90

            async def ask():
                while replicas_seen < 2 and time.monotonic() < deadline:
                    await client.post("/v1/classify", json={"input": ["0123456789 " * 20] * 60})

            replicas_seen = replicas()
            asking = [asyncio.create_task(ask()) for _ in range(4)]
            while replicas_seen < 2 and time.monotonic() < deadline:
                await asyncio.sleep(0.5)
                replicas_seen = await asyncio.to_thread(replicas)
            await asyncio.gather(*asking)
            return replicas_seen

    assert asyncio.run(run()) == 2


def pids():
    """Process ids of the model's replicas on the Ray that this process started."""
    processes = psutil.Process().children(recursive=True)
    return [one.pid for one in processes if "ServeReplica:rayline:model" in one.cmdline()[0]]


def test_no_request_is_lost_when_a_replica_is_killed_under_load(url):
    async def run():
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            body = {"input": ["0123456789 " * 20] * 60}
            posts = [client.post("/v1/classify", json=body) for _ in range(CONFIG.max_in_flight)]
            asked = [asyncio.create_task(post) for post in posts]
            while not any(one.done() for one in asked):
                await asyncio.sleep(0.001)
            os.kill(pids()[0], signal.SIGKILL)
            open_then = sum(not one.done() for one in asked)
            return open_then, await asyncio.gather(*asked)

    open_then, responses = asyncio.run(run())
    assert open_then > 0, "the kill came too late to show anything"
    assert {response.status_code for response in responses} == {200}


def test_a_second_endpoint_on_the_same_ray_is_refused(http, tiny_classifier):
    with pytest.raises(ServeError, match="already runs on this cluster"):
        stage.run(tiny_classifier, CONFIG)


def test_a_taken_port_is_refused_before_anything_is_deployed():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=rf"127.0.0.1:{port} .*port={port + 1}"):
            stage.check_port(ServeConfig(port=port))


def test_the_builder_takes_what_serve_yaml_gives(tiny_classifier):
    app = stage.app_builder({"model": tiny_classifier.uri, "max_replicas": 3})
    assert isinstance(app, serve.Application)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "model is required"),
        ({"model": "m", "port": 1}, "port has no effect here; set it in http_options"),
        ({"model": "m", "max_replica": 3}, "max_replica; did you mean max_replicas?"),
    ],
)
def test_the_builder_refuses_wrong_arguments(args, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        stage.app_builder(args)
