"""The sample: all of the corpus has its chance, and nothing but the set of documents matters."""

import io
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.artifact import Artifact
from pipelines.tokenizer.sample import ARTICLE, sample

Make = Callable[..., Artifact]


def part(*rows: tuple[str, str]) -> bytes:
    buffer = io.BytesIO()
    table = {
        "text": [text for text, _ in rows],
        "split": [split for _, split in rows],
        "language": ["zh" if text[:1] > "z" else "en" for text, _ in rows],
    }
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()


def corpus(make_artifact: Make, texts: list[str], parts: int, name: str) -> Artifact:
    files = {
        f"data/part-{n:05d}.parquet": part(*((text, "train") for text in texts[n::parts]))
        for n in range(parts)
    }
    return make_artifact("Corpus", "corpus", files, name=name)


def test_only_training_texts_of_the_corpus_are_drawn(make_artifact: Make) -> None:
    files = {
        "data/part-00000.parquet": part(("one", "train"), ("held out", "test"), ("", "train")),
        "data/part-00001.parquet": part(("二", "train")),
        "rejected/part-00000.parquet": part(("spam", "train")),
    }
    drawn = sample(make_artifact("Corpus", "corpus", files), 100)
    assert sorted(drawn) == [("one", "en"), ("二", "zh")]


def test_order_and_parts_do_not_change_the_sample(make_artifact: Make) -> None:
    texts = [f"document {number}" for number in range(400)]
    one = sample(corpus(make_artifact, texts, 1, "one"), 1000)
    other = sample(corpus(make_artifact, texts[::-1], 7, "other"), 1000)
    assert one == other
    assert sum(len(text) for text, _ in one) == 1000


def test_the_sample_is_spread_over_the_corpus_and_not_its_beginning(make_artifact: Make) -> None:
    """A quarter of 4,000 documents: each tenth of the corpus gives a tenth of it, give or take.

    100 expected of 400, so a standard deviation of 9; five of them are allowed.
    """
    texts = [f"document {number:04d}" for number in range(4000)]
    drawn = sample(corpus(make_artifact, texts, 3, "corpus"), 13 * 1000)
    tenths = [sum(int(text[-4:]) // 400 == n for text, _ in drawn) for n in range(10)]
    assert sum(tenths) == 1000
    assert all(55 <= count <= 145 for count in tenths)


def test_one_long_document_does_not_fill_the_sample(make_artifact: Make) -> None:
    texts = ["x" * 10 * ARTICLE, *(f"short {n}" for n in range(10))]
    drawn = sample(corpus(make_artifact, texts, 1, "corpus"), 20 * ARTICLE)
    assert max(len(text) for text, _ in drawn) == ARTICLE
    assert len(drawn) == 11


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(st.text("abc狐", min_size=1, max_size=9), min_size=1, max_size=40),
    budget=st.integers(1, 120),
)
def test_it_has_as_much_text_as_asked_for_or_there_is(
    texts: list[str], budget: int, make_artifact: Make
) -> None:
    name = f"{hash((tuple(texts), budget))}"
    drawn = sample(corpus(make_artifact, texts, 2, name), budget)
    assert sum(len(text) for text, _ in drawn) == min(budget, sum(map(len, texts)))
    assert all(text for text, _ in drawn)
    whole = [text for text, _ in drawn[:-1]]
    assert all(texts.count(text) >= whole.count(text) for text in whole)
