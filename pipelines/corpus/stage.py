"""Raw files -> Corpus, on Ray Data.

Two passes over the text, a task a part. The first reads, cleans, judges, draws, masks and hashes;
between them duplicates are found from the hashes, and the texts of pairs alone are looked at again
to verify them; the second writes what stays, what was left out and why. A part depends on the
settings and the files alone, and one that is written already is skipped, so neither the number
of CPUs nor a kill changes a byte.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.core.artifact import Workspace
from pipelines.core.cluster import spread
from pipelines.core.errors import DataError
from pipelines.core.workflow import Outcome, Step
from pipelines.corpus import duplicates, passages, readers, schema
from pipelines.corpus.config import CorpusConfig, Passages
from pipelines.corpus.learn import evaluated, learn, learnt
from pipelines.corpus.page import page
from pipelines.corpus.readers import slices
from pipelines.corpus.records import Slice
from pipelines.corpus.refine import refined
from pipelines.corpus.report import counts, samples, summary
from pipelines.corpus.shuffle import Spread
from pipelines.corpus.sources import RawFile, expand
from pipelines.corpus.tally import tally

Row = dict[str, Any]
Cut = tuple[int, int, int, bool, int]  # a slice without its file
SLICES = ".work/slices.json"
ROWS = 0xFFFFFFFF  # of a document's number: its row in the part
FOLDERS = {"candidate": "data", "rejected": "rejected", "quarantined": "quarantine"}
NAMES_HELD = 64  # parts whose ids a task holds, some 0.5 MB each
SEARCHED = ("jsonl", "parquet", "csv", "warc")  # formats that are read through to be cut
# Items of a second or less that a task takes: parts written, and parts of keys looked through.
TOGETHER = 16
ALARM_LEAST = 100  # documents of a source, below which its share says little

briefly = partial(spread, together=TOGETHER)


def make(config: CorpusConfig, step: Step) -> Outcome:
    """The corpus: `data/`, `rejected/`, `quarantine/` and `report.json`.

    Raises:
        DataError: nothing is kept, a document is unaccounted for, most of a source would go as
            near-duplicates, or a file that texts are judged by cannot be read whole.
    """
    clock = time.perf_counter()
    raws = expand(config.sources)
    parts = _parts(raws, config.shard_docs, config.shard_mb << 20, step.out)
    count = len(parts)
    learn(config, step.out)
    first = partial(_first_pass, config, step.out)
    _pass(spread, first, list(enumerate(parts)), step, 0)
    _find_duplicates(config, step.out, count)
    _alarm(config, raws, step.out, count)
    _find_passages(config, step.out, count)
    second = partial(_second_pass, config.passages, step.out)
    dropped = _pass(briefly, second, range(count), step, count)
    tallies = [json.loads(step.out.read(_tallied(part))) for part in range(count)]
    report = summary(tallies) | {"evaluation": evaluated(config, step.out)}
    step.out.write("report.json", json.dumps(report, indent=1, sort_keys=True).encode())
    step.out.write("report.html", page(step.name, report, samples(tallies)).encode())
    rate = report["read"] / (time.perf_counter() - clock)
    found = counts(report) | ({"passages_dropped": dropped} if config.passages else {})
    return Outcome(counts=found, measured={"documents_per_s": rate})


def _pass(
    among: Spread,
    function: Callable[..., tuple[int, int]],
    parts: Sequence[Any],
    step: Step,
    done: int,
) -> int:
    """Run `function` for every part, report how many documents it saw, add up its other figure."""
    documents = total = 0
    for number, (seen, figure) in enumerate(among(function, parts), done + 1):
        documents, total = documents + seen, total + figure
        step.report({"step": number, "steps": 2 * len(parts), "documents": documents})
    return total


def _parts(raws: list[RawFile], rows: int, size: int, out: Workspace) -> list[list[Slice]]:
    """The files, in order, cut and grouped into parts of about `rows` documents or `size` bytes."""
    if not out.exists(SLICES):
        out.write(SLICES, json.dumps(_cuts(raws, rows, size)).encode())
    parts: list[list[Slice]] = [[]]
    held_rows = held_size = 0
    for raw, cuts in zip(raws, json.loads(out.read(SLICES)), strict=True):
        for part in (Slice(raw, *cut) for cut in cuts):
            if parts[-1] and (held_rows + part.rows > rows or held_size + part.size > size):
                parts.append([])
                held_rows = held_size = 0
            parts[-1].append(part)
            held_rows, held_size = held_rows + part.rows, held_size + part.size
    return parts


def _cuts(raws: list[RawFile], rows: int, size: int) -> list[list[Cut]]:
    """The slices of every file; files that must be looked into are, in parallel."""
    looked_into = [(n, raw) for n, raw in enumerate(raws) if raw.format in SEARCHED]
    found = dict(spread(partial(_cut_one, rows, size), looked_into))
    return [found.get(number) or _cut(raw, rows, size) for number, raw in enumerate(raws)]


def _cut_one(rows: int, size: int, numbered: tuple[int, RawFile]) -> tuple[int, list[Cut]]:
    number, raw = numbered
    return number, _cut(raw, rows, size)


def _cut(raw: RawFile, rows: int, size: int) -> list[Cut]:
    found = slices(raw, rows, size)
    return [(part.row, part.rows, part.offset, part.last, part.size) for part in found]


def _first_pass(
    config: CorpusConfig, out: Workspace, numbered: tuple[int, list[Slice]]
) -> tuple[int, int]:
    """Read and judge the documents of one part; returns how many there are, and candidates."""
    number, of_part = numbered
    if out.exists(schema.part(schema.WORK, number)):
        return _size(out, schema.NAMED, number), _size(out, schema.KEYED, number)
    judges, candidates, index = learnt(config, out), 0, -1
    work, names, keys = map(schema.Writer, (schema.WORKING, schema.NAMES, schema.KEYS))
    records = ((part, record) for part in of_part for record in readers.documents(part))
    for index, (part, record) in enumerate(records):
        row = refined(config, record, judges, part.raw.weight)
        work.add(row)
        names.add(row)
        if row["status"] == "candidate":
            keys.add(row | {"index": index})
            candidates += 1
    out.write(schema.part(schema.NAMED, number), names.done())
    out.write(schema.part(schema.KEYED, number), keys.done())
    out.write(schema.part(schema.WORK, number), work.done())  # the last: it says all are written
    return index + 1, candidates


def _size(out: Workspace, folder: str, number: int) -> int:
    return schema.count(out.read(schema.part(folder, number)))


def _find_duplicates(config: CorpusConfig, out: Workspace, count: int) -> None:
    """Write `schema.DECIDED`, a part each: every candidate that repeats one that stays."""
    if not out.exists(schema.part(schema.DECIDED, count - 1)):
        keys, near = partial(_keys, out), config.near_duplicates
        sizes = [_size(out, schema.KEYED, part) for part in range(count)]
        if config.exact_duplicates:
            duplicates.find_exact(briefly, out, keys, sizes)
        if near:
            how = duplicates.Near(near.ngram, near.threshold, near.bands)
            duplicates.find_near(briefly, out, keys, partial(_texts, out), sizes, how)
        totals = [_size(out, schema.NAMED, part) for part in range(count)]
        for part, merges in enumerate(duplicates.decide(out, totals)):
            rows = [vars(merge) | {"index": merge.removed & ROWS} for merge in merges]
            out.write(schema.part(schema.DECIDED, part), schema.parquet(rows, schema.MERGED))


def _keys(
    out: Workspace, part: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Rows of a part's candidates, their fingerprints and bucket keys."""
    table = schema.read(out.read(schema.part(schema.KEYED, part)))
    prints = np.frombuffer(b"".join(table["fingerprint"].to_pylist()), np.uint64)
    buckets = np.asarray(pc.list_flatten(table["bands"]).to_numpy(), np.uint64)
    count = table.num_rows
    width = len(buckets) // count if count else 1
    rows = np.asarray(table["index"].to_numpy(), np.int64)
    return rows, prints.reshape(-1, 2), buckets.reshape(count, width)


def _texts(out: Workspace, part: int, wanted: list[int]) -> Iterator[tuple[int, str]]:
    """The texts of some rows of a part."""
    chosen = set(wanted)
    for index, row in enumerate(schema.rows(out.read(schema.part(schema.WORK, part)), ["text"])):
        if index in chosen:
            yield index, row["text"]


def _alarm(config: CorpusConfig, raws: list[RawFile], out: Workspace, count: int) -> None:
    """Stop if most of a file or source are near-duplicates: templates look so, as do real texts.

    Raises:
        DataError: more than the set share of the documents of a file, or of a source of many small
            ones, are near-duplicates.
    """
    allowed = config.near_duplicates.alarm if config.near_duplicates else None
    if allowed is None:
        return
    firsts = {raw.origin: raw.name for raw in reversed(raws)}
    units = {raw.name: (raw.name, _source(raw.origin, firsts[raw.origin])) for raw in raws}
    candidates, merged = Counter[str](), Counter[str]()
    for files in briefly(partial(_near_by_file, out), range(count)):
        for total, by_file in zip((candidates, merged), files, strict=True):
            for name, number in by_file.items():
                total.update(dict.fromkeys(units[name], number))
    for unit, number in sorted(merged.items()):
        if candidates[unit] >= ALARM_LEAST and number > allowed * candidates[unit]:
            raise DataError(
                f"{unit}: {number} of its {candidates[unit]} documents that passed the rules are "
                f"near-duplicates, more than {allowed:.0%}; texts made from one template look so: "
                "raise near_duplicates.threshold, lengthen near_duplicates.ngram, or allow a "
                "larger near_duplicates.alarm"
            )


def _source(number: int, first: str) -> str:
    return f"sources.{number} ({first}, ...)"


def _near_by_file(out: Workspace, part: int) -> tuple[Counter[str], Counter[str]]:
    """Candidates and near-duplicates of each file in a part."""
    sources = schema.read(out.read(schema.part(schema.NAMED, part)), ["source"])["source"]
    keyed = schema.read(out.read(schema.part(schema.KEYED, part)), ["index"])["index"]
    merged = schema.read(out.read(schema.part(schema.DECIDED, part)))
    near = merged.filter(pc.invert(merged["exact"]))["index"]
    return Counter(sources.take(keyed).to_pylist()), Counter(sources.take(near).to_pylist())


def _find_passages(config: CorpusConfig, out: Workspace, count: int) -> None:
    """Find the passages that an earlier document has, if asked for."""
    if how := config.passages:
        units = list(briefly(partial(_count_passages, out, how), range(count)))
        units = [number for _, number in sorted(units)]
        passages.find(briefly, out, partial(_staying, out), units, how)


def _count_passages(out: Workspace, how: Passages, part: int) -> tuple[int, int]:
    return part, sum(passages.count(text, how) for _, text in _staying(out, part))


def _staying(out: Workspace, part: int) -> Iterator[tuple[int, str]]:
    """Row and text of the documents of a part that passed the rules and deduplication."""
    merged = schema.read(out.read(schema.part(schema.DECIDED, part)), ["index"])["index"]
    gone = set(merged.to_pylist())
    columns = ["status", "text"]
    for index, row in enumerate(schema.rows(out.read(schema.part(schema.WORK, part)), columns)):
        if row["status"] == "candidate" and index not in gone:
            yield index, row["text"]


def _second_pass(how: Passages | None, out: Workspace, part: int) -> tuple[int, int]:
    """Write one part's kept, rejected and quarantined records; returns records, passages cut."""
    dropped = passages.dropped(out, part)
    if out.exists(_tallied(part)):
        return _size(out, schema.NAMED, part), sum(map(len, dropped.values()))
    merges = _named(out, part)
    files = {"data": schema.DATA, "rejected": schema.REJECTED, "quarantine": schema.QUARANTINE}
    writers = {folder: schema.Writer(columns) for folder, columns in files.items()}
    index = -1
    for index, row in enumerate(schema.rows(out.read(schema.part(schema.WORK, part)))):
        row["id"] = f"{row['source']}:{row['row']}"
        if index in merges:
            row.update(merges[index])
        elif how and index in dropped:
            row.update(_cut_passages(row["text"], dropped[index], how))
        for epoch in range(row["taken"] if row["status"] == "candidate" else 1):
            writers[FOLDERS[row["status"]]].add(row | {"epoch": epoch})
    for folder, writer in writers.items():
        out.write(schema.part(folder, part), writer.done())
    out.write(_tallied(part), json.dumps(tally(out, part), sort_keys=True).encode())
    return index + 1, sum(map(len, dropped.values()))


def _tallied(part: int) -> str:
    """The file of a part's figures, the last that is written of it."""
    return f".work/tally/part-{part:05d}.json"


def _named(out: Workspace, part: int) -> dict[int, Row]:
    """What a part's merged documents are rejected with, by row; `into` is an id."""
    names = lru_cache(NAMES_HELD)(partial(_names, out))
    found = {}
    for merge in schema.read(out.read(schema.part(schema.DECIDED, part))).to_pylist():
        kept = merge["kept"]
        found[merge.pop("index")] = merge | {
            "status": "rejected",
            "reason": "merged:exact" if merge["exact"] else "merged:near",
            "into": names(kept >> 32)[kept & ROWS],
        }
    return found


def _names(out: Workspace, part: int) -> list[str]:
    table = schema.read(out.read(schema.part(schema.NAMED, part)))
    columns = (table[name].to_pylist() for name in ("source", "row"))
    return [f"{source}:{row}" for source, row in zip(*columns, strict=True)]


def _cut_passages(text: str, places: set[int], how: Passages) -> Row:
    """A text less the passages that an earlier document has, or why too little of it is left."""
    left = passages.without(text, places, how)
    if len(left) >= how.min_left:
        return {"text": left}
    return {
        "status": "rejected",
        "reason": f"repeated:{how.unit}",
        "rule": "chars",
        "value": float(len(left)),
        "threshold": float(how.min_left),
    }
