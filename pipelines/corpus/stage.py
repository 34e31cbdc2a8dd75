"""Raw files -> Corpus, on Ray Data.

Two passes over the text, each one task a part. The first reads, cleans, judges, masks and hashes;
between them duplicates are found from the hashes alone (the text of candidate pairs is looked at
again to verify them); the second writes what stays, what was left out and why. A part depends on
the settings and the files alone, and one that is written already is skipped, so neither the number
of CPUs nor a kill changes a byte.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.core.artifact import Workspace
from pipelines.core.cluster import spread
from pipelines.core.workflow import Outcome, Step
from pipelines.corpus import dedup, readers, schema
from pipelines.corpus.config import CorpusConfig, NearDuplicates
from pipelines.corpus.page import page
from pipelines.corpus.readers import Slice, slices
from pipelines.corpus.refine import refined, split
from pipelines.corpus.report import counts, samples, summary
from pipelines.corpus.sources import RawFile, expand

Row = dict[str, Any]
Cut = tuple[int, int, int, bool]  # a slice without its file: row, rows, offset, last
Chosen = tuple[int, NDArray[np.int64], NDArray[np.int64]]  # a part; rows of it; their positions
SLICES, MERGED = ".work/slices.json", ".work/merged.parquet"


def make(config: CorpusConfig, step: Step) -> Outcome:
    """The corpus: `data/`, `rejected/`, `quarantine/` and `report.json`.

    Raises:
        DataError: nothing is kept, or a document is unaccounted for.
    """
    clock = time.perf_counter()
    parts = _parts(expand(config.sources), config.shard_docs, step.out)
    count = len(parts)
    _pass(partial(_first_pass, config, parts, step.out), count, step, 0)
    if not step.out.exists(MERGED):
        merges = _merges(config, step.out, count)
        step.out.write(MERGED, schema.parquet(merges, schema.MERGED))
    _pass(partial(_second_pass, config, step.out), count, step, count)
    report = summary(step.out)
    step.out.write("report.json", json.dumps(report, indent=1, sort_keys=True).encode())
    step.out.write("report.html", page(step.name, report, samples(step.out)).encode())
    rate = report["read"] / (time.perf_counter() - clock)
    return Outcome(counts=counts(report), measured={"documents_per_s": rate})


def _pass(function: Callable[[int], int], count: int, step: Step, done: int) -> None:
    """Run `function` for every part and report how many documents it saw."""
    documents = 0
    for number, seen in enumerate(spread(function, range(count)), done + 1):
        documents += seen
        step.report({"step": number, "steps": 2 * count, "documents": documents})


def _parts(raws: list[RawFile], rows: int, out: Workspace) -> list[list[Slice]]:
    """The files, in order, cut and grouped into parts of about `rows` documents."""
    if not out.exists(SLICES):
        out.write(SLICES, json.dumps(_cuts(raws, rows)).encode())
    parts: list[list[Slice]] = [[]]
    filled = 0
    for raw, cuts in zip(raws, json.loads(out.read(SLICES)), strict=True):
        for row, length, offset, last in cuts:
            if filled and filled + length > rows:
                parts.append([])
                filled = 0
            parts[-1].append(Slice(raw, row, length, offset, last))
            filled += length
    return parts


def _cuts(raws: list[RawFile], rows: int) -> list[list[Cut]]:
    """The slices of every file; files that must be looked into are, in parallel."""
    looked_into = [number for number, raw in enumerate(raws) if raw.format in ("jsonl", "parquet")]
    found = dict(spread(partial(_cut_one, raws, rows), looked_into))
    return [found.get(number) or _cut(raw, rows) for number, raw in enumerate(raws)]


def _cut_one(raws: list[RawFile], rows: int, number: int) -> tuple[int, list[Cut]]:
    return number, _cut(raws[number], rows)


def _cut(raw: RawFile, rows: int) -> list[Cut]:
    return [(part.row, part.rows, part.offset, part.last) for part in slices(raw, rows)]


def _first_pass(config: CorpusConfig, parts: list[list[Slice]], out: Workspace, number: int) -> int:
    """Read and judge the documents of one part; returns how many there are."""
    name = schema.part(schema.WORK, number)
    if out.exists(name):
        return int(schema.read(out.read(name), ["row"]).num_rows)
    words = dedup.Words()
    rows = [
        refined(config, document, words)
        for part in parts[number]
        for document in readers.documents(part)
    ]
    out.write(name, schema.parquet(rows, schema.WORKING))
    return len(rows)


def _merges(config: CorpusConfig, out: Workspace, count: int) -> list[Row]:
    """Rows of `schema.MERGED`: every candidate that repeats one that stays."""
    columns = ["source", "row", "fingerprint", "bands"]
    table = pa.concat_tables(_candidates(out, part, columns) for part in range(count))
    merges: list[dedup.Merge] = []
    if config.exact_duplicates:
        merges += dedup.exact_merges(table["fingerprint"].to_pylist())
    if config.near_duplicates:
        merges += _near(config.near_duplicates, out, table, {merge.removed for merge in merges})
    return [
        {
            "part": table["part"][merge.removed].as_py(),
            "index": table["index"][merge.removed].as_py(),
            "into": f"{table['source'][merge.kept]}:{table['row'][merge.kept]}",
            "jaccard": merge.jaccard,
            "exact": merge.exact,
        }
        for merge in sorted(merges, key=lambda merge: merge.removed)
    ]


def _near(
    near: NearDuplicates, out: Workspace, table: pa.Table, gone: set[int]
) -> list[dedup.Merge]:
    """Near-duplicates among the candidates that are not `gone` already."""
    left = np.array([place for place in range(table.num_rows) if place not in gone], np.int64)
    buckets = _matrix(table["bands"], near.bands)
    positions = left[dedup.candidates(buckets[left])]
    parts, indexes = (table[name].take(positions).to_numpy() for name in ("part", "index"))
    items = [
        (part, indexes[parts == part], positions[parts == part])
        for part in np.unique(parts).tolist()
    ]
    found = spread(partial(_shingled, near.ngram, out), items)
    shingles = {position: hashes for answer in found for position, hashes in answer}
    by_position = {position: buckets[position] for position in positions.tolist()}
    return dedup.near_merges(by_position, shingles, near.threshold)


def _shingled(ngram: int, out: Workspace, item: Chosen) -> list[tuple[int, dedup.Hashes]]:
    """The shingles of the texts at some rows of a working part, to verify candidate pairs."""
    part, indexes, positions = item
    texts = schema.read(out.read(schema.part(schema.WORK, part)), ["text"])["text"]
    words = dedup.Words()
    return [
        (position, dedup.shingles(texts[index].as_py(), ngram, words))
        for index, position in zip(indexes.tolist(), positions.tolist(), strict=True)
    ]


def _candidates(out: Workspace, part: int, columns: list[str]) -> pa.Table:
    """The candidates of a working part, with their `part` and their `index` in it."""
    table = schema.read(out.read(schema.part(schema.WORK, part)), ["status", *columns])
    index = pa.array(range(table.num_rows), pa.int64())
    table = table.append_column("index", index)
    table = table.append_column("part", pa.array([part] * table.num_rows, pa.int64()))
    return table.filter(pc.equal(table["status"], "candidate"))


def _matrix(lists: pa.ChunkedArray, width: int) -> dedup.Hashes:
    """Lists of `width` hashes as one array (texts, width)."""
    return np.asarray(pc.list_flatten(lists).to_numpy(), np.uint64).reshape(-1, width)


def _second_pass(config: CorpusConfig, out: Workspace, part: int) -> int:
    """Write one part's kept, rejected and quarantined records; returns how many there are."""
    table = schema.read(out.read(schema.part(schema.WORK, part)))
    merges = schema.read(out.read(MERGED)).filter(pc.field("part") == part).to_pylist()
    merged = {merge["index"]: merge for merge in merges}
    kept, rejected, quarantined = [], [], []
    for index, row in enumerate(table.to_pylist()):
        row["id"] = f"{row['source']}:{row['row']}"
        if row["status"] == "quarantined":
            quarantined.append(row)
        elif index in merged:
            reason = "merged:exact" if merged[index]["exact"] else "merged:near"
            rejected.append(row | merged[index] | {"reason": reason})
        elif row["status"] == "rejected":
            rejected.append(row)
        else:
            kept.append(row | {"split": split(row["text"], config.holdout)})
    out.write(schema.part("data", part), schema.parquet(kept, schema.DATA))
    out.write(schema.part("rejected", part), schema.parquet(rejected, schema.REJECTED))
    out.write(schema.part("quarantine", part), schema.parquet(quarantined, schema.QUARANTINE))
    return int(table.num_rows)
