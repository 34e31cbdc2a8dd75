"""The quality model: learns from examples, repeats exactly, is a plain file."""

import gzip
import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.metrics import roc_auc_score

from pipelines.core.errors import DataError
from pipelines.corpus import dedup, quality

GOOD = [
    f"The report number {n} explains in clear prose how the river shaped the valley."
    for n in range(12)
]
BAD = [f"CLICK here buy now cheap pills {n} best price click here free" for n in range(12)]


@pytest.fixture(scope="module")
def model():
    return quality.train(GOOD, BAD)


def test_a_text_is_scored_by_what_it_is_like(model):
    words = dedup.Words()
    assert model.score("It explains how the valley was shaped by the river.", words) > 0.8
    assert model.score("buy cheap pills, click here", words) < 0.2
    assert model.score("", words) == 0.5
    assert 0 <= model.score("完全 unseen 字", words) <= 1


def test_the_same_examples_give_the_same_bytes_which_read_back(model, tmp_path):
    again = quality.train(GOOD, BAD)
    assert again.to_bytes() == model.to_bytes()
    (tmp_path / "model").write_bytes(model.to_bytes())
    copy = quality.load(str(tmp_path / "model"))
    assert copy.score(GOOD[0], dedup.Words()) == model.score(GOOD[0], dedup.Words())
    assert copy.bias == model.bias


def test_both_kinds_weigh_the_same_however_many_there_are():
    uneven = quality.train(GOOD * 5, BAD)
    assert uneven.score(BAD[0], dedup.Words()) < 0.2


def test_too_few_examples_are_refused():
    with pytest.raises(DataError, match="9 unwanted texts with words, expected at least 10"):
        quality.train(GOOD, [*BAD[:9], " "])


def test_a_file_that_hashes_words_otherwise_is_refused(model, tmp_path, monkeypatch):
    (tmp_path / "model").write_bytes(model.to_bytes())
    monkeypatch.setattr(quality, "BITS", 17)
    with pytest.raises(DataError, match="train it again"):
        quality.load(str(tmp_path / "model"))
    save_file({"weights": np.zeros(3, np.float32)}, tmp_path / "other")
    with pytest.raises(DataError, match="not a quality model"):
        quality.load(str(tmp_path / "other"))


def test_books_are_told_from_mail_and_blogs(shared_data):
    def texts(name):
        with gzip.open(shared_data / f"pretrain/{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            return [json.loads(line)["text"][:2000] for line in lines][:300]

    books, web = texts("en_books"), texts("en_web_ewt")
    model = quality.train(books[::2], web[::2])
    words = dedup.Words()
    scores = [model.score(text, words) for text in books[1::2] + web[1::2]]
    assert roc_auc_score([1] * 150 + [0] * 150, scores) > 0.95
