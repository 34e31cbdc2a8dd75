"""The gateway's way to a replica: one retry, then 503, and no work for a client that has left."""

import asyncio

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import DeploymentUnavailableError

from pipelines.serve.config import ServeConfig
from pipelines.serve.errors import ApiError
from pipelines.serve.stage import Gateway

ANSWER = [{"label": "yes", "score": 1.0, "scores": {"yes": 1.0}}]


class Response:
    """A pending answer, as a deployment handle gives it."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.cancelled = False

    def __await__(self):
        return self._answer().__await__()

    async def _answer(self):
        if self.outcome is None:
            await asyncio.sleep(60)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def cancel(self):
        self.cancelled = True


class Handle:
    """A deployment handle whose calls end as told, in turn."""

    def __init__(self, *outcomes):
        self.responses = [Response(outcome) for outcome in outcomes]
        self.sent = 0

    @property
    def predict(self):
        return self

    def remote(self, texts):
        self.sent += 1
        return self.responses[self.sent - 1]


def predict(handle, timeout_s=5.0):
    gateway = Gateway(handle, None, ServeConfig())
    return asyncio.run(asyncio.wait_for(gateway.predict(["a"]), timeout_s))


def test_a_request_lost_with_its_replica_is_sent_once_more():
    handle = Handle(ActorDiedError(), ANSWER)
    assert predict(handle) == ANSWER
    assert handle.sent == 2


def test_a_request_lost_twice_is_503():
    handle = Handle(ActorDiedError(), ActorDiedError(), ANSWER)
    with pytest.raises(ApiError) as refused:
        predict(handle)
    assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
    assert handle.sent == 2


def test_without_a_deployment_there_is_no_retry():
    handle = Handle(DeploymentUnavailableError("model"), ANSWER)
    with pytest.raises(ApiError) as refused:
        predict(handle)
    assert refused.value.status == 503
    assert handle.sent == 1


def test_an_error_of_the_model_is_not_retried():
    handle = Handle(ValueError("broken"), ANSWER)
    with pytest.raises(ValueError, match="broken"):
        predict(handle)
    assert handle.sent == 1


def test_a_request_that_is_too_late_is_cancelled_on_its_replica():
    handle = Handle(None)
    with pytest.raises(TimeoutError):
        predict(handle, timeout_s=0.05)
    assert handle.responses[0].cancelled
