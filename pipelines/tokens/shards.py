"""Token shards: the files of a Tokens artifact, written from `Encoded` rows and read by mmap.

One or more shards a corpus part; every array is a little-endian `.npy` file. Nothing in it knows an
objective: special tokens, masks and pairs are the task's.

    tokens-00000.npy     uint16, or uint32 from 65,536 entries on: all tokens, end to end
    rows-00000.npy       int64 (rows + 1, 3): a row's first token, its first sentence (or piece),
                         and the place of its (first) document in the corpus part; the last record
                         closes the last row
    sentences-00000.npy  packing=document. uint32: where each sentence starts, counted from its
                         row's first token
    pieces-00000.npy     other packings. int64 (pieces, 3): a piece is a run of one document's
                         tokens in one row; its first token, the document's place, and which of the
                         document's tokens that is
    documents-00000.parquet  where each document comes from: see `lineage.py`
    megatron-00000.bin, megatron-00000.idx  if asked for: see `megatron.py`
    index.json           format, packing, length, vocab_size, dtype, tokenizer (its digest), the id
                         that ends a document (null for packing=document), and for each shard its
                         documents, sentences or pieces, rows and tokens

The shards of part 3 are numbered 00003, 00003-1, 00003-2 and so on. Row r has the tokens
`tokens[rows[r, 0] : rows[r + 1, 0]]` and its sentences start at
`sentences[rows[r, 1] : rows[r + 1, 1]]`, the first at 0.
"""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import ArtifactError
from pipelines.tokens.config import Packing
from pipelines.tokens.encode import Encoded

FORMAT = 2
INDEX = "index.json"


def dtype(vocab_size: int) -> str:
    """The narrowest type that holds every id of a vocabulary."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


def shard(part: int, cut: int = 0) -> str:
    """The name of the shard that holds the documents of corpus part `part` from cut `cut` on."""
    return f"{part:05d}-{cut}" if cut else f"{part:05d}"


def documents_file(name: str) -> str:
    """The file that says where the documents of a shard come from."""
    return f"documents-{name}.parquet"


def files(part: int, encoded: Encoded, vocab_size: int, cut: int = 0) -> dict[str, bytes]:
    """The arrays of a shard, by file name."""
    arrays: dict[str, NDArray[Any]] = {
        "tokens": encoded.tokens.astype(dtype(vocab_size), copy=False),
        "rows": encoded.rows.astype("<i8", copy=False),
    }
    if encoded.pieces is None:
        arrays["sentences"] = encoded.sentences.astype("<u4", copy=False)
    else:
        arrays["pieces"] = encoded.pieces.astype("<i8", copy=False)
    name = shard(part, cut)
    return {f"{kind}-{name}.npy": _npy(array) for kind, array in arrays.items()}


def index(
    shards: list[dict[str, int]],
    *,
    length: int,
    vocab_size: int,
    tokenizer: str,
    packing: Packing = "document",
    end: int | None = None,
) -> bytes:
    """The content of `index.json`.

    Args:
        shards: the counts of each shard, in order; where a part has several or none, they also say
            `part` and `cut`.
        length: most tokens a row.
        vocab_size: entries of the vocabulary.
        tokenizer: the digest of the tokenizer.
        packing: how rows were made.
        end: the id that closes each document; None if nothing does.
    """
    facts = {
        "format": FORMAT,
        "packing": packing,
        "length": length,
        "vocab_size": vocab_size,
        "dtype": dtype(vocab_size),
        "tokenizer": tokenizer,
        "end": end,
        "shards": shards,
    }
    return json.dumps(facts, indent=1, sort_keys=True).encode()


class Row(NamedTuple):
    """One row: its token ids and where its sentences start, the first at 0."""

    ids: NDArray[np.unsignedinteger[Any]]
    sentences: NDArray[np.uint32]


class Piece(NamedTuple):
    """Tokens `start` to `end` of a row: those from `first` on of the document at `place`."""

    start: int
    end: int
    place: int
    first: int


class Tokens:
    """The rows of a Tokens folder, numbered through all shards; a shard opens at its first row.

    It pickles by its folder. The arrays it returns are read-only views of the files.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        facts = _read_index(self.folder)
        self.length: int = facts["length"]
        self.vocab_size: int = facts["vocab_size"]
        self.packing: Packing = facts["packing"]
        self.end: int | None = facts["end"]
        self._names = [
            shard(counts.get("part", number), counts.get("cut", 0))
            for number, counts in enumerate(facts["shards"])
        ]
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
        """Row `number`, 0 to num_rows - 1; its pieces' starts stand for sentences' if packed."""
        shard_number, inner = self._place(number)
        tokens, rows, inside = self._shard(shard_number)
        token, head = rows[inner, :2].tolist()
        next_token, next_head = rows[inner + 1, :2].tolist()
        starts = inside[head:next_head]
        if starts.ndim == 2:
            starts = (starts[:, 0] - token).astype(np.uint32)
        return Row(tokens[token:next_token], starts)

    def pieces(self, number: int) -> list[Piece]:
        """The runs of one document's tokens that make up row `number`, in its order."""
        shard_number, inner = self._place(number)
        _, rows, inside = self._shard(shard_number)
        (token, head, place), (next_token, next_head, _) = rows[inner : inner + 2].tolist()
        if inside.ndim == 1:
            first = np.searchsorted(rows[:-1, 2], place)  # rows of a document follow each other
            return [Piece(0, next_token - token, place, token - int(rows[first, 0]))]
        records = inside[head:next_head].tolist()
        ends = [*(record[0] for record in records[1:]), next_token]
        return [
            Piece(start - token, end - token, place, first)
            for (start, place, first), end in zip(records, ends, strict=True)
        ]

    def boundaries(self, number: int) -> NDArray[np.int32]:
        """Where each document starts in row `number`, then its length: (pieces + 1,).

        What attention kernels of variable length call `cu_seqlens`.
        """
        pieces = self.pieces(number)
        return np.array([*(piece.start for piece in pieces), pieces[-1].end], np.int32)

    def shard_of(self, number: int) -> str:
        """The name of the shard that holds row `number`."""
        return self._names[self._place(number)[0]]

    def _place(self, number: int) -> tuple[int, int]:
        """The number of the shard of a row, and the row's number in it."""
        if not 0 <= number < self.num_rows:
            raise IndexError(f"row {number}: {self.folder} has rows 0 to {self.num_rows - 1}")
        found = int(np.searchsorted(self._ends, number, side="right"))
        return found, number - (int(self._ends[found - 1]) if found else 0)

    def _shard(self, number: int) -> tuple[NDArray[Any], ...]:
        if number not in self._open:
            kinds = ("tokens", "rows", "sentences" if self.packing == "document" else "pieces")
            paths = [self.folder / f"{kind}-{self._names[number]}.npy" for kind in kinds]
            # A plain view: slicing np.memmap itself costs several times as much.
            self._open[number] = tuple(np.asarray(np.load(path, mmap_mode="r")) for path in paths)
        return self._open[number]


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
