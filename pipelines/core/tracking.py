"""A run's events -> runs, models and datasets in MLflow, linked by digest.

One parent run an invocation, one child run an executed step; a reused step is a tag on the parent,
so cost and curves are counted once. Data goes in as name, place and digest, never as a copy. Models
and Bundles are logged models; a later invocation finds them again by digest, so the lineage spans
invocations. Each Bundle is a version of the registered model `<workflow>-<step>`:

- `@candidate` is the one made last;
- `@champion` is a judged one: a Report moves the alias when there was no champion, or when its
  accuracy is not below the champion's under the same settings on the same data;
- `@previous` is the champion before, to roll back to.

Where: the server in `MLFLOW_TRACKING_URI`, or else `mlflow.db` beside the artifacts. When they lie
on an object store, which no SQLite file can, it is `mlflow.db` in the current folder, where
`mlflow ui` looks of itself. Only the driver writes, in batches: 1 metric a call costs 10 ms (130 ms
through a server), 100 cost 9 ms.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pipelines.core.artifact import Artifact
from pipelines.core.config import Json, StageConfig, identity
from pipelines.core.storage import Store

log = logging.getLogger(__name__)

MODELS = ("Model", "Bundle")
SQLITE = "sqlite:///"
FLUSH_POINTS, FLUSH_S = 50, 2.0
MAX_PARAM, MAX_TAG = 500, 5000  # characters; MLflow itself cuts at 6000 and 8000
DIGEST = 36  # characters MLflow keeps of a dataset's digest
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # MLflow's own 7 retries of 120 s would hold a run up for minutes when the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def open_tracker(workflow: str, storage: str, snapshot: Json) -> "Tracker":
    """An observer that records a run of `workflow`; MLflow is loaded at the first event.

    Args:
        workflow: its name, which is the MLflow experiment.
        storage: the root of all artifacts.
        snapshot: the settings of every step, kept as `workflow.json` of the parent run.
    """
    return Tracker(lambda: Recorder(workflow, Store.at(storage), snapshot))


def tracking_uri(store: Store) -> str:
    """The MLflow server of the environment, or else the SQLite file that goes with `store`."""
    folder = store.uri if store.is_local else os.getcwd()  # noqa: PTH109 (keeps symbolic links)
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{folder}/mlflow.db"


class Tracker:
    """An Observer that never fails: the first error of MLflow's is a warning and ends tracking.

    It is a context manager: the parent run ends with the block, as the block does.
    """

    def __init__(self, start: "Callable[[], Recorder]") -> None:
        self._start = start
        self._recorder: Recorder | None = None
        self._broken = False

    def started(self, name: str, config: StageConfig, made_from: Mapping[str, Artifact]) -> None:
        """Open a child run with the step's settings and inputs."""
        self._safely(lambda recorder: recorder.started(name, config, made_from))

    def progress(self, name: str, facts: Json) -> None:
        """Add a point to each curve of the step."""
        self._safely(lambda recorder: recorder.progress(name, facts))

    def finished(self, name: str, artifact: Artifact, made_from: Mapping[str, Artifact]) -> None:
        """Link what the step made, and close its run."""
        self._safely(lambda recorder: recorder.finished(name, artifact, made_from))

    def reused(self, name: str, artifact: Artifact) -> None:
        """Name, on the parent run, the run that once made the artifact."""
        self._safely(lambda recorder: recorder.reused(name, artifact))

    def failed(self, name: str, error: BaseException) -> None:
        """Close the step's run as failed, or as killed by the user."""
        self._safely(lambda recorder: recorder.failed(name, error))

    def __enter__(self) -> Self:
        """Nothing yet: MLflow is loaded at the first event."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Close the parent run, if there is one: finished, failed, or killed by the user."""
        if self._recorder is not None:
            self._safely(lambda recorder: recorder.close(error))

    def _safely(self, event: "Callable[[Recorder], None]") -> None:
        if self._broken:
            return
        try:
            if self._recorder is None:
                self._recorder = self._start()
            event(self._recorder)
        except Exception as error:  # noqa: BLE001 (training must never die of tracking)
            self._broken = True
            log.warning(
                "MLflow failed, so the rest of this run is not tracked; its artifacts are not "
                "affected. Check MLFLOW_TRACKING_URI, or move a damaged mlflow.db away. Cause: %s",
                error,
            )


class Recorder:
    """Writes one invocation; every method may raise whatever MLflow raises."""

    def __init__(self, workflow: str, store: Store, snapshot: Json) -> None:
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        import mlflow

        for noisy in ("alembic", "mlflow.store.db.utils"):  # 60 lines for a new database
            logging.getLogger(noisy).setLevel(logging.WARNING)
        mlflow.set_tracking_uri(tracking_uri(store))
        self.client = mlflow.MlflowClient()
        self.workflow = workflow
        self.experiment = self._experiment(store)
        tags = {"rayline.kind": "workflow", "rayline.storage": store.uri}
        self.parent = self._run(workflow, tags)
        self.client.log_dict(self.parent, snapshot, "workflow.json")
        self.runs: dict[str, str] = {}
        self.models: dict[str, str] = {}  # digest -> model id
        self.points: list[Any] = []
        self.flushed = time.monotonic()

    def started(self, name: str, config: StageConfig, made_from: Mapping[str, Artifact]) -> None:
        """Open a child run with the step's settings and inputs."""
        tags = {
            "mlflow.parentRunId": self.parent,
            "rayline.kind": "step",
            "rayline.stage": config.stage,
        }
        self.runs[name] = run = self._run(name, tags)
        self._log(run, params=dict(_leaves(identity(config))))
        self.client.log_dict(run, config.model_dump(mode="json"), "config.json")
        for setting, artifact in made_from.items():
            self._link_input(run, setting, artifact)

    def progress(self, name: str, facts: Json) -> None:
        """Buffer a point a number; write when there are many or some time has passed."""
        now, step = int(time.time() * 1000), int(facts.get("step", 0))
        numbers = {key: value for key, value in facts.items() if key != "step"}
        self.points += self._metrics(numbers, now, step)
        if len(self.points) >= FLUSH_POINTS or time.monotonic() - self.flushed >= FLUSH_S:
            self._flush(self.runs[name])

    def finished(self, name: str, artifact: Artifact, made_from: Mapping[str, Artifact]) -> None:
        """Link what the step made, log its figures, and close its run."""
        run, facts = self.runs.pop(name), artifact.manifest
        self._flush(run)
        model = self._judged(artifact, made_from)
        if artifact.kind in MODELS:
            model = self._link_model(run, artifact)
        else:
            self._link_data(run, artifact.manifest.name, artifact.uri, artifact.digest, "output")
        if facts.raw:
            text = json.dumps(facts.raw, sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()
            self._link_data(run, f"{name}-raw", artifact.uri, digest, "raw")
            self.client.log_dict(run, facts.raw, "raw.json")
        now = int(time.time() * 1000)
        points = self._metrics(facts.metrics, now, 0, model)
        points += self._metrics(facts.counts | facts.measured | {"seconds": facts.seconds}, now, 0)
        self._log(run, points, tags=_marks(artifact))
        self.client.log_dict(run, facts.model_dump(mode="json"), "artifact.json")
        self.client.set_terminated(run)
        self._promote(run, artifact, made_from)

    def reused(self, name: str, artifact: Artifact) -> None:
        """Name, on the parent run, the run that once made the artifact, or else its digest."""
        mark = f"tags.`rayline.fingerprint` = '{artifact.manifest.fingerprint}'"
        found = self.client.search_runs([self.experiment], mark, max_results=1)
        producer = found[0].info.run_id if found else artifact.digest
        self.client.set_tag(self.parent, f"rayline.reused.{name}", producer)

    def failed(self, name: str, error: BaseException) -> None:
        """Close the step's run as failed, or as killed by the user."""
        if run := self.runs.pop(name, None):  # none if the user interrupted its very start
            self._flush(run)
            self._fail(run, error)

    def close(self, error: BaseException | None) -> None:
        """Close the parent run."""
        if error is None:
            self.client.set_terminated(self.parent)
        else:
            self._fail(self.parent, error)

    def _fail(self, run: str, error: BaseException) -> None:
        self.client.set_tag(run, "rayline.error", f"{type(error).__name__}: {error}"[:MAX_TAG])
        self.client.set_terminated(run, "FAILED" if isinstance(error, Exception) else "KILLED")

    def _experiment(self, store: Store) -> str:
        """The workflow's experiment; a new one keeps its files beside the database."""
        found = self.client.get_experiment_by_name(self.workflow)
        if found:
            return str(found.experiment_id)
        uri = tracking_uri(store)
        place = None
        if uri.startswith(SQLITE):
            place = str(Path(uri.removeprefix(SQLITE)).with_name("mlflow-artifacts"))
        return str(self.client.create_experiment(self.workflow, artifact_location=place))

    def _run(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(self.experiment, run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    def _metrics(
        self, numbers: Mapping[str, Any], now: int, step: int, model: str | None = None
    ) -> list[Any]:
        from mlflow.entities import Metric

        return [
            Metric(key, float(value), now, step, model_id=model)
            for key, value in numbers.items()
            if isinstance(value, int | float)
        ]

    def _flush(self, run: str) -> None:
        self._log(run, self.points)
        self.points, self.flushed = [], time.monotonic()

    def _log(
        self,
        run: str,
        metrics: list[Any] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Param, RunTag

        self.client.log_batch(
            run,
            metrics=metrics or [],
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )

    def _link_input(self, run: str, setting: str, artifact: Artifact) -> None:
        from mlflow.entities import LoggedModelInput

        if artifact.kind in MODELS:
            model = self._model(artifact) or self._new_model(None, artifact)
            self.client.log_inputs(run, models=[LoggedModelInput(model)])
        else:
            name = artifact.manifest.name
            self._link_data(run, name, artifact.uri, artifact.digest, setting)

    def _link_data(self, run: str, name: str, uri: str, digest: str, context: str) -> None:
        """Link data by digest; an output too is a dataset input to MLflow, told by its context."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        scheme = uri.partition("://")[0] if "://" in uri else "local"
        source = json.dumps({"uri": uri})
        entry = DatasetInput(
            Dataset(name, digest[:DIGEST], scheme, source),
            [InputTag("mlflow.data.context", context)],
        )
        self.client.log_inputs(run, datasets=[entry])

    def _link_model(self, run: str, artifact: Artifact) -> str:
        """The logged model of what `run` made; equal bytes are one model, whoever made them."""
        from mlflow.entities import LoggedModelOutput

        model = self._model(artifact) or self._new_model(run, artifact)
        self.client.log_outputs(run, [LoggedModelOutput(model, step=0)])
        return model

    def _model(self, artifact: Artifact) -> str | None:
        if artifact.digest not in self.models:
            mark = f"tags.`rayline.digest` = '{artifact.digest}'"
            for found in self.client.search_logged_models([self.experiment], mark, max_results=1):
                self.models[artifact.digest] = str(found.model_id)
        return self.models.get(artifact.digest)

    def _new_model(self, run: str | None, artifact: Artifact) -> str:
        import mlflow

        model = mlflow.create_external_model(
            name=artifact.manifest.name,
            source_run_id=run,
            tags=_marks(artifact),
            model_type=artifact.kind,
            experiment_id=self.experiment,
        )
        self.models[artifact.digest] = str(model.model_id)
        return str(model.model_id)

    def _judged(self, artifact: Artifact, made_from: Mapping[str, Artifact]) -> str | None:
        """The logged model that a Report is about."""
        judged = made_from.get("model")
        return self._model(judged) if artifact.kind == "Report" and judged else None

    def _promote(self, run: str, artifact: Artifact, made_from: Mapping[str, Artifact]) -> None:
        judged = made_from.get("model")
        if artifact.kind == "Bundle":
            name, version = self._version(run, artifact)
            self.client.set_registered_model_alias(name, "candidate", version)
        elif artifact.kind == "Report" and judged and judged.kind == "Bundle":
            self._challenge(artifact, judged)

    def _challenge(self, report: Artifact, bundle: Artifact) -> None:
        """Make the judged Bundle champion if it is not worse, measured the same way."""
        accuracy = report.manifest.metrics.get("accuracy")
        if accuracy is None:
            return
        name, version = self._version(None, bundle)
        terms = _terms(report)
        for key, value in (("accuracy", repr(accuracy)), ("terms", terms)):
            self.client.set_model_version_tag(name, version, f"rayline.{key}", value)
        champion = self._aliased(name, "champion")
        if champion is not None and champion.version != version:
            rival = champion.tags
            if rival["rayline.terms"] != terms or float(rival["rayline.accuracy"]) > accuracy:
                log.info("%s version %s stays a candidate beside @champion", name, version)
                return
            self.client.set_registered_model_alias(name, "previous", champion.version)
        self.client.set_registered_model_alias(name, "champion", version)

    def _version(self, run: str | None, bundle: Artifact) -> tuple[str, str]:
        """Name and number of the registered version with these bytes, made if there is none."""
        name = f"{self.workflow}-{bundle.manifest.name}"
        mark = f"name = '{name}' AND tags.`rayline.digest` = '{bundle.digest}'"
        for found in self.client.search_model_versions(mark, max_results=1):
            return name, str(found.version)
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        model = self._model(bundle) or self._new_model(run, bundle)
        made = self.client.create_model_version(
            name, self._source(bundle, model), run, tags=_marks(bundle), model_id=model
        )
        return name, str(made.version)

    def _source(self, bundle: Artifact, model: str) -> str:
        """The Bundle itself; a server refuses local folders, so there its logged model."""
        import mlflow

        remote = mlflow.get_tracking_uri().startswith("http")
        return f"models:/{model}" if remote and bundle.store.is_local else bundle.uri

    def _aliased(self, name: str, alias: str) -> Any:
        """The version that an alias names, or None."""
        aliases = self.client.get_registered_model(name).aliases
        return self.client.get_model_version(name, aliases[alias]) if alias in aliases else None


def _marks(artifact: Artifact) -> dict[str, str]:
    """Tags that tell what an artifact is and where; the same on runs, models and versions."""
    facts = artifact.manifest
    return {
        "rayline.uri": artifact.uri,
        "rayline.digest": artifact.digest,
        "rayline.fingerprint": facts.fingerprint,
        "rayline.stage": facts.stage,
        "rayline.step": facts.name,
        "rayline.commit": facts.code.get("commit", ""),
    }


def _terms(report: Artifact) -> str:
    """What two Reports must share for their figures to be comparable: settings and data."""
    facts = report.manifest
    data = {key: source.digest for key, source in facts.inputs.items() if key != "model"}
    text = json.dumps([facts.identity.get("config"), data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _leaves(settings: Json, path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", json.dumps(value, ensure_ascii=False)[:MAX_PARAM]
