"""Model | Bundle + Corpus or files -> Predictions: each input row exactly once, in input order.

The input is cut once into shards of `shard_rows` rows, in the step's work area; Ray Data then
predicts shard by shard. A shard whose file exists is not predicted again: a run killed at any point
loses at most one shard a worker, and names, not scheduling, decide order and count.
"""

import json
import sys
import time
from collections.abc import Iterator
from functools import partial

from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.cluster import spread
from pipelines.core.config import Json
from pipelines.core.errors import DataError
from pipelines.core.workflow import Outcome, Step
from pipelines.corpus.readers import documents
from pipelines.corpus.records import Document, Slice
from pipelines.corpus.sources import Files, expand
from pipelines.engines.predictor import loaded
from pipelines.infer import shards
from pipelines.infer.config import InferConfig

CUT = ".input"
INDEX = f"{CUT}/index.json"


def make(config: InferConfig, step: Step) -> Outcome:
    """Predict on every row.

    Raises:
        DataError: there is no row to predict on.
        ArtifactError: the model is broken, or another run has taken the step over.
    """
    number = _cut(config, step)
    done, predicted, started = {"rows": 0, "errors": 0}, 0, time.perf_counter()
    task = partial(_shard, step.inputs["model"], step.out)
    for finished, shard in enumerate(spread(task, range(number)), start=1):
        done = {key: count + shard[key] for key, count in done.items()}
        predicted += shard["predicted"]
        rows_per_s = predicted / (time.perf_counter() - started)
        step.report(done | {"step": finished, "steps": number, "rows_per_s": rows_per_s})
    return Outcome(
        counts=done | {"shards": number},
        measured={"rows_per_s": rows_per_s} if predicted else {},
    )


def _shard(model: Artifact, out: Workspace, number: int) -> dict[str, int]:
    """Predict one shard; doing so twice writes the same bytes twice."""
    name = shards.name(number)
    if out.exists(name):
        return shards.counts(shards.decode(out.read(name))) | {"predicted": 0}
    given = shards.decode(out.read(f"{CUT}/{name}"))
    table = shards.predictions(given, loaded(model.local()))
    out.write(name, shards.encode(table))
    return shards.counts(table) | {"predicted": len(table)}


def _cut(config: InferConfig, step: Step) -> int:
    """The number of input shards, which are written unless an earlier try has done it."""
    if not step.out.exists(INDEX):
        number = 0
        for table in shards.cut(_rows(config, step), config.shard_rows):
            step.out.write(f"{CUT}/{shards.name(number)}", shards.encode(table))
            number += 1
        step.out.write(INDEX, json.dumps({"shards": number}).encode())
    found: int = json.loads(step.out.read(INDEX))["shards"]
    if not found:
        source = f"{config.data}, split {config.split!r}" if config.data else str(config.files)
        raise DataError(f"{step.name}: no row in {source}; give data that has rows")
    return found


def _rows(config: InferConfig, step: Step) -> Iterator[Json]:
    """`id`, `text` and `error` of every input row, in order."""
    if "data" in step.inputs:
        corpus = step.inputs["data"]
        files = [name for name in corpus.files(".parquet") if name.startswith("data/")]
        yield from shards.from_corpus(corpus.local(), files, config.split)
    for raw in expand((Files(paths=config.files, text=config.text),)) if config.files else ():
        for read in documents(Slice(raw, row=0, rows=sys.maxsize, offset=0, last=True)):
            key = f"{read.source}:{read.row}"
            if isinstance(read, Document):
                yield {"id": key, "text": read.text, "error": None}
            else:
                yield {"id": key, "text": "", "error": read.reason}
