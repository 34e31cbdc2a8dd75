"""A predictor without a model, and the application around it."""

import asyncio
import threading
import time

import pytest
import uvicorn

from pipelines.serve.app import ModelCard, build_app
from pipelines.serve.config import ServeConfig
from tests.ports import free_port

CARD = ModelCard(id="demo-abc", digest="d" * 64, labels=("no", "yes"), created=1_700_000_000)
YES = {"label": "yes", "score": 0.9, "scores": {"no": 0.1, "yes": 0.9}}
NO = {"label": "no", "score": 0.8, "scores": {"no": 0.8, "yes": 0.2}}


class ByLength:
    """Says yes to texts over 5 characters; waits for `gate` when it is closed."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0

    async def __call__(self, texts):
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        return [YES if len(text) > 5 else NO for text in texts]


@pytest.fixture
def predict():
    return ByLength()


@pytest.fixture
def serving(predict):
    """`serving(max_texts=2)` is an application with those settings."""

    def make(answer=predict, **settings):
        return build_app(answer, CARD, ServeConfig(**settings))

    return make


@pytest.fixture
def served(serving):
    """The URL of a real server."""
    port = free_port()
    config = uvicorn.Config(serving(), port=port, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
