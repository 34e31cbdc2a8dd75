"""Settings of an endpoint: `rayline serve` and `serve/stage.py` read them."""

from pydantic import Field, model_validator

from pipelines.core.config import Config


class ServeConfig(Config):
    """Model | Bundle -> an autoscaled HTTP endpoint."""

    host: str = Field(
        default="127.0.0.1",
        description="address bound; any but loopback is open to all who reach it: no key is asked",
    )
    port: int = Field(default=8000, ge=1, le=65535, description="port bound")
    min_replicas: int = Field(default=1, ge=1, description="replicas when idle")
    max_replicas: int = Field(default=2, ge=1, description="replicas under load")
    replica_cpus: float = Field(
        default=1.0, gt=0, description="CPUs reserved for a replica; the model runs on one thread"
    )
    target_ongoing: float = Field(default=2.0, gt=0, description="requests a replica aimed at")
    max_ongoing: int = Field(default=8, ge=1, description="requests a replica runs at once")
    max_queued: int = Field(default=32, ge=0, description="requests waiting; more get 429")
    max_body_kb: int = Field(default=1024, ge=1, description="request bytes; more get 413")
    max_texts: int = Field(default=64, ge=1, description="texts a request; more get 422")
    timeout_s: float = Field(default=30.0, gt=0, description="seconds a request may take")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> "ServeConfig":
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas={self.min_replicas} is above max_replicas={self.max_replicas}"
            )
        return self

    @property
    def max_in_flight(self) -> int:
        """Requests inside at once: all that the replicas may run, and the queue before them."""
        return self.max_replicas * self.max_ongoing + self.max_queued
