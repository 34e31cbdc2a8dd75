"""A sample of a corpus -> a vocabulary, as a fast transformers tokenizer.

Two kinds: WordPiece as in BERT (Devlin et al. 2019, section 3) and byte-level BPE as in GPT-2
(Radford et al. 2019, section 2.2). Both frame a text as `[CLS] A [SEP]` and a pair as
`[CLS] A [SEP] B [SEP]`, so either can train an encoder; `[PAD]` is always id 0.

The same texts give the same bytes, on any number of threads. WordPiece needs help for that: the
trainer numbers continuing characters in the order of a randomly seeded hash map, and the numbers
decide between merges of equal count: five runs gave five tokenizers. Here the alphabet is counted,
ordered and numbered first. Byte-level BPE has a fixed alphabet and repeats as it is.
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow.parquet as pq
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from pipelines.core.artifact import Artifact
from pipelines.tokenizer.config import TokenizerConfig

WORDPIECE_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
BPE_TOKENS = {
    "pad_token": "<|pad|>",
    "unk_token": "<|endoftext|>",  # as in GPT-2; bytes leave nothing unknown, so no text yields it
    "cls_token": "<|cls|>",
    "sep_token": "<|sep|>",
    "mask_token": "<|mask|>",
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
}


def sample(corpus: Artifact, characters: int) -> list[str]:
    """The first `characters` characters of the corpus's training texts, in corpus order."""
    texts, left = [], characters
    for text in _training_texts(corpus):
        texts.append(text[:left])
        left -= len(texts[-1])
        if left == 0:
            break
    return texts


def train(config: TokenizerConfig, texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `config.vocab_size` entries, learnt from `texts`.

    It has fewer entries when the texts have too few pairs of `config.min_frequency`. Byte-level BPE
    always has its 256 bytes.
    """
    if config.kind == "wordpiece":
        backend, names = _wordpiece(config, texts), WORDPIECE_TOKENS
    else:
        backend, names = _bpe(config, texts), BPE_TOKENS
    backend.add_special_tokens(list(dict.fromkeys(names.values())))
    backend.post_processor = _frame(backend, names["cls_token"], names["sep_token"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=config.max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **names,
    )


def _training_texts(corpus: Artifact) -> Iterator[str]:
    for name in corpus.files(".parquet"):
        if not name.startswith("data/"):
            continue
        file = pq.ParquetFile(io.BytesIO(corpus.read(name)))
        for batch in file.iter_batches(batch_size=1024, columns=["text", "split"]):
            rows = zip(batch["text"].to_pylist(), batch["split"].to_pylist(), strict=True)
            yield from (text for text, split in rows if split == "train")


def _wordpiece(config: TokenizerConfig, texts: list[str]) -> Tokenizer:
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = list(WORDPIECE_TOKENS.values())
    alphabet = _alphabet(learner, texts, (config.vocab_size - len(specials)) // 2)
    characters = sorted(entry for entry in alphabet if len(entry) == 1)
    learner.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=config.vocab_size,
            min_frequency=config.min_frequency,
            show_progress=False,
            special_tokens=specials + characters + sorted(alphabet.difference(characters)),
            initial_alphabet=characters,
            limit_alphabet=len(characters),
        ),
    )
    backend = Tokenizer(learner.model)  # without the alphabet among its special tokens
    backend.normalizer, backend.pre_tokenizer = learner.normalizer, learner.pre_tokenizer
    backend.decoder = decoders.WordPiece()
    return backend


def _alphabet(learner: Tokenizer, texts: Iterable[str], most: int) -> set[str]:
    """At most `most` one-character entries: `c`, and `##c` where c can continue a word.

    The commonest characters first, by code point among equals. Half the vocabulary bounds them:
    Chinese text alone has more characters than a small vocabulary has entries.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(learner.normalizer.normalize_str(text))
    alphabet: set[str] = set()
    for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        word = learner.normalizer.normalize_str(f"a{character}")
        pieces = [piece for piece, _ in learner.pre_tokenizer.pre_tokenize_str(word)]
        entries = {character, f"##{character}"} if len(pieces[0]) > 1 else {character}
        if len(alphabet) + len(entries) > most:
            break
        if len("".join(pieces)) > 1:  # not white space
            alphabet |= entries
    return alphabet


def _bpe(config: TokenizerConfig, texts: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=config.vocab_size,
            min_frequency=config.min_frequency,
            show_progress=False,
            special_tokens=list(dict.fromkeys(BPE_TOKENS.values())),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    return backend


def _frame(backend: Tokenizer, cls: str, sep: str) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (cls, sep)],
    )
