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
from pipelines.tokenizer.fast import open_encoder
from pipelines.tokenizer.fertility import fertility
from pipelines.tokenizer.sample import Sampled, sample
from pipelines.tokenizer.train import train


def make(config: TokenizerConfig, step: Step) -> Outcome:
    """Learn a tokenizer from the corpus's training texts and write it.

    `report.json` says for each language of the sample how finely it is cut.

    Raises:
        DataError: the corpus has no training text.
        ConfigError: the entries do not suffice.
    """
    corpus = step.inputs["corpus"]
    drawn = sample(corpus, config.sample_chars)
    if not drawn:
        raise DataError(
            f"{corpus.uri}: no text in split train, so there is no vocabulary to learn; "
            "expected at least one document: the corpus's report.json says what its rules removed"
        )
    started = time.perf_counter()
    tokenizer = train(config, [text for text, _ in drawn])
    seconds = time.perf_counter() - started
    with scratch() as folder:
        tokenizer.save_pretrained(folder)
        languages = _languages(Path(folder), tokenizer.unk_token_id, drawn)
        step.out.put(Path(folder))
    characters = sum(len(text) for text, _ in drawn)
    counts = {"vocabulary": len(tokenizer), "texts": len(drawn), "characters": characters}
    everything = languages.pop("all")
    names = ("characters_per_token", "tokens_per_word", "unknown_share")
    metrics = {name: everything[name] for name in names}
    report = json.dumps(counts | metrics | {"languages": languages}, indent=1, sort_keys=True)
    step.out.write("report.json", report.encode())
    return Outcome(counts, metrics, {"characters_per_s": characters / seconds})


def _languages(folder: Path, unknown: int, drawn: list[Sampled]) -> dict[str, dict[str, float]]:
    """The report of each language, of the tokenizer as it was saved."""
    found = fertility(open_encoder(folder), unknown, drawn)
    return {language: counted.facts for language, counted in found.items()}
