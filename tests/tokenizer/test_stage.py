"""The tokenizer stage, run without a cluster: it needs none."""

import io
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from pipelines.core.artifact import Artifact
from pipelines.core.errors import DataError
from pipelines.core.workflow import Step
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.stage import make

CONFIG = TokenizerConfig(corpus="@corpus", vocab_size=300, sample_chars=1000)


def parquet(texts: list[str], split: str) -> bytes:
    buffer = io.BytesIO()
    columns = {"text": texts, "split": [split] * len(texts), "language": ["en"] * len(texts)}
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_it_writes_a_loadable_tokenizer_and_says_what_it_read(
    make_artifact: Callable[..., Artifact], step_for: Callable[..., Step], texts: list[str]
) -> None:
    corpus = make_artifact("Corpus", "corpus", {"data/part-00000.parquet": parquet(texts, "train")})
    step = step_for(CONFIG, {"corpus": corpus})
    outcome = make(CONFIG, step)
    assert set(step.out.names()) == {
        ".epoch",
        "report.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    tokenizer = AutoTokenizer.from_pretrained(step.out.store.uri)
    characters = sum(map(len, texts))
    assert outcome.counts == {
        "vocabulary": len(tokenizer),
        "texts": len(texts),
        "characters": characters,
    }
    num_tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    assert outcome.metrics["characters_per_token"] == characters / num_tokens
    report = json.loads(step.out.read("report.json"))
    languages = report.pop("languages")
    assert report == outcome.counts | outcome.metrics
    assert list(languages) == ["en"]
    assert languages["en"]["tokens_per_word"] == outcome.metrics["tokens_per_word"]


def test_two_runs_write_the_same_bytes(
    make_artifact: Callable[..., Artifact], step_for: Callable[..., Step], texts: list[str]
) -> None:
    corpus = make_artifact("Corpus", "corpus", {"data/part-00000.parquet": parquet(texts, "train")})
    written = []
    for name in ("first", "second"):
        step = step_for(CONFIG, {"corpus": corpus}, name)
        make(CONFIG, step)
        names = [name for name in step.out.names() if not name.startswith(".")]
        written.append({name: step.out.read(name) for name in names})
    assert len(written[0]) == 3
    assert written[0] == written[1]


def test_a_corpus_with_no_training_text_is_an_error(
    make_artifact: Callable[..., Artifact], step_for: Callable[..., Step]
) -> None:
    files = {"data/part-00000.parquet": parquet(["held out"], "test")}
    step = step_for(CONFIG, {"corpus": make_artifact("Corpus", "corpus", files)})
    with pytest.raises(DataError, match="no text in split train"):
        make(CONFIG, step)
