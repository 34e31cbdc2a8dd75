"""Settings of an endpoint."""

import pytest

from pipelines.core.config import parse
from pipelines.core.errors import ConfigError
from pipelines.serve.config import ServeConfig


def test_what_is_in_flight_is_what_all_replicas_run_and_the_queue():
    config = ServeConfig(max_replicas=3, max_ongoing=8, max_queued=10)
    assert config.max_in_flight == 34


def test_fewer_replicas_at_most_than_at_least_is_refused():
    with pytest.raises(ConfigError, match="min_replicas=3 is above max_replicas=2"):
        parse(ServeConfig, {"min_replicas": 3}, "command line")


def test_the_default_address_is_loopback():
    assert ServeConfig().host == "127.0.0.1"
