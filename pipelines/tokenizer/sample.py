"""A Corpus -> a sample of its training texts, spread over all of it.

A text is drawn by a hash of its characters: those with the smallest hashes fill the budget. So the
sample is a function of the set of documents alone; their order, the parts they lie in and the
number of workers that wrote them change nothing, and no source is left out because it sorts last.
"""

import heapq
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import xxhash

from pipelines.core.artifact import Artifact

BATCH = 256  # rows decoded at a time
# The most one document gives: a hundredth of the sample, so that no book fills it, but never less
# than a long article, so that small samples are of whole texts.
SHARE, ARTICLE = 100, 10_000


class Sampled(NamedTuple):
    """One drawn text, cut to its share, and its language."""

    text: str
    language: str


def sample(corpus: Artifact, characters: int) -> list[Sampled]:
    """Training texts of `characters` characters together, fewer if the corpus has fewer.

    In the order of their hashes, so any beginning of the list is a sample as well. Holds no more
    text at once than it returns and one document.
    """
    most = max(characters // SHARE, ARTICLE)
    drawn: list[tuple[int, Sampled]] = []  # a heap, the largest hash first
    total = 0
    for found in _training_texts(corpus):
        key = xxhash.xxh3_64_intdigest(found.text.encode())
        if total >= characters and -key < drawn[0][0]:
            continue
        kept = Sampled(found.text[:most], found.language)
        heapq.heappush(drawn, (-key, kept))
        total += len(kept.text)
        while total - len(drawn[0][1].text) >= characters:
            total -= len(heapq.heappop(drawn)[1].text)
    texts = [kept for _, kept in sorted(drawn, key=lambda item: (-item[0], item[1]))]
    if total > characters:
        texts[-1] = texts[-1]._replace(text=texts[-1].text[: characters - total])
    return texts


def open_part(corpus: Artifact, name: str) -> pq.ParquetFile:
    """A Parquet file of a corpus; one on this machine is not read into memory."""
    if corpus.store.is_local:
        return pq.ParquetFile(Path(corpus.local(), name))
    return pq.ParquetFile(io.BytesIO(corpus.read(name)))


def _training_texts(corpus: Artifact) -> Iterator[Sampled]:
    for name in corpus.files(".parquet"):
        if not name.startswith("data/"):
            continue
        with open_part(corpus, name) as file:
            for batch in file.iter_batches(BATCH, columns=["text", "language", "split"]):
                for row in batch.to_pylist():
                    if row["split"] == "train" and row["text"]:
                        yield Sampled(row["text"], row["language"])
