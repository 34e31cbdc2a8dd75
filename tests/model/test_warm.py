"""Tokens that keep the same company start near each other; the same bytes whatever the threads."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pipelines.core.artifact import Workspace
from pipelines.core.storage import Store
from pipelines.model import warm
from pipelines.model.warm import embeddings, information
from pipelines.tokens import shards
from pipelines.tokens.encode import Encoded
from pipelines.tokens.shards import Tokens

VOCABULARY = 40


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Rows of one of two topics: ids 5..14 or 20..29, and id 3 in every row."""
    folder = tmp_path_factory.mktemp("tokens")
    draw = np.random.Generator(np.random.PCG64(0))
    rows = [
        np.append(draw.choice(np.arange(low, low + 10), 6, replace=False), 3)
        for low in draw.choice([5, 20], 400)
    ]
    starts = np.cumsum([0, *map(len, rows)])
    records = np.stack([starts, np.arange(len(starts)), np.arange(len(starts))], axis=1)
    encoded = Encoded(np.concatenate(rows), records, np.zeros(len(rows)))
    for name, data in shards.files(0, encoded, VOCABULARY).items():
        (folder / name).write_bytes(data)
    counts = {"documents": len(rows), "sentences": len(rows), "rows": len(rows), "tokens": 2800}
    index = shards.index([counts], length=16, vocab_size=VOCABULARY, tokenizer="0")
    (folder / "index.json").write_bytes(index)
    return Tokens(folder)


def cosine(one, other):
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def test_information_is_the_log_ratio_worked_out_by_hand(tokens):
    present = np.zeros((tokens.num_rows, VOCABULARY))
    for row in range(tokens.num_rows):
        present[row, tokens.row(row).ids] = 1
    together = present.T @ present
    totals = together.sum(axis=1)
    context = totals[7] ** 0.75 / (totals**0.75).sum()
    expected = np.log(together[6, 7] / (totals[6] * context))
    assert expected > 0
    assert information(tokens)[6, 7] == pytest.approx(expected)


def test_tokens_of_one_topic_are_near_and_of_two_are_not(tokens):
    found = embeddings(tokens, 4, seed=0)
    assert found.shape == (VOCABULARY, 4)
    assert cosine(found[6], found[9]) > 0.8
    assert cosine(found[6], found[22]) < 0.3


def test_the_spread_is_the_stated_one(tokens):
    assert embeddings(tokens, 4, seed=0).std() == pytest.approx(0.2)


def test_a_token_that_never_occurs_starts_at_nothing(tokens):
    assert np.abs(embeddings(tokens, 4, seed=0)[35]).max() < 1e-5


def test_a_retry_uses_what_an_earlier_try_left(tokens, tmp_path):
    out = Workspace.take(Store.at(str(tmp_path)))
    warm.write(tokens, 4, 0, out)
    np.testing.assert_array_equal(warm.read(out), embeddings(tokens, 4, seed=0))
    warm.write(tokens, 4, 1, out)  # had it been worked out again, this seed would show
    np.testing.assert_array_equal(warm.read(out), embeddings(tokens, 4, seed=0))


def test_the_bytes_do_not_depend_on_the_number_of_threads(tokens):
    code = (
        "import sys; from pipelines.model.warm import embeddings\n"
        "from pipelines.tokens.shards import Tokens; import hashlib\n"
        f"print(hashlib.sha256(embeddings(Tokens({str(tokens.folder)!r}), 4, 0)).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for count in ("1", "2")
    }
    assert len(seen) == 1
