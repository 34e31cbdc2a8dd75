"""A small tokenizer of each kind, and corpora made by hand."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.encode import open_backend
from pipelines.tokenizer.train import train

TEXT = (
    "The fox ran. The dog slept! Did the fox see the dog? Nobody knows [SEP] it.\n"
    "狐狸跑了。狗睡着了！谁知道呢？\n"
)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The saved tokenizer of each kind."""
    made = {}
    for kind in ("wordpiece", "bpe", "unigram"):
        made[kind] = tmp_path_factory.mktemp(kind)
        config = TokenizerConfig.model_validate({"corpus": "-", "kind": kind, "vocab_size": 300})
        train(config, [TEXT] * 3).save_pretrained(made[kind])
    return made


@pytest.fixture(scope="session", params=["wordpiece", "bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Tokenizer:
    """Each kind in turn."""
    return open_backend(folders[request.param])


@pytest.fixture(scope="session")
def parts() -> dict[str, bytes]:
    """Three corpus parts: 24 training documents, every fourth of 32 in split test."""
    return {f"data/part-{number:05d}.parquet": _part(number) for number in range(3)}


def _part(number: int) -> bytes:
    rows = range(number * 11, min(number * 11 + 11, 32))
    table = {
        "text": [TEXT * (row % 5 + 1) for row in rows],
        "split": ["test" if row % 4 == 3 else "train" for row in rows],
        "id": [f"raw.jsonl:{row}" for row in rows],
        "source": ["raw.jsonl"] * len(rows),
        "row": list(rows),
        "offset": [1000 * row for row in rows],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()
