"""A tiny language of two kinds of sentences: its tokenizer, tokens and corpus."""

import io
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.encode import open_backend
from pipelines.tokenizer.train import train
from pipelines.tokens import shards
from pipelines.tokens.encode import encode
from pipelines.train import loop

WORDS = {
    "fish": ["water", "swims", "fins", "river", "scales", "boat"],
    "bird": ["air", "flies", "wing", "tree", "song", "nest"],
}


def texts(count: int) -> list[tuple[str, str]]:
    """Label and text: five to nine words of one kind in two sentences, from a fixed seed."""
    draw = random.Random(7)
    found = []
    for _ in range(count):
        label = draw.choice(sorted(WORDS))
        words = [draw.choice(WORDS[label]) for _ in range(draw.randint(5, 9))]
        found.append((label, f"{' '.join(words[:3])}. {' '.join(words[3:])}."))
    return found


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in every training process: sums over threads are in no fixed order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_measured_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second for each of a hundred runs, whose share of the peak no test looks at."""
    monkeypatch.setattr(loop, "peak_flops", lambda device, dtype: 1e9)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece tokenizer of the tiny language."""
    folder = tmp_path_factory.mktemp("tokenizer")
    config = TokenizerConfig(corpus="@none", vocab_size=300, max_length=32)
    train(config, [text for _, text in texts(200)]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokens_folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of 60 documents in rows of at most 16."""
    tokenizer = open_backend(tokenizer_folder)
    size = tokenizer.get_vocab_size()
    encoded = encode([(n, text) for n, (_, text) in enumerate(texts(60))], tokenizer, 16)
    folder = tmp_path_factory.mktemp("tokens")
    for name, data in shards.files(0, encoded, size).items():
        (folder / name).write_bytes(data)
    index = shards.index([encoded.counts], length=16, vocab_size=size, tokenizer="0" * 64)
    (folder / shards.INDEX).write_bytes(index)
    return folder


def corpus_part(rows: list[tuple[str | None, str]], split: str = "train") -> bytes:
    """A corpus part with the columns of docs/architecture.md."""
    table = pa.table(
        {
            "id": pa.array([f"tiny:{n}" for n in range(len(rows))], pa.string()),
            "text": pa.array([text for _, text in rows], pa.string()),
            "label": pa.array([label for label, _ in rows], pa.string()),
            "language": pa.array(["en"] * len(rows), pa.string()),
            "split": pa.array([split] * len(rows), pa.string()),
            "source": pa.array(["tiny"] * len(rows), pa.string()),
            "row": pa.array(range(len(rows)), pa.int64()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
