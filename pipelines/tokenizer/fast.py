"""A tokenizer folder -> an encoder of many texts, several times as fast as the library by itself.

Byte-level BPE goes to tiktoken, which holds our merges and no special token at all. WordPiece and
Unigram texts are cut into units where no tokenizer of the kind ever joins two (at white space and,
for WordPiece, around what BERT splits off), each distinct unit is encoded once, and a dictionary
gives the rest. In front of tiktoken the same dictionary gained nothing on 70 MB of mixed text: a
rare word costs more alone than in its text.

The library's ids are the reference. A tokenizer that is not exactly of a kind known here is left
to the library, and `disagreement` shows on real texts that the others give its ids.
"""

import itertools
import json
import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import tiktoken
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipelines.tokenizer.encode import FILE, open_backend, plain_ids

Ids = NDArray[np.unsignedinteger[Any]]
Json = dict[str, Any]

# Radford et al. 2019, their encoder.py: how byte-level BPE splits a text before any merge.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# tiktoken's regular expressions overflow their stack on a million spaces; 100,000 were fine.
LONG_BLANK = 10_000
WORD_UNIT = re.compile(r"\S+")
# BERT splits off punctuation and Han characters; these are common enough to be units themselves.
BERT_ALONE = r"!-/:-@\[-`{-~、。，！？：；“”‘’《》（）\u4e00-\u9fff"
# Not \s: BERT drops line tabulations and form feeds without splitting there.
BERT_BLANK = " \t\n\r\xa0\u3000"
BERT_UNIT = re.compile(rf"[^{BERT_BLANK}{BERT_ALONE}]+|[{BERT_ALONE}]")
# Python counts the first four as white space, Unicode and with it the tokenizers do not; the last
# is what Unigram writes for a space.
ODD = re.compile("[\x1c-\x1f▁]")
BOUNDARY = re.compile(r"(?<=\S)\s")
BLOCK = 1_000_000  # characters cut into units at a time
# A text whose units are longer than this on average, as Chinese's are, has hardly two alike.
LONG_UNITS = 16
CACHE_BYTES = 64 * 2**20  # then the dictionary is begun anew; English needs 30 MB a gigabyte
UNIT_BYTES = 200  # of a short string, its ids and their place in a dictionary


class Encoder(Protocol):
    """Something that gives the ids of texts; not for use from several threads."""

    name: str

    def ids(self, texts: list[str]) -> list[Ids]:
        """The ids of each text without special tokens, as `plain_ids` gives them."""
        ...


class Library:
    """The reference: the `tokenizers` library alone."""

    name = "library"

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._dtype = np.dtype(id_code(backend))

    def ids(self, texts: list[str]) -> list[Ids]:
        """The ids of each text without special tokens."""
        return [np.array(ids, self._dtype) for ids in plain_ids(self._backend, texts)]


class Tiktoken:
    """Byte-level BPE by tiktoken."""

    name = "tiktoken"

    def __init__(self, backend: Tokenizer, ranks: dict[bytes, int]) -> None:
        self._library = Library(backend)
        self._code = id_code(backend)
        self._encode = tiktoken.Encoding(
            "ours", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={}
        ).encode_ordinary

    def ids(self, texts: list[str]) -> list[Ids]:
        """The ids of each text without special tokens."""
        return [self._ids(text) for text in texts]

    def _ids(self, text: str) -> Ids:
        if not text or _has_long_blank(text):
            return self._library.ids([text])[0]
        return np.frombuffer(array(self._code, self._encode(text)), self._code)


class Words:
    """WordPiece or Unigram by a dictionary of units in front of the library."""

    name = "words"

    def __init__(self, backend: Tokenizer, unit: re.Pattern[str]) -> None:
        self._backend = backend
        self._library = Library(backend)
        self._code = id_code(backend)
        self._dtype = np.dtype(self._code)
        self._cut = unit.findall
        self._known: dict[str, bytes] = {}
        self._held = 0

    def ids(self, texts: list[str]) -> list[Ids]:
        """The ids of each text without special tokens."""
        return [self._ids(text, units) for text, units in self._units(texts)]

    def _units(self, texts: list[str]) -> Iterator[tuple[str, list[str]]]:
        """Each text with its units, all of them known by now; none for a text encoded otherwise."""
        held: list[tuple[str, list[str]]] = []
        size = 0
        for text in texts:
            units = self._cut(text) if len(text) <= BLOCK and not ODD.search(text) else []
            held.append((text, units if len(units) * LONG_UNITS > len(text) else []))
            size += len(text)
            if size > BLOCK:
                yield from self._learnt(held)
                held, size = [], 0
        yield from self._learnt(held)

    def _learnt(self, held: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
        self._learn(itertools.chain.from_iterable(units for _, units in held))
        return held

    def _ids(self, text: str, units: list[str]) -> Ids:
        if units:
            return np.frombuffer(b"".join(map(self._known.__getitem__, units)), self._dtype)
        if len(text) <= BLOCK or ODD.search(text):
            return self._library.ids([text])[0]
        found = bytearray()
        for start, end in _blocks(text):
            block = self._cut(text, start, end)
            self._learn(block)
            found += b"".join(map(self._known.__getitem__, block))
        return np.frombuffer(found, self._dtype)

    def _learn(self, units: Iterable[str]) -> None:
        wanted = set(units)
        new = wanted.difference(self._known)
        if not new:
            return
        if self._held > CACHE_BYTES:
            self._known, self._held, new = {}, 0, wanted
        listed = list(new)
        for unit, ids in zip(listed, plain_ids(self._backend, listed), strict=True):
            self._known[unit] = array(self._code, ids).tobytes()
        self._held += UNIT_BYTES * len(listed) + 4 * sum(map(len, listed))


def id_code(backend: Tokenizer) -> Literal["H", "I"]:
    """The array (and NumPy) code of the narrowest type that holds every id: 2 or 4 bytes."""
    return "H" if backend.get_vocab_size() <= 1 << 16 else "I"


def open_encoder(folder: Path | str) -> Encoder:
    """The fastest encoder for the tokenizer in a folder that is known to give the library's ids.

    Raises:
        ArtifactError: the folder has no tokenizer.json.
    """
    backend = open_backend(folder)
    spec = json.loads(Path(folder, FILE).read_text(encoding="utf-8"))
    if any(not added["special"] for added in spec["added_tokens"]):
        return Library(backend)  # such a token is found inside words
    match spec["model"]["type"]:
        case "BPE" if (ranks := _ranks(spec)) is not None:
            return Tiktoken(backend, ranks)
        case "WordPiece" if _types(spec) == ("BertNormalizer", "BertPreTokenizer"):
            return Words(backend, BERT_UNIT)
        case "Unigram" if _types(spec) == _UNIGRAM:
            return Words(backend, WORD_UNIT)
        case _:
            return Library(backend)


def disagreement(encoder: Encoder, reference: Encoder, texts: list[str]) -> str | None:
    """What the two make of the first text that they encode differently; None if there is none."""
    for text in texts:
        ours, theirs = (one.ids([text])[0].tolist() for one in (encoder, reference))
        if ours != theirs:
            pairs = zip(ours, theirs, strict=False)
            at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
            return (
                f"{encoder.name} gives {ours[at : at + 4]} where {reference.name} gives "
                f"{theirs[at : at + 4]}, at token {at} of {text[:40]!r}"
            )
    return None


_UNIGRAM = ("Sequence", "NFKC", "Replace", "Strip", "Sequence", "Metaspace", "Split")


def _types(spec: Json) -> tuple[str, ...]:
    """The kinds of the normalizer and the pre-tokenizer, and of what they are made of."""
    found: list[str] = []
    for name, inner in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        part = spec[name] or {"type": "None"}
        found += [part["type"], *(one["type"] for one in part.get(inner, []))]
    return tuple(found)


def _ranks(spec: Json) -> dict[bytes, int] | None:
    """The entries of a byte-level BPE by their bytes; None if tiktoken would merge differently.

    tiktoken merges any two neighbours whose union is an entry, the lowest id first; the library
    goes by the list of merges. The two are the same where ids follow the list and each entry is
    the outcome of one merge, because the library then never leaves such neighbours: were they
    left, the entry's own text would not encode to the entry.
    """
    model, splitter = spec["model"], spec["pre_tokenizer"] or {}
    plain = not any(
        model.get(name)
        for name in (
            "dropout",
            "continuing_subword_prefix",
            "end_of_word_suffix",
            "byte_fallback",
            "ignore_merges",
        )
    )
    if not plain or spec["normalizer"] is not None or splitter.get("type") != "ByteLevel":
        return None
    if splitter["add_prefix_space"] or not splitter.get("use_regex", True):
        return None
    special = {added["content"] for added in spec["added_tokens"]}
    entries = {entry: n for entry, n in model["vocab"].items() if entry not in special}
    merged = [entries.get("".join(pair), -1) for pair in model["merges"]]
    singles = {entry for entry in entries if len(entry) == 1}
    byte_of = _bytes()
    in_order = merged == sorted(set(merged)) and (not merged or merged[0] >= 0)
    if not in_order or singles != set(byte_of) or len(entries) != len(singles) + len(merged):
        return None
    if merged and max(entries[single] for single in singles) > merged[0]:
        return None
    return {bytes(byte_of[sign] for sign in entry): n for entry, n in entries.items()}


def _bytes() -> dict[str, int]:
    """The printable stand-in of each byte in a byte-level vocabulary (GPT-2's encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    stands = {chr(byte): byte for byte in printable}
    return stands | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def _has_long_blank(text: str) -> bool:
    """Whether `text` has a run of `LONG_BLANK` white space: half of it then fills a window."""
    window = LONG_BLANK // 2
    starts = range(0, len(text) - window + 1, window)
    return any(text[start : start + window].isspace() for start in starts)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Where to cut a long text: at white space after something else, so between units."""
    start = 0
    while start < len(text):
        found = BOUNDARY.search(text, min(start + BLOCK, len(text)))
        end = found.start() if found else len(text)
        yield start, end
        start = end
