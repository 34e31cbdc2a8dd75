"""Encoding and writing token shards against datatrove's DocumentTokenizer, in one run.

    RAYLINE_DATATROVE_PYTHON=PYTHON python benchmarks/encode.py [ROUNDS]

writes benchmarks/encode.md, of three rounds unless told otherwise. PYTHON is the interpreter of an
environment with datatrove[processing,io]. Both read the same Parquet parts, encode by the same
byte-level BPE, close each document with <|endoftext|> and write two bytes a token and an index of
the documents. Ours is the task that Ray runs for a part, with all it writes; datatrove runs without
its shuffle, which ours has no need of because the order is drawn when rows are read. Every
measurement is a process of its own, one thread, CPU seconds from the first document on; the two
take turns.
"""

import gzip
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.artifact import Artifact, Workspace, commit, open_artifact
from pipelines.core.storage import Store, scratch
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.encode import open_backend
from pipelines.tokenizer.fast import Library, open_encoder
from pipelines.tokenizer.sample import sample
from pipelines.tokenizer.train import train
from pipelines.tokens import stage
from pipelines.tokens.config import TokensConfig
from pipelines.tokens.shards import shard

DATA = Path(os.environ.get("RAYLINE_DATA", Path(__file__).parents[2] / "shared" / "data"))
PEER = "RAYLINE_DATATROVE_PYTHON"
FOLDERS, PARTS, VOCABULARY, TRAINED_ON = ("pretrain", "dedup"), 4, 32_000, 10_000_000
WAYS = ("datatrove", "concat", "best-fit", "document")
ONCE = ("best-fit", "document")  # the other two take turns
ALONE = 8_000_000  # characters on which encoders alone are timed against the library
ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

NAMES = {"datatrove": "datatrove DocumentTokenizer"}
VERSIONS = (
    "import importlib.metadata as m; print(*(m.version(n) for n in ('datatrove', 'tokenizers')))"
)
COLUMNS = (
    "| encode and write | n | MB a CPU-second, median | lowest-highest | over datatrove |",
    "|---|---|---|---|---|",
)
ENCODER_COLUMNS = (
    "| kind | encoder | library | new | again | over the library | same ids |",
    "|---|---|---|---|---|---|---|",
)

DATATROVE = """
import sys, time
from loguru import logger
logger.remove()
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
parts, tokenizer, out = sys.argv[1:]
step = DocumentTokenizer(out, tokenizer, eos_token="<|endoftext|>", shuffle_documents=False)
step.tokenizer
reader = ParquetReader(parts, glob_pattern="*.parquet", batch_size=1000)
started = time.process_time()
step.run(reader.run(rank=0, world_size=1), 0, 1)
print(time.process_time() - started)
"""


def documents() -> list[dict[str, object]]:
    """The texts of the folders with their sources, in sorted order."""
    found: list[dict[str, object]] = []
    for file in sorted(path for name in FOLDERS for path in (DATA / name).glob("*.jsonl.gz")):
        with gzip.open(file) as lines:
            found += [
                {"id": f"{file.name}:{row}", "text": json.loads(line)["text"], "row": row}
                | {"split": "train", "source": file.name, "language": file.name[:2]}
                for row, line in enumerate(lines)
            ]
    return found


def committed(root: Path, kind: str, files: dict[str, bytes]) -> Artifact:
    """An artifact of the given files."""
    work = Workspace.take(Store.at(str(root / ".work" / kind)))
    for name, data in files.items():
        work.write(name, data)
    facts = {"kind": kind, "stage": kind.lower(), "name": kind.lower(), "fingerprint": "0" * 64}
    return commit(work, Store.at(str(root / kind)), facts | {"identity": {}, "inputs": {}})


def prepare(root: Path) -> tuple[Artifact, Artifact, float, int]:
    """A Corpus of all texts, a Tokenizer learnt from it, and the megabytes and documents."""
    found = documents()
    files = {}
    for part in range(PARTS):
        stream = pa.BufferOutputStream()
        rows = found[part * len(found) // PARTS : (part + 1) * len(found) // PARTS]
        pq.write_table(pa.Table.from_pylist(rows), stream, row_group_size=1000)
        files[f"data/part-{part:05d}.parquet"] = bytes(stream.getvalue().to_pybytes())
    corpus = committed(root, "Corpus", files)
    config = TokenizerConfig(corpus="-", kind="bpe", vocab_size=VOCABULARY)
    train(config, [text for text, _ in sample(corpus, TRAINED_ON)]).save_pretrained(root / "bpe")
    files = {path.name: path.read_bytes() for path in (root / "bpe").iterdir()}
    megabytes = sum(len(str(row["text"]).encode()) for row in found) / 1e6
    return corpus, committed(root, "Tokenizer", files), megabytes, len(found)


def encode_here(root: Path, packing: str, out: Path) -> None:
    """In a process of its own: every part's task, and the CPU seconds of it all."""
    corpus, tokenizer = (open_artifact(str(root / kind)) for kind in ("Corpus", "Tokenizer"))
    config = TokensConfig.model_validate({"corpus": "-", "tokenizer": "-", "packing": packing})
    config = config.model_copy(update={"length": 2048 if packing != "document" else 128})
    work = Workspace.take(Store.at(str(out)))
    started = time.process_time()
    for numbered in enumerate(corpus.files(".parquet")):
        stage._encode_part(config, corpus, tokenizer, work, True, numbered)
    print(time.process_time() - started)


def measured(name: str, root: Path) -> float:
    """CPU seconds of one process that encodes everything by `name` into `root/out/name`."""
    out = root / "out" / name
    if name == "datatrove":
        parts, tokenizer = root / "Corpus" / "data", root / "Tokenizer" / "tokenizer.json"
        command = [os.environ[PEER], "-c", DATATROVE, str(parts), str(tokenizer), str(out)]
    else:
        subprocess.run(["rm", "-rf", str(out)], check=True)
        command = [sys.executable, __file__, str(root), name, str(out)]
    done = subprocess.run(
        command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def differing(root: Path) -> tuple[int, int, int]:
    """Documents whose ids differ between the two; of those, with a special token's text; tokens."""
    (file,) = (root / "out" / "datatrove").glob("*.ds")
    theirs, ends = np.fromfile(file, np.uint16), np.fromfile(f"{file}.index", np.uint64)
    texts = [text for part in range(PARTS) for text in _texts(root, part)]
    ours = [ids for part in range(PARTS) for ids in _documents(root, part)]
    different = forged = start = 0
    for text, ids, end in zip(texts, ours, ends.tolist(), strict=True):
        if not np.array_equal(ids, theirs[start:end]):
            different += 1
            forged += "<|" in text
        start = end
    return different, forged, len(theirs)


def _texts(root: Path, part: int) -> list[str]:
    file = root / "Corpus" / "data" / f"part-{part:05d}.parquet"
    return list(pq.read_table(file, columns=["text"])["text"].to_pylist())


def _documents(root: Path, part: int) -> list[np.ndarray]:
    folder = root / "out" / "concat"
    found = []
    for counts in json.loads((folder / ".counts" / f"{part:05d}.json").read_bytes()):
        name = shard(counts["part"], counts["cut"])
        tokens, pieces = (np.load(folder / f"{kind}-{name}.npy") for kind in ("tokens", "pieces"))
        found += np.split(tokens, pieces[pieces[:, 2] == 0, 0][1:])
    return found


def alone(root: Path, corpus: Artifact) -> list[str]:
    """The table of encoders by themselves, against the library, for each kind of tokenizer."""
    texts = [text for text, _ in sample(corpus, ALONE)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    rows = []
    for kind in ("bpe", "wordpiece", "unigram"):
        folder = root / kind
        if not folder.exists():
            config = TokenizerConfig.model_validate(
                {"corpus": "-", "kind": kind, "vocab_size": VOCABULARY}
            )
            train(config, texts[: len(texts) // 4]).save_pretrained(folder)
        fast, library = open_encoder(folder), Library(open_backend(folder))
        rates, ids = [], []
        for encoder in (fast, fast, library):
            started = time.process_time()
            ids.append(
                [
                    found
                    for at in range(0, len(texts), 64)
                    for found in encoder.ids(texts[at : at + 64])
                ]
            )
            rates.append(megabytes / (time.process_time() - started))
        same = all(map(np.array_equal, ids[0], ids[2]))
        cold, warm, plain = rates
        cells = f"{plain:.1f} | {cold:.1f} | {warm:.1f} | {cold / plain:.1f}-{warm / plain:.1f}"
        rows.append(f"| {kind} | {fast.name} | {cells} | {'yes' if same else 'NO'} |")
    return rows


def machine() -> str:
    """The processor's name."""
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in facts if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0]}" if names else platform.machine()


def main(rounds: int) -> None:
    """Measure and write the results beside this file."""
    with scratch() as folder:
        root = Path(folder)
        corpus, _, megabytes, count = prepare(root)
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for turn in range(rounds):
            for name in WAYS:
                if turn == 0 or name not in ONCE:
                    seconds[name].append(measured(name, root))
        different, forged, tokens = differing(root)
        encoders = alone(root, corpus)
    peer = median(seconds["datatrove"])
    rows = [
        f"| {NAMES.get(name, f'ours, {name}')} | {len(taken)} | {megabytes / median(taken):.2f} "
        f"| {megabytes / max(taken):.2f}-{megabytes / min(taken):.2f} "
        f"| {peer / median(taken):.1f} |"
        for name, taken in seconds.items()
    ]
    theirs = subprocess.run(
        [os.environ[PEER], "-c", VERSIONS], capture_output=True, text=True, check=True
    )
    datatrove, tokenizers = theirs.stdout.split()
    head = (
        f"`{PEER}=... python benchmarks/encode.py`: {count:,} documents, {megabytes:.1f} MB of "
        f"UTF-8 text of {' and '.join(FOLDERS)}, byte-level BPE of {VOCABULARY:,} entries, "
        f"{tokens:,} tokens. One thread, a process each, in turns; {machine()}, Python "
        f"{platform.python_version()}, tiktoken {version('tiktoken')}, tokenizers "
        f"{version('tokenizers')}; datatrove {datatrove} with tokenizers {tokenizers}. Rows of "
        "2,048 tokens (concat, best-fit) and 128 (document)."
    )
    ids = (
        f"Ids differ in {different} of {count:,} documents; {forged} of those hold the text of a "
        "special token, which datatrove makes a special token and ours leaves text."
    )
    encoder_head = (
        f"Encoders alone on {ALONE / 1e6:.0f} million characters drawn from the same texts, MB a "
        "CPU-second, once: new, and when they have seen the texts before."
    )
    lines = ["# Encoding and writing token shards", "", head, "", *COLUMNS, *rows, "", ids, ""]
    text = "\n".join([*lines, encoder_head, "", *ENCODER_COLUMNS, *encoders, ""])
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        encode_here(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
    else:
        main(rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 3)
