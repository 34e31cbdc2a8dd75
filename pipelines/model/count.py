"""A shape in; how many parameters it has and how much arithmetic a token costs out, without torch.

The counts are those of the models that `build` makes with pretraining heads, number for number.
"""

from typing import assert_never

from pipelines.model.config import ModelConfig

BART_OFFSET = 2  # positions that transformers' BART leaves unused
T5_BUCKETS = 32  # of relative distances; Raffel et al. 2020, section 2.1
WINDOW, GLOBAL_EVERY = 128, 3  # of ModernBERT's attention; Warner et al. 2024, section 2.1.2
BACKWARD = 2  # a backward pass costs twice a forward one; Kaplan et al. 2020, section 2.1


def parameters(shape: ModelConfig, vocab_size: int) -> int:
    """Trainable numbers, a shared table once."""
    vocabulary, width, layers = vocab_size, shape.width, shape.layers
    match shape.architecture:
        case "bert":
            embeddings = (vocabulary + shape.max_length + 2) * width + 2 * width
            head = width**2 + 3 * width + vocabulary  # transform, norm, bias a word
            pooler_and_next = width**2 + width + 2 * width + 2
            return embeddings + layers * _post_norm(shape, 1) + head + pooler_and_next
        case "modernbert":
            norms = 2 * layers * width - width + 2 * width  # the first block has one less
            head = width**2 + width + vocabulary
            return vocabulary * width + layers * _matrices(shape) + norms + head
        case "llama" | "qwen3":
            tables = (1 if shape.shares_table else 2) * vocabulary * width
            per_head = 2 * shape.width_of_head if shape.architecture == "qwen3" else 0
            return tables + layers * (_matrices(shape) + 2 * width + per_head) + width
        case "t5":
            halves = layers * (_matrices(shape) + _matrices(shape, 2) + 5 * width) + 2 * width
            return vocabulary * width + halves + 2 * T5_BUCKETS * shape.heads
        case "bart":
            places = 2 * (shape.max_length + BART_OFFSET) * width + 4 * width
            halves = layers * (_post_norm(shape, 1) + _post_norm(shape, 2))
            return vocabulary * width + places + halves
        case _:
            assert_never(shape.architecture)


def flops_per_token(
    shape: ModelConfig,
    vocab_size: int,
    length: float,
    predicted: float = 1.0,
    targets: float = 0.0,
    target_length: float = 0.0,
) -> float:
    """Floating-point operations of training on one token: forward, and twice that backward.

    Two for each token and matrix weight, and attention's two products, whose causal half is not
    taken off, as usual in MFU (Chowdhery et al. 2023, appendix B). Norms, activations, embeddings
    and BERT's pooler, once a row, are left out.

    Args:
        shape: the model's.
        vocab_size: entries of the head.
        length: tokens that each token sees: those of its row, or of its document in a packed row.
        predicted: share of tokens whose whole vocabulary is scored; an encoder-decoder scores
            all targets.
        targets: tokens that the decoder of an encoder-decoder reads, for each token of the encoder.
        target_length: tokens of one such row of targets.
    """
    layers = shape.layers
    forward = 2 * layers * _matrices(shape) + _scores(shape, length)
    scored = predicted
    if shape.family == "encoder-decoder":
        attention = layers * _products(shape) * (target_length + length)
        kv = 2 * shape.width * shape.heads * shape.width_of_head  # of cross-attention's sources
        own = _matrices(shape, 2) - kv
        forward += 2 * layers * kv + targets * (2 * layers * own + attention)
        scored = targets
    forward += 2 * scored * _head(shape, vocab_size)
    return (1 + BACKWARD) * forward


def _matrices(shape: ModelConfig, attentions: int = 1) -> int:
    """Weights of the matrices of one block with that many attentions."""
    inner, kv = shape.heads * shape.width_of_head, _kv_heads(shape) * shape.width_of_head
    gates = 2 if shape.architecture in ("bert", "bart") else 3
    return attentions * 2 * shape.width * (inner + kv) + gates * shape.width * shape.feedforward


def _post_norm(shape: ModelConfig, attentions: int) -> int:
    """One block of BERT or BART: every matrix has a bias, every part a norm with gain and bias."""
    width = shape.width
    biases = attentions * 4 * width + shape.feedforward + width
    return _matrices(shape, attentions) + biases + (attentions + 1) * 2 * width


def _head(shape: ModelConfig, vocab_size: int) -> int:
    transform = shape.width**2 if shape.family == "encoder" else 0
    return transform + shape.width * vocab_size


def _kv_heads(shape: ModelConfig) -> int:
    return shape.kv_heads or shape.heads


def _products(shape: ModelConfig) -> int:
    """Operations of one query against one key, and of its weight times one value, in a block."""
    return 4 * shape.heads * shape.width_of_head


def _scores(shape: ModelConfig, length: float) -> float:
    """Those of one token's self-attention in all blocks."""
    if shape.architecture != "modernbert":
        return shape.layers * _products(shape) * length
    everywhere = -(-shape.layers // GLOBAL_EVERY)
    near = min(length, WINDOW + 1)
    return _products(shape) * (everywhere * length + (shape.layers - everywhere) * near)
