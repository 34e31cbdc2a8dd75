"""A Model or Bundle -> an autoscaled HTTP endpoint on Ray Serve.

Two deployments. `Gateway` holds the ASGI application of `app.py`, bounds what is in flight and
turns every failure into JSON: Ray's own proxy answers overload, timeouts and lost replicas in plain
text. `Replica` holds the model on one thread beside its event loop, and is what scales.
"""

import asyncio
import dataclasses
import datetime as dt
import json
import logging
import socket
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from pipelines.core.artifact import Artifact, open_artifact
from pipelines.core.config import Json, parse
from pipelines.core.errors import ArtifactError, ConfigError, RaylineError, ServeError
from pipelines.engines.predictor import load
from pipelines.serve.app import ModelCard, build_app
from pipelines.serve.config import ServeConfig
from pipelines.serve.errors import ApiError

log = logging.getLogger(__name__)

APP = "rayline"
KINDS = ("Model", "Bundle")
UNNAMED = {"0": "LABEL_0", "1": "LABEL_1"}  # transformers' own names, which it leaves out
CANARY = "A short text that shows whether the model still answers."
GATEWAY_ONGOING = 10_000  # the gateway refuses by itself; Ray's proxy must not queue before it
PROXY_GRACE_S = 5.0  # the proxy's plain-text timeout comes after the gateway's JSON one


class Replica:
    """One copy of the model.

    Args:
        uri: the artifact's.
        digest: what it must hold.
        check_s: seconds that a check of the health may take.
    """

    def __init__(self, uri: str, digest: str, check_s: float) -> None:
        artifact = open_artifact(uri, KINDS)
        if artifact.digest != digest:
            raise ArtifactError(
                f"{uri}: holds {artifact.digest[:12]} now, this endpoint was started with "
                f"{digest[:12]}; start the endpoint again to serve the new one"
            )
        self._predictor = load(artifact.local())
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._check_s = check_s
        self._predictor.predict([CANARY])
        self._answered = time.monotonic()

    async def predict(self, texts: list[str]) -> list[Json]:
        """`label`, `score` and `scores` of each text; meanwhile the event loop stays free."""
        loop = asyncio.get_running_loop()
        predictions = await loop.run_in_executor(self._thread, self._predictor.predict, texts)
        self._answered = time.monotonic()
        return [dataclasses.asdict(one) for one in predictions]

    async def check_health(self) -> None:
        """Raise, or never return, when the model does not answer; Ray then replaces the replica.

        A model that has just answered is well: under full load a text of ours would wait behind
        `max_ongoing` requests, longer than a check may take.
        """
        if time.monotonic() - self._answered < self._check_s:
            return
        await self.predict([CANARY])


class Gateway:
    """The HTTP application, and the way from it to a replica."""

    def __init__(self, model: DeploymentHandle, card: ModelCard, config: ServeConfig) -> None:
        self._model = model
        self._card = card
        self._config = config

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application; Ray asks for it once the gateway runs."""
        return build_app(self.predict, self._card, self._config, send_id=False)

    async def predict(self, texts: list[str]) -> list[Json]:
        """What a replica predicts, from another replica if the first one dies.

        Raises:
            ApiError: 503, no replica could answer.
        """
        for _ in range(2):  # predicting changes nothing, so it may run twice
            response = self._model.predict.remote(texts)
            try:
                predictions: list[Json] = await response
            except asyncio.CancelledError:  # too late, or the client left: spare the replica
                response.cancel()
                raise
            except RayActorError as error:
                log.warning("a replica was lost: %s", type(error).__name__)
            except DeploymentUnavailableError:
                break
            else:
                return predictions
        raise ApiError(503, "no replica can answer now; send the request again", retry_after_s=1)


def run(artifact: Artifact, config: ServeConfig) -> str:
    """Deploy on the Ray that runs; returns the endpoint's URL once it answers.

    Raises:
        ServeError: the port is taken, an endpoint runs already, the CPUs do not suffice, or no
            replica came up.
        ArtifactError: the model is no classifier.
    """
    if serve.status().proxies:
        raise ServeError(
            "Ray Serve already runs on this cluster, so its port cannot be chosen; stop it with "
            "`serve shutdown -y`, or add the model to it by `serve deploy` with a serve.yaml"
        )
    check_port(config)
    _check_cpus(config)
    app = application(artifact, config)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the URL is told by the caller
    try:
        serve.start(
            http_options=HTTPOptions(
                host=config.host,
                port=config.port,
                request_timeout_s=config.timeout_s + PROXY_GRACE_S,
            )
        )
        _deploy(app, artifact.uri)
    except BaseException:  # Ctrl-C too: a Serve that is left running refuses the next start
        serve.shutdown()
        raise
    return f"http://{config.host}:{config.port}"


def check_port(config: ServeConfig) -> None:
    """Refuse a port that another program holds; Ray would only say so in a log.

    Raises:
        ServeError: names the port and a free way out.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise ServeError(
                f"{config.host}:{config.port} cannot be bound: {error.strerror}; stop what listens "
                f"there, or choose another port, such as port={config.port + 1}"
            ) from error


def shutdown() -> None:
    """Stop the endpoint and Ray Serve."""
    serve.shutdown()


def app_builder(args: Json) -> serve.Application:
    """The application of a serve.yaml: `args` are `model` (a URI) and settings of ServeConfig.

    Raises:
        ConfigError: the model is not given, a setting is unknown, or it belongs to http_options.
    """
    settings = dict(args)
    uri = settings.pop("model", None)
    if not uri:
        raise ConfigError("serve args: model is required: the path or URI of a Model or Bundle")
    for name in ("host", "port"):
        if name in settings:
            raise ConfigError(f"serve args: {name} has no effect here; set it in http_options")
    config = parse(ServeConfig, settings, "serve args")
    return application(open_artifact(str(uri), KINDS), config)


def application(artifact: Artifact, config: ServeConfig) -> serve.Application:
    """The two deployments for `artifact`, not yet running."""
    # Ray compares with its default push interval; core/cluster.py sets ours, 1 s.
    warnings.filterwarnings("ignore", "`look_back_period_s`", FutureWarning)
    replica = serve.deployment(
        name="model",
        ray_actor_options={"num_cpus": config.replica_cpus},
        max_ongoing_requests=config.max_ongoing,
        autoscaling_config={
            "min_replicas": config.min_replicas,
            "max_replicas": config.max_replicas,
            "target_ongoing_requests": config.target_ongoing,
            # Ray's defaults (30 s and 30 s) take 40 s to add a replica, these 5 s.
            "upscale_delay_s": 1.0,
            "look_back_period_s": 2.0,
            "downscale_delay_s": 60.0,
        },
        health_check_timeout_s=config.timeout_s,
        graceful_shutdown_timeout_s=config.timeout_s,
        max_constructor_retry_count=2,
    )(Replica)
    gateway = serve.deployment(
        name="gateway",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=GATEWAY_ONGOING,
        graceful_shutdown_timeout_s=config.timeout_s,
    )(serve.ingress()(Gateway))
    model = replica.bind(artifact.uri, artifact.digest, config.timeout_s)
    return gateway.bind(model, _card(artifact), config)


def _deploy(app: serve.Application, uri: str) -> None:
    """Start `app`; returns once it answers."""
    try:
        serve.run(app, name=APP, route_prefix="/")
    except RuntimeError as error:
        why = _cause(serve.status().applications[APP].deployments["model"].message)
        raise ServeError(
            f"{uri}: no replica came up: {why}; check the artifact with `rayline show`, or make it "
            "again"
        ) from error


def _card(artifact: Artifact) -> ModelCard:
    manifest = artifact.manifest
    started = dt.datetime.fromisoformat(manifest.started) if manifest.started else None
    return ModelCard(
        id=f"{manifest.name}-{artifact.digest[:8]}",
        digest=artifact.digest,
        labels=_labels(artifact),
        created=int(started.timestamp()) if started else 0,
    )


def _labels(artifact: Artifact) -> tuple[str, ...]:
    if artifact.kind == "Bundle":
        return tuple(json.loads(artifact.read("bundle.json"))["labels"])
    if json.loads(artifact.read("rayline.json"))["task"]["kind"] != "classify":
        raise ArtifactError(
            f"{artifact.uri}: is no classifier, so it cannot be served; fine-tune it first"
        )
    names: dict[str, str] = json.loads(artifact.read("config.json")).get("id2label", UNNAMED)
    return tuple(names[key] for key in sorted(names, key=int))


def _check_cpus(config: ServeConfig) -> None:
    """Refuse what can never start; Ray would wait for more nodes for ever."""
    needed, have = config.min_replicas * config.replica_cpus, ray.cluster_resources().get("CPU", 0)
    if needed > have:
        raise ServeError(
            f"min_replicas={config.min_replicas} of replica_cpus={config.replica_cpus:g} need "
            f"{needed:g} CPUs, the cluster has {have:g}; lower one of them, or add nodes"
        )


def _cause(message: str) -> str:
    """The last line of a replica's trace that says what went wrong, without the module's name."""
    lines = [line.strip() for line in message.splitlines() if "Error: " in line]
    return lines[-1].removeprefix(f"{RaylineError.__module__}.") if lines else message.strip()
