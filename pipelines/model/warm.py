"""Tokens -> embeddings (V, D) to start from: which tokens occur together, before any training.

Positive pointwise mutual information of tokens in one row, factorised by a truncated SVD. Skip-gram
with negative sampling learns such a factorisation implicitly; computing it takes seconds, where the
first minutes of masked-word training on a CPU yield little more than word frequencies.

Source: Levy and Goldberg 2014, section 3 (PMI); Levy, Goldberg and Dagan 2015, section 3.1 (context
smoothing) and 3.3 (the square root of the singular values).
"""

import io

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from pipelines.core.artifact import Workspace
from pipelines.tokens.shards import Tokens

SMOOTHING = 0.75  # of context frequencies; Levy et al. 2015, section 3.1
SPREAD = 0.2  # standard deviation of the result: above the positions', which are added to it
BLOCK = 20_000  # rows counted at a time: about 100 MB of pairs
POWER_ITERATIONS = 3
FILE = ".warm/embeddings.npy"

Floats = NDArray[np.float32]


def embeddings(tokens: Tokens, width: int, seed: int) -> Floats:
    """Embeddings (V, `width`) of the vocabulary, fp32, by co-occurrence in the rows of `tokens`.

    One thread, because the order of additions in a matrix product depends on their number.
    """
    with threadpool_limits(limits=1):
        left_VD, strengths_D, _ = randomized_svd(
            information(tokens), width, n_iter=POWER_ITERATIONS, random_state=seed
        )
    found_VD = np.asarray(left_VD * np.sqrt(strengths_D), np.float32)
    return found_VD * np.float32(SPREAD / (found_VD.std() or 1.0))


def information(tokens: Tokens) -> sparse.csr_matrix:
    """Positive pointwise mutual information (V, V) of two tokens in one row."""
    together = _together(tokens).tocoo()
    totals_V = np.asarray(together.sum(axis=1)).ravel()
    smooth_V = totals_V**SMOOTHING
    contexts_V = np.maximum(smooth_V / smooth_V.sum(), np.finfo(np.float64).tiny)
    ratio = together.data / (totals_V[together.row] * contexts_V[together.col])
    kept = ratio > 1
    places = (together.row[kept], together.col[kept])
    return sparse.csr_matrix((np.log(ratio[kept]), places), shape=together.shape)


def write(tokens: Tokens, width: int, seed: int, out: Workspace) -> None:
    """Leave the embeddings in the workspace, if an earlier try has not."""
    if not out.exists(FILE):
        buffer = io.BytesIO()
        np.save(buffer, embeddings(tokens, width, seed))
        out.write(FILE, buffer.getvalue())


def read(out: Workspace) -> Floats:
    """What `write` left."""
    found: Floats = np.load(io.BytesIO(out.read(FILE)))
    return found


def _together(tokens: Tokens) -> sparse.csr_matrix:
    """In how many rows two tokens both occur (V, V)."""
    size = tokens.vocab_size
    counted = sparse.csr_matrix((size, size), dtype=np.float64)
    for start in range(0, tokens.num_rows, BLOCK):
        rows = range(start, min(start + BLOCK, tokens.num_rows))
        distinct = [np.unique(tokens.row(row).ids) for row in rows]
        ends = np.cumsum([0, *map(len, distinct)])
        places = np.concatenate(distinct).astype(np.int64)
        present = sparse.csr_matrix((np.ones(len(places)), places, ends), (len(distinct), size))
        counted = counted + present.T @ present
    return counted
