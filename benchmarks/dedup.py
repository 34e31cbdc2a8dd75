"""MinHash deduplication, ours and datatrove's, on the same texts in one run: speed and truth.

Both take the documents of `pretrain` and `dedup`, word 5-grams, and FineWeb's aim of Jaccard .8;
datatrove with FineWeb's 14 x 8 hashes (sha1, 64 bits), ours with 16 bands of 6. The documents are
cut into slices that the two sign in turns, one process a slice; CPU time (`time.process_time`) of
n-grams and signatures is compared slice by slice, that of all the rest (pairs, verification,
clusters, the list of removals) once. Truth: the pages of `dedup` that two versions of a manual
have, by brute-force Jaccard of word 5-grams; and what was removed though no kept document is like
it. Run:

    python benchmarks/dedup.py --data DIR --datatrove PYTHON [--slices 3] [--every 1]

PYTHON is the interpreter of a separate environment with `datatrove[processing,io]==0.10.*` and
`spacy==3.8.*` (or the environment variable RAYLINE_DATATROVE_PYTHON). This file runs there too.
"""

import argparse
import gzip
import importlib.metadata
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_suffix(".md")
NGRAM, BANDS, ROWS, THRESHOLD = 5, 16, 6, 0.8
Row = dict[str, Any]


def documents(data: Path, every: int) -> list[Row]:
    """Every n-th document: its file, text and, in `dedup`, its true cluster."""
    found = []
    for path in sorted((*data.glob("pretrain/*.jsonl.gz"), *data.glob("dedup/*.jsonl.gz"))):
        step = 1 if path.parent.name == "dedup" else every
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in itertools.islice(lines, 0, None, step):
                row = json.loads(line)
                found.append({"text": row["text"], "cluster": row.get("cluster")})
    return found


def sign_ours(texts: list[str], slice_: int, folder: Path) -> float:
    """CPU seconds of fingerprints and bucket keys of a slice, which go to `folder`."""
    import numpy as np

    from pipelines.corpus import dedup

    before = time.process_time()
    words = dedup.Words()
    prints = b"".join(dedup.fingerprint(text) for text in texts)
    keys = [dedup.bands(dedup.grams(text, NGRAM, words), BANDS, ROWS) for text in texts]
    np.savez(folder / f"{slice_}.npz", keys=keys, prints=np.frombuffer(prints, "u8").reshape(-1, 2))
    return time.process_time() - before


def finish_ours(slices: list[list[str]], folder: Path) -> tuple[float, list[int]]:
    """CPU seconds of all the rest, and the documents removed."""
    import numpy as np

    from pipelines.core.artifact import Workspace
    from pipelines.core.storage import Store
    from pipelines.corpus import duplicates

    before = time.process_time()
    out = Workspace.take(Store.at(str(folder / "work")))
    sizes = [len(texts) for texts in slices]

    def keys(part: int) -> Any:
        held = np.load(folder / f"{part}.npz")
        return np.arange(sizes[part]), held["prints"], held["keys"]

    def texts(part: int, rows: list[int]) -> Iterator[tuple[int, str]]:
        return ((row, slices[part][row]) for row in rows)

    near = duplicates.Near(NGRAM, THRESHOLD, BANDS)
    duplicates.find_exact(map, out, keys, sizes)
    duplicates.find_near(map, out, keys, texts, sizes, near)
    starts = [0, *itertools.accumulate(sizes)]
    gone = [
        starts[merge.removed >> 32] + (merge.removed & 0xFFFFFFFF)
        for merges in duplicates.decide(out, sizes)
        for merge in merges
    ]
    return time.process_time() - before, gone


def _trove_config() -> Any:
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.hashing import HashConfig

    return MinhashConfig(
        hash_config=HashConfig(hash_fc="sha1", precision=64),
        num_buckets=14,
        hashes_per_bucket=8,
        n_grams=NGRAM,
    )


def sign_datatrove(texts: list[str], slice_: int, folder: Path) -> float:
    """CPU seconds of datatrove's first stage, its word splitter warm."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.utils.text import split_into_words

    split_into_words("warm up.")
    found = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    stage = MinhashDedupSignature(output_folder=f"{folder}/sig", config=_trove_config())
    before = time.process_time()
    stage.run(iter(found), slice_, 1)
    return time.process_time() - before


def finish_datatrove(slices: list[list[str]], folder: Path) -> tuple[float, list[int]]:
    """CPU seconds of its other three stages, and the documents removed."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter
    from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets

    config, gone, start = _trove_config(), [], 0
    before = time.process_time()
    for bucket in range(config.num_buckets):
        MinhashDedupBuckets(f"{folder}/sig", f"{folder}/buckets", config=config).run(
            None, bucket, config.num_buckets
        )
    MinhashDedupCluster(f"{folder}/buckets", f"{folder}/remove", config=config).run(None, 0, 1)
    for number, texts in enumerate(slices):
        found = [Document(text=text, id=str(start + at)) for at, text in enumerate(texts)]
        kept = MinhashDedupFilter(f"{folder}/remove").run(iter(found), number, 1)
        gone += sorted({int(one.id) for one in found} - {int(one.id) for one in kept})
        start += len(texts)
    return time.process_time() - before, gone


def side(options: argparse.Namespace) -> Any:
    """One step of one side, in this process."""
    folder = Path(options.folder)
    slices = json.loads((folder.parent / "slices.json").read_text())
    if options.slice >= 0:
        sign = sign_ours if options.side == "ours" else sign_datatrove
        return sign(slices[options.slice], options.slice, folder)
    return (
        finish_ours(slices, folder) if options.side == "ours" else finish_datatrove(slices, folder)
    )


def measure(name: str, options: argparse.Namespace, folder: Path, number: int) -> Any:
    """The same in a process of its own."""
    python = sys.executable if name == "ours" else options.datatrove
    (folder / name).mkdir(exist_ok=True)
    command = [python, __file__, "--side", name, "--slice", str(number)]
    command += ["--folder", str(folder / name)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "PYTHONPATH": ""}
    if name == "ours":
        environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    print(f"{name} {number}: {answer if number >= 0 else answer[0]} s", flush=True)
    return answer


def word_grams(text: str) -> set[tuple[str, ...]]:
    """Word 5-grams, for the truth: by Python's own means; each Chinese character is a word."""
    words = re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", text.casefold())
    return {tuple(words[at : at + NGRAM]) for at in range(max(1, len(words) - NGRAM + 1))}


def jaccard(first: str, second: str) -> float:
    """Shared / all word 5-grams."""
    one, two = word_grams(first), word_grams(second)
    return len(one & two) / len(one | two)


def truth(rows: list[Row]) -> list[tuple[int, int, float]]:
    """Documents of the same cluster, and their Jaccard."""
    clusters: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row["cluster"]:
            clusters[row["cluster"]].append(number)
    return [
        (first, second, jaccard(rows[first]["text"], rows[second]["text"]))
        for group in clusters.values()
        for first, second in itertools.combinations(group, 2)
    ]


def unlike(rows: list[Row], gone: list[int]) -> int:
    """Removed documents that no kept document is like: no Jaccard of .5 or more."""
    holders: defaultdict[int, list[int]] = defaultdict(list)
    sizes = {}
    removed = {number: set(map(hash, word_grams(rows[number]["text"]))) for number in gone}
    wanted = set().union(*removed.values()) if removed else set()
    for number, row in enumerate(rows):
        if number not in removed:
            grams = set(map(hash, word_grams(row["text"])))
            sizes[number] = len(grams)
            for gram in grams & wanted:
                holders[gram].append(number)
    bad = 0
    for grams in removed.values():
        shared: defaultdict[int, int] = defaultdict(int)
        for gram in grams:
            for holder in holders.get(gram, ()):
                shared[holder] += 1
        best = (n / (len(grams) + sizes[holder] - n) for holder, n in shared.items())
        bad += max(best, default=0.0) < 0.5
    return bad


def found_of(pairs: list[tuple[int, int, float]], gone: set[int], low: float, high: float) -> str:
    """Of the true pairs with Jaccard in [low, high), how many lost one."""
    chosen = [pair for pair in pairs if low <= pair[2] < high]
    found = sum(first in gone or second in gone for first, second, _ in chosen)
    return f"{found} of {len(chosen)}"


def spread_of(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def report(options: argparse.Namespace, rows: list[Row], results: Row) -> str:
    """The results file."""
    pairs, sizes = truth(rows), results["sizes"]
    rate = {
        name: [size / cpu for size, cpu in zip(sizes, results[name], strict=True)]
        for name in ("ours", "datatrove")
    }
    ratio = [one / two for one, two in zip(rate["ours"], rate["datatrove"], strict=True)]
    rest = {name: results[f"rest {name}"][0] for name in rate}
    whole = {name: sum(sizes) / (sum(results[name]) + rest[name]) for name in rate}
    gone = {name: results[f"rest {name}"][1] for name in rate}
    lines = [
        ("n-grams and signatures, MB/CPU-s", *(spread_of(rate[name]) for name in rate)),
        ("all the rest, CPU-s", *(f"{rest[name]:.1f}" for name in rate)),
        ("whole, MB/CPU-s", *(f"{whole[name]:.2f}" for name in rate)),
        ("documents removed", *(str(len(gone[name])) for name in rate)),
        *(
            (label, *(found_of(pairs, set(gone[name]), low, high) for name in rate))
            for label, low, high in (
                ("true pairs found at Jaccard >= .8", 0.8, 2.0),
                ("true pairs found at .5 to .8", 0.5, 0.8),
                ("true pairs found below .5", 0.0, 0.5),
            )
        ),
        (
            "removed, and nothing kept has Jaccard >= .5",
            *(str(unlike(rows, gone[n])) for n in rate),
        ),
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    mine = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("numpy", "rensa", "xxhash"))
    code = (
        "import importlib.metadata as m; print(m.version('datatrove'), 'spacy', m.version('spacy'))"
    )
    theirs = subprocess.run(
        [options.datatrove, "-c", code], stdout=subprocess.PIPE, check=True, text=True
    )
    return f"""# MinHash deduplication, ours and datatrove's

Written by `python benchmarks/dedup.py --slices {options.slices} --every {options.every}`:
{len(rows)} documents, {sum(sizes):.1f} MB of UTF-8 text of `pretrain` and `dedup`, in {len(sizes)}
slices, one process and one core at a time. {platform.machine()}, {os.cpu_count()} cores, load
{os.getloadavg()[0]:.1f} at the end, Python {platform.python_version()}, {mine}; datatrove
{theirs.stdout.strip()}. Spread: least to most of the slices.

| | ours | datatrove |
|---|---:|---:|
{table}

Signatures: **{spread_of(ratio)} times** datatrove's speed; the whole:
{whole["ours"] / whole["datatrove"]:.1f} times.
Ours verifies each removal on the texts against a document that stays; that is in "all the rest".
Datatrove removes whatever a chain of shared buckets joins, unverified.
"""


def main() -> None:
    """Measure and write the results, or be one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--datatrove", default=os.environ.get("RAYLINE_DATATROVE_PYTHON"))
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--side")
    parser.add_argument("--slice", type=int, default=-1)
    parser.add_argument("--folder")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options)))
        return
    if not options.datatrove or not options.data:
        parser.error("--data and --datatrove (or RAYLINE_DATATROVE_PYTHON) are needed")
    rows = documents(options.data, options.every)
    rows = [row for n in range(options.slices) for row in rows[n :: options.slices]]
    ends = [len(rows) * n // options.slices for n in range(options.slices + 1)]
    slices = [[r["text"] for r in rows[a:b]] for a, b in itertools.pairwise(ends)]
    results: Row = {"sizes": [sum(len(t.encode()) for t in one) / 1e6 for one in slices]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "slices.json").write_text(json.dumps(slices))
        sides = ("ours", "datatrove")
        signed = [[measure(s, options, folder, n) for s in sides] for n in range(options.slices)]
        results |= dict(zip(sides, map(list, zip(*signed, strict=True)), strict=True))
        results |= {f"rest {name}": measure(name, options, folder, -1) for name in sides}
    text = report(options, rows, results)
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
