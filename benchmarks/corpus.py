"""Raw JSON lines to token shards, ours and datatrove's, end to end on the same files in one run.

    RAYLINE_DATATROVE_PYTHON=PYTHON python benchmarks/corpus.py     writes benchmarks/corpus.md

Both read the files, apply FineWeb's chain (Gopher, C4, FineWeb quality), remove near-duplicates by
MinHash of word 5-grams (14 x 8), mask e-mail and IP addresses, encode by the same byte-level BPE
and write what they keep. Ours also repairs text, tells its language, verifies every near-duplicate,
keeps what it left out and commits by SHA-256: the corpus and the tokens stage as users run them, on
Ray with one CPU. Its seconds are those of all processes, Ray's own among them, from before the
first stage to after the second; datatrove's are of its one process. PYTHON is the interpreter of an
environment with `datatrove[processing,io]==0.10.*` and `spacy==3.8.*`.
"""

import argparse
import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

from pipelines.core import cluster
from pipelines.core.config import Placement
from pipelines.core.run import run
from pipelines.core.storage import scratch
from pipelines.core.workflow import Workflow
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.sources import Files
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokens.config import TokensConfig

DATA = Path(os.environ.get("RAYLINE_DATA", Path(__file__).parents[2] / "shared" / "data"))
PEER = "RAYLINE_DATATROVE_PYTHON"
FOLDERS = ("pretrain", "dedup")
ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

DATATROVE = """
import sys, time
from loguru import logger
logger.remove()
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature)
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import (
    C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import split_into_sentences, split_into_words
source, tokenizer, out = sys.argv[1:]
split_into_words("warm up."), split_into_sentences("warm up. now.")
started = time.process_time()
chain = [GopherRepetitionFilter, GopherQualityFilter,
         lambda **other: C4QualityFilter(filter_no_terminal_punct=False, **other),
         FineWebQualityFilter]
LocalPipelineExecutor(
    [JsonlReader(source, glob_pattern="*.jsonl.gz")]
    + [one(exclusion_writer=JsonlWriter(f"{out}/rejected/{n}")) for n, one in enumerate(chain)]
    + [JsonlWriter(f"{out}/clean")], tasks=1, workers=1, logging_dir=f"{out}/log").run()
config = MinhashConfig(
    hash_config=HashConfig(hash_fc="sha1", precision=64), num_buckets=14, hashes_per_bucket=8,
    n_grams=5)
clean = lambda: JsonlReader(f"{out}/clean").run(None, 0, 1)
MinhashDedupSignature(output_folder=f"{out}/signatures", config=config).run(clean(), 0, 1)
for rank in range(14):
    MinhashDedupBuckets(input_folder=f"{out}/signatures", output_folder=f"{out}/buckets",
                        config=config).run(None, rank, 14)
MinhashDedupCluster(input_folder=f"{out}/buckets", output_folder=f"{out}/removed",
                    config=config).run(None, 0, 1)
kept = MinhashDedupFilter(input_folder=f"{out}/removed").run(clean(), 0, 1)
step = DocumentTokenizer(f"{out}/tokens", tokenizer, eos_token="<|endoftext|>", seed=1)
step.run(PIIFormatter().run(kept, 0, 1), 0, 1)
seconds = time.process_time() - started
print(seconds, int(step.stats["tokens"].total))
"""


def gathered(folder: Path) -> float:
    """Copy every file of the data into one folder; returns MB of UTF-8 text in them."""
    size = 0
    for name in FOLDERS:
        for path in sorted((DATA / name).glob("*.jsonl.gz")):
            shutil.copy(path, folder)
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                size += sum(len(str(json.loads(line)["text"]).encode()) for line in lines)
    return size / 1e6


def prepared(source: Path, root: Path) -> Path:
    """A byte-level BPE of the files, the same for both sides; its folder."""
    flow = Workflow("prepare")
    everything = Files(paths=(str(source),))
    plain = CorpusConfig(sources=(everything,), rules=(), languages=(), near_duplicates=None)
    corpus = flow.add("all", plain)
    flow.add("bpe", TokenizerConfig(corpus=corpus, kind="bpe", vocab_size=32_000))
    made = run(flow, Placement(storage=str(root), cpus=1), [], session=cluster.session)
    return made["bpe"].local()


def ours(source: Path, tokenizer: str, root: Path) -> tuple[float, int]:
    """CPU seconds and tokens of our two stages."""
    flow = Workflow("ours")
    corpus = flow.add(
        "clean",
        CorpusConfig(
            sources=(Files(paths=(str(source),)),),
            rules=("gopher@fineweb", "c4", "fineweb"),
            languages=(),
            mask=("email", "ip"),
        ),
    )
    flow.add("tokens", TokensConfig(corpus=corpus, tokenizer=tokenizer, packing="concat"))
    placement = Placement(storage=str(root), cpus=1)
    with cluster.session(placement):
        before = cpu_seconds()
        made = run(flow, placement, [], session=cluster.session)
        seconds = cpu_seconds() - before
    return seconds, made["tokens"].manifest.counts["tokens"]


def cpu_seconds() -> float:
    """Of this process and all below it."""
    everyone = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in everyone if one.is_running())


def theirs(python: str, source: Path, tokenizer: Path, out: Path) -> tuple[float, int]:
    """CPU seconds and tokens of datatrove."""
    command = [python, "-c", DATATROVE, str(source), str(tokenizer / "tokenizer.json"), str(out)]
    done = subprocess.run(
        command,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds, tokens = done.stdout.split()[-2:]
    return float(seconds), int(tokens)


def main() -> None:
    """Run both sides in turn, and write the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--datatrove", default=os.environ.get(PEER))
    chosen = options.parse_args()
    if not chosen.datatrove:
        sys.exit(f"give --datatrove, or {PEER}: the interpreter that has datatrove")
    os.environ.update(ONE_THREAD)
    found: dict[str, list[tuple[float, int]]] = {"ours": [], "datatrove": []}
    with scratch() as folder:
        root = Path(folder)
        source = root / "source"
        source.mkdir()
        size = gathered(source)
        tokenizer = prepared(source, root / "prepare")
        for number in range(chosen.rounds):
            found["ours"].append(ours(source, str(tokenizer), root / f"ours-{number}"))
            out = root / f"datatrove-{number}"
            found["datatrove"].append(theirs(chosen.datatrove, source, tokenizer, out))
            print({name: runs[-1] for name, runs in found.items()}, flush=True)
    text = report(size, found)
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


def report(size: float, found: dict[str, list[tuple[float, int]]]) -> str:
    """The results file."""
    speeds = {name: [size / run[0] for run in runs] for name, runs in found.items()}
    ratios = [one / other for one, other in zip(*speeds.values(), strict=True)]
    rows = [
        f"| {name} | {median(speeds[name]):.2f} | {min(speeds[name]):.2f}-{max(speeds[name]):.2f} "
        f"| {runs[-1][1]:,} |"
        for name, runs in found.items()
    ]
    head = (
        f"`python benchmarks/corpus.py --rounds {len(ratios)}` on {size:.1f} MB of UTF-8 text, one "
        f"core; {platform.machine()}, Python {platform.python_version()}, ray {version('ray')}, "
        f"{time.strftime('%Y-%m-%d')}."
    )
    columns = [
        "| side | MB per CPU-second, median | least-most | tokens |",
        "|---|---:|---:|---:|",
    ]
    last = f"Ours is {median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})."
    return "\n".join(["# Raw text to token shards", "", head, "", *columns, *rows, "", last, ""])


if __name__ == "__main__":
    main()
