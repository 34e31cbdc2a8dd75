"""Token shards: the files of a Tokens artifact, written from `Encoded` rows and read by mmap.

One shard a corpus part; every array is a little-endian `.npy` file. Nothing in it knows an
objective: special tokens, masks and pairs are the task's.

    tokens-00000.npy     uint16, or uint32 from 65,536 entries on: all tokens, end to end
    rows-00000.npy       int64 (rows + 1, 3): a row's first token, its first sentence, and the place
                         of its document in the corpus part; the last record closes the last row
    sentences-00000.npy  uint32: where each sentence starts, counted from its row's first token
    index.json           format, length, vocab_size, dtype, tokenizer (its digest), and for each
                         shard its documents, sentences, rows and tokens

So row r has the tokens `tokens[rows[r, 0] : rows[r + 1, 0]]` and its sentences start at
`sentences[rows[r, 1] : rows[r + 1, 1]]`, the first at 0.
"""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import ArtifactError
from pipelines.tokens.encode import Encoded

FORMAT = 1
INDEX = "index.json"
ARRAYS = ("tokens", "rows", "sentences")


def dtype(vocab_size: int) -> str:
    """The narrowest type that holds every id of a vocabulary."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


def files(number: int, encoded: Encoded, vocab_size: int) -> dict[str, bytes]:
    """The files of shard `number`, by name."""
    arrays = (
        encoded.tokens.astype(dtype(vocab_size)),
        encoded.rows.astype("<i8"),
        encoded.sentences.astype("<u4"),
    )
    return {name: _npy(array) for name, array in zip(_names(number), arrays, strict=True)}


def index(shards: list[dict[str, int]], *, length: int, vocab_size: int, tokenizer: str) -> bytes:
    """The content of `index.json`; `shards` are the counts of each shard, in order."""
    facts = {
        "format": FORMAT,
        "length": length,
        "vocab_size": vocab_size,
        "dtype": dtype(vocab_size),
        "tokenizer": tokenizer,
        "shards": shards,
    }
    return json.dumps(facts, indent=1, sort_keys=True).encode()


class Row(NamedTuple):
    """One row: its token ids and where its sentences start, the first at 0."""

    ids: NDArray[np.unsignedinteger[Any]]
    sentences: NDArray[np.uint32]


class Tokens:
    """The rows of a Tokens folder, numbered through all shards; a shard opens at its first row.

    It pickles by its folder. The arrays it returns are read-only views of the files.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        facts = _read_index(self.folder)
        self.length: int = facts["length"]
        self.vocab_size: int = facts["vocab_size"]
        self._ends = np.cumsum([shard["rows"] for shard in facts["shards"]], dtype=np.int64)
        self._open: dict[int, tuple[NDArray[Any], ...]] = {}

    def __reduce__(self) -> tuple[type["Tokens"], tuple[Path]]:
        return Tokens, (self.folder,)

    @property
    def num_rows(self) -> int:
        """Rows in all shards."""
        return int(self._ends[-1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every row, special tokens not counted: (num_rows,)."""
        return np.concatenate([np.diff(self._shard(k)[1][:, 0]) for k in range(len(self._ends))])

    @property
    def documents(self) -> NDArray[np.int64]:
        """A number for every row, equal for rows of one document: (num_rows,)."""
        parts = [self._shard(k)[1][:-1, 2] + (k << 32) for k in range(len(self._ends))]
        return np.concatenate(parts)

    def row(self, number: int) -> Row:
        """Row `number`, 0 to num_rows - 1."""
        if not 0 <= number < self.num_rows:
            raise IndexError(f"row {number}: {self.folder} has rows 0 to {self.num_rows - 1}")
        shard = int(np.searchsorted(self._ends, number, side="right"))
        tokens, rows, sentences = self._shard(shard)
        inner = number - (int(self._ends[shard - 1]) if shard else 0)
        token, sentence = rows[inner, :2].tolist()
        next_token, next_sentence = rows[inner + 1, :2].tolist()
        return Row(tokens[token:next_token], sentences[sentence:next_sentence])

    def _shard(self, number: int) -> tuple[NDArray[Any], ...]:
        if number not in self._open:
            paths = [self.folder / name for name in _names(number)]
            # A plain view: slicing np.memmap itself costs several times as much.
            self._open[number] = tuple(np.asarray(np.load(path, mmap_mode="r")) for path in paths)
        return self._open[number]


def _names(number: int) -> tuple[str, ...]:
    return tuple(f"{name}-{number:05d}.npy" for name in ARRAYS)


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / INDEX).read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise ArtifactError(f"{folder}: no readable {INDEX}: {error}; expected Tokens") from None
    if facts.get("format") != FORMAT:
        raise ArtifactError(
            f"{folder}: Tokens of format {facts.get('format')}, expected {FORMAT}; make them anew"
        )
    return facts
