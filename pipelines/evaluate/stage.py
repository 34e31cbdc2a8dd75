"""Model | Bundle + Corpus | Tokens -> Report: a classifier on labelled rows, or a language model.

For a classifier, Ray Data predicts chunks of rows; a chunk whose file exists, from an earlier try,
is not predicted again. Rows keep the corpus's order whatever the number of CPUs.
"""

import io
import json
import time
from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.cluster import remotely, spread
from pipelines.core.config import Json
from pipelines.core.errors import ConfigError
from pipelines.core.workflow import Outcome, Step
from pipelines.engines import litert, onnx
from pipelines.engines.predictor import load, loaded
from pipelines.engines.timing import median_ms
from pipelines.evaluate import baseline
from pipelines.evaluate.config import EvaluateConfig, TfidfLinear
from pipelines.evaluate.language import judge_tokens
from pipelines.model.layout import WEIGHTS
from pipelines.tasks.classify import labelled, number, select
from pipelines.tasks.metrics import classification_report

CHUNK = 256  # rows
PREDICTIONS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("truth", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)


def make(config: EvaluateConfig, step: Step) -> Outcome:
    """Predict, compare with the truth, report; on Tokens, report the loss.

    Raises:
        ConfigError: Tokens and a model, or settings, that do not go together.
        DataError: no row in the split, a row without a label, or one that the model does not know.
        ArtifactError: the model is no classifier, or is broken.
    """
    if step.inputs["data"].kind == "Tokens":
        return _language(config, step)
    corpus = step.inputs["data"]
    rows = select(corpus.local(), config.split, config.max_rows)
    truth = labelled(rows, corpus.uri)
    start = time.perf_counter()
    if config.baseline is not None:
        predicted, score = _baseline(config.baseline, corpus, rows)
        measured = {"rows_per_s": len(rows) / (time.perf_counter() - start)}
    else:
        predicted, score, measured = _model(step, rows, truth)
    # Macro figures are over the classes that occur, whoever predicted: else a model would lose to
    # a baseline by each class that it knows and these rows lack.
    labels = sorted({*truth, *predicted})
    report = classification_report(truth, predicted, labels, config.resamples, config.seed)
    columns = [rows["id"], truth, predicted, score]
    table = pa.table(dict(zip(PREDICTIONS.names, columns, strict=True)), schema=PREDICTIONS)
    step.out.write("predictions.parquet", _parquet(table))
    step.out.write("report.json", json.dumps(report, indent=1, sort_keys=True).encode())
    return Outcome(counts={"rows": len(rows)}, metrics=_metrics(report), measured=measured)


def _language(config: EvaluateConfig, step: Step) -> Outcome:
    """The loss of a language model on held-out Tokens."""
    model, tokens = step.inputs.get("model"), step.inputs["data"]
    if model is None or model.kind != "Model":
        raise ConfigError(
            f"evaluate.data at {tokens.uri} are Tokens, which only a Model can be judged on; give "
            "a Corpus to judge a baseline or a Bundle"
        )
    if "split" in config.model_fields_set:
        raise ConfigError("evaluate.split has no effect on Tokens, which were made of one split")
    start = time.perf_counter()
    report = remotely(judge_tokens, config, model, tokens)
    step.out.write("report.json", json.dumps(report, indent=1, sort_keys=True).encode())
    seconds = time.perf_counter() - start
    counts = {name: report.pop(name) for name in ("rows", "tokens")}
    low, high = report.pop("interval")
    metrics = report | {"loss_low": low, "loss_high": high}
    return Outcome(counts, metrics, {"tokens_per_s": counts["tokens"] / seconds})


def _metrics(report: Json) -> dict[str, float]:
    """The report's headline figures, flat."""
    figures = {"accuracy": report["accuracy"]}
    for figure in ("precision", "recall", "f1"):
        figures |= {f"{figure}_{kind}": value for kind, value in report[figure].items()}
    for figure, (low, high) in report["intervals"].items():
        name = "f1_macro" if figure == "macro_f1" else figure
        figures |= {f"{name}_low": low, f"{name}_high": high}
    return figures


def _baseline(
    chosen: TfidfLinear, corpus: Artifact, rows: pa.Table
) -> tuple[list[str], list[float]]:
    """Labels and scores of `rows` by a baseline that learns from another split of the corpus."""
    learnt = select(corpus.local(), chosen.split, chosen.max_rows)
    truth = labelled(learnt, corpus.uri)
    classifier = baseline.fit(learnt["text"].to_pylist(), truth)
    return baseline.predict(classifier, rows["text"].to_pylist())


def _model(
    step: Step, rows: pa.Table, truth: Sequence[str]
) -> tuple[list[str], list[float], dict[str, float]]:
    """The label and score of each row, and what was measured."""
    model = step.inputs["model"]
    sample = rows["text"].slice(0, CHUNK).to_pylist()
    labels, latency_ms = remotely(_trial, model, sample)
    number(truth, labels, step.inputs["data"].uri)
    chunks = range(0, len(rows), CHUNK)
    for chunk, at in enumerate(chunks):
        step.out.write(_given(chunk), _parquet(rows.slice(at, CHUNK)))
    done, predicted, start = 0, 0, time.perf_counter()
    task = partial(_chunk, model, step.out)
    for rows_done, rows_predicted in spread(task, range(len(chunks))):
        done += rows_done
        predicted += rows_predicted
        rows_per_s = predicted / (time.perf_counter() - start)
        step.report({"rows": done, "rows_per_s": rows_per_s})
    table = pa.concat_tables([_read(step.out, _scored(chunk)) for chunk in range(len(chunks))])
    measured = {"latency_ms": latency_ms, "size_mb": _size_mb(model)}
    if predicted:
        measured["rows_per_s"] = rows_per_s
    return table["label"].to_pylist(), table["score"].to_pylist(), measured


def _chunk(model: Artifact, out: Workspace, chunk: int) -> tuple[int, int]:
    """Predict one chunk, unless an earlier try did; returns its rows, and those predicted now."""
    name = _scored(chunk)
    if out.exists(name):
        return _read(out, name).num_rows, 0
    texts = _read(out, _given(chunk))["text"].to_pylist()
    found = loaded(model.local()).predict(texts)
    columns = {"label": [one.label for one in found], "score": [one.score for one in found]}
    out.write(name, _parquet(pa.table(columns)))
    return len(found), len(found)


def _trial(model: Artifact, texts: list[str]) -> tuple[list[str], float]:
    """The model's labels, and its median milliseconds a text at batch 1, encoding included."""
    predictor = load(model.local())
    return list(predictor.labels), median_ms(lambda text: predictor.predict([text]), texts)


def _size_mb(model: Artifact) -> float:
    """Of the file that holds the weights."""
    kept = {WEIGHTS, litert.FILE, onnx.FILE}
    return sum(file.size for file in model.manifest.files if file.path in kept) / 1e6


def _given(chunk: int) -> str:
    return f".rows/{chunk:05d}.parquet"


def _scored(chunk: int) -> str:
    return f".scored/{chunk:05d}.parquet"


def _read(out: Workspace, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(out.read(name)))


def _parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", version="2.6", write_statistics=False)
    return stream.getvalue()
