"""Texts -> a vocabulary, as a fast transformers tokenizer.

Three kinds: WordPiece as in BERT (Devlin et al. 2019, section 3), byte-level BPE as in GPT-2
(Radford et al. 2019, section 2.2) and Unigram as in SentencePiece (Kudo 2018, section 3.2). All
frame a text as `[CLS] A [SEP]` and a pair as `[CLS] A [SEP] B [SEP]`, so any can train an encoder;
`[PAD]` is always id 0.

The same texts give the same bytes, on any number of threads. Two kinds need help for that.
WordPiece: the trainer numbers continuing characters in the order of a randomly seeded hash map, and
the numbers decide between merges of equal count: five runs gave five tokenizers. Here the alphabet
is counted, ordered and numbered first. Unigram: the library's trainer adds probabilities in another
order each time: three runs gave three tokenizers, so SentencePiece's own trainer learns it, on one
thread. Byte-level BPE has a fixed alphabet and repeats as it is.
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import assert_never

import sentencepiece
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from pipelines.core.errors import ConfigError
from pipelines.tokenizer.config import SENTINEL, TokenizerConfig

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
UNIGRAM_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "mask_token": "<mask>",
    "bos_token": "<s>",
    "eos_token": "</s>",
}
LINE = 4000  # characters of a training line: SentencePiece's own bound on a sentence is 4,192 bytes


def train(config: TokenizerConfig, texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `config.vocab_size` entries, learnt from `texts`.

    It has fewer entries when the texts have too few pairs of `config.min_frequency`, or for Unigram
    too few pieces. Byte-level BPE always has its 256 bytes.

    Raises:
        ConfigError: Unigram only: the entries do not suffice for the texts' characters.
    """
    sentinels = [SENTINEL.format(number) for number in range(config.sentinels)]
    config = config.model_copy(update={"vocab_size": config.vocab_size - len(sentinels)})
    match config.kind:
        case "wordpiece":
            backend, names = _wordpiece(config, texts), WORDPIECE_TOKENS
        case "bpe":
            backend, names = _bpe(config, texts), BPE_TOKENS
        case "unigram":
            backend, names = _unigram(config, texts), UNIGRAM_TOKENS
        case _:
            assert_never(config.kind)
    backend.add_special_tokens([*dict.fromkeys(names.values()), *sentinels])
    backend.post_processor = _frame(backend, names["cls_token"], names["sep_token"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=config.max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **({"extra_special_tokens": sentinels} if sentinels else {}),
        **names,
    )


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


def _unigram(config: TokenizerConfig, texts: list[str]) -> Tokenizer:
    """A Unigram tokenizer of words, compatibility characters folded and white space collapsed.

    `<` is always a piece of its own. Otherwise the text `<s>` would be one of the vocabulary's
    entries, of probability 1 at that, and so forge the special token.
    """
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    specials = list(dict.fromkeys(UNIGRAM_TOKENS.values()))
    pieces = _pieces(backend.normalizer, texts, config.vocab_size - len(specials))
    backend.model = models.Unigram([(name, 0.0) for name in specials] + pieces, unk_id=1)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Split("<", "isolated")]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return backend


def _pieces(
    normalizer: normalizers.Normalizer, texts: list[str], most: int
) -> list[tuple[str, float]]:
    """At most `most` pieces with their log probabilities.

    Raises:
        ConfigError: the texts have more characters than that.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(normalizer, texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=most + 1,  # its own <unk> is one of them
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            max_sentence_length=4 * LINE,
            num_threads=1,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"tokenizer.vocab_size leaves {most} entries for pieces, and SentencePiece cannot "
            f"learn as many from these texts: {error}; give another vocab_size"
        ) from None
    learnt = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    found = (learnt.id_to_piece(n) for n in range(1, learnt.get_piece_size()))
    taken = set(UNIGRAM_TOKENS.values())
    return [(piece, learnt.get_score(n)) for n, piece in enumerate(found, 1) if piece not in taken]


def _lines(normalizer: normalizers.Normalizer, texts: list[str]) -> Iterator[str]:
    """The texts' lines as the tokenizer will see them, long ones cut."""
    for text in texts:
        for line in text.splitlines():
            seen = normalizer.normalize_str(line)
            yield from (seen[at : at + LINE] for at in range(0, len(seen), LINE))


def _frame(backend: Tokenizer, cls: str, sep: str) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (cls, sep)],
    )
