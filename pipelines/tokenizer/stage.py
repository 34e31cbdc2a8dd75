"""Corpus -> Tokenizer: the files of the transformers layout, and `report.json`.

The vocabulary is learnt in the driver: 20 MB of text, plenty for 8k to 32k entries, take less than
a minute.
"""

import json
import time
from pathlib import Path

from pipelines.core.errors import DataError
from pipelines.core.storage import scratch
from pipelines.core.workflow import Outcome, Step
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.load import encode_texts, open_tokenizer
from pipelines.tokenizer.train import sample, train

REPORT_TEXTS = 1000  # texts whose characters a token are reported


def make(config: TokenizerConfig, step: Step) -> Outcome:
    """Learn a tokenizer from the corpus's training texts and write it.

    Raises:
        DataError: the corpus has no training text.
    """
    corpus = step.inputs["corpus"]
    texts = sample(corpus, config.sample_chars)
    if not any(texts):
        raise DataError(
            f"{corpus.uri}: no text in split train, so there is no vocabulary to learn; "
            "expected at least one document: the corpus's report.json says what its rules removed"
        )
    started = time.perf_counter()
    tokenizer = train(config, texts)
    seconds = time.perf_counter() - started
    with scratch() as folder:
        tokenizer.save_pretrained(folder)
        metrics = _measure(folder, texts[:REPORT_TEXTS])
        step.out.put(Path(folder))
    characters = sum(map(len, texts))
    counts = {"vocabulary": len(tokenizer), "texts": len(texts), "characters": characters}
    report = json.dumps(counts | metrics, indent=1, sort_keys=True)
    step.out.write("report.json", report.encode())
    return Outcome(counts, metrics, {"characters_per_s": characters / seconds})


def _measure(folder: str, texts: list[str]) -> dict[str, float]:
    """Characters a token and the share of unknown tokens, of the tokenizer as it was saved."""
    tokenizer = open_tokenizer(folder)
    ids = [token for text in encode_texts(tokenizer, texts) for token in text]
    unknown = ids.count(tokenizer.unk_token_id)
    return {
        "characters_per_token": sum(map(len, texts)) / max(len(ids), 1),
        "unknown_share": unknown / max(len(ids), 1),
    }
