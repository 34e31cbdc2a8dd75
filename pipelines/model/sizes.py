"""Named model sizes: a name in a config, such as `llama-nano`, stands for the shape beside it.

Plain data. `nano` shapes are ours (BERT's is the published tiny one) and train in seconds on a CPU.
A vocabulary is not part of a shape, so parameters are counted by `model/count.py`.

Sources:
    bert: Turc et al. 2019, table 1 (tiny to medium); Devlin et al. 2019, section 3 (base, large);
        Shoeybi et al. 2019, section 5.3 (1.3b, 3.9b).
    modernbert: Warner et al. 2024, table 4 (base, large); Weller et al. 2025, table 1 (17m to 1b).
    llama: llama2.c's README (nano: its 260K model; 15m to 110m); Zhang et al. 2024, table 2 (1.1b,
        TinyLlama); Touvron et al. 2023, table 2 and section 2.2 (7b).
    qwen3: Yang et al. 2025, table 1, widths from the published configs.
    t5: Tay et al. 2022, table 2 (tiny, mini); the published configs of version 1.1 (small to xxl).
    bart: Lewis et al. 2020, section 2.1, and the published configs.
"""

from typing import Any

Shape = dict[str, Any]


def _bert(layers: int, width: int, max_length: int = 512) -> Shape:
    """Heads of 64 and an MLP four times as wide, as in every published BERT."""
    return {
        "layers": layers,
        "width": width,
        "heads": width // 64,
        "feedforward": 4 * width,
        "max_length": max_length,
    }


def _other(
    architecture: str,
    layers: int,
    width: int,
    heads: int,
    feedforward: int,
    max_length: int,
    **more: Any,
) -> Shape:
    return {
        "architecture": architecture,
        "layers": layers,
        "width": width,
        "heads": heads,
        "feedforward": feedforward,
        "max_length": max_length,
        **more,
    }


SIZES: dict[str, Shape] = {
    "bert-nano": _bert(2, 128),
    "bert-tiny": _bert(2, 128),
    "bert-mini": _bert(4, 256),
    "bert-small": _bert(4, 512),
    "bert-medium": _bert(8, 512),
    "bert-base": _bert(12, 768),
    "bert-large": _bert(24, 1024),
    "bert-1.3b": _bert(24, 2048),
    "bert-3.9b": _bert(48, 2560),
    "modernbert-nano": _other("modernbert", 3, 128, 2, 192, 512),
    "modernbert-17m": _other("modernbert", 7, 256, 4, 384, 8192),
    "modernbert-32m": _other("modernbert", 10, 384, 6, 576, 8192),
    "modernbert-68m": _other("modernbert", 19, 512, 8, 768, 8192),
    "modernbert-base": _other("modernbert", 22, 768, 12, 1152, 8192),
    "modernbert-large": _other("modernbert", 28, 1024, 16, 2624, 8192),
    "modernbert-1b": _other("modernbert", 28, 1792, 28, 3840, 8192),
    "llama-nano": _other("llama", 5, 64, 8, 172, 512, kv_heads=4),
    "llama-15m": _other("llama", 6, 288, 6, 768, 256),
    "llama-42m": _other("llama", 8, 512, 8, 1376, 1024),
    "llama-110m": _other("llama", 12, 768, 12, 2048, 1024),
    "llama-1.1b": _other("llama", 22, 2048, 32, 5632, 2048, kv_heads=4, tied=False),
    "llama-7b": _other("llama", 32, 4096, 32, 11008, 2048, tied=False),
    "qwen3-nano": _other("qwen3", 3, 128, 4, 384, 512, kv_heads=2),
    "qwen3-0.6b": _other("qwen3", 28, 1024, 16, 3072, 32768, kv_heads=8, head_width=128),
    "qwen3-1.7b": _other("qwen3", 28, 2048, 16, 6144, 32768, kv_heads=8),
    "qwen3-4b": _other("qwen3", 36, 2560, 32, 9728, 32768, kv_heads=8, head_width=128),
    "qwen3-8b": _other("qwen3", 36, 4096, 32, 12288, 32768, kv_heads=8, tied=False),
    "t5-nano": _other("t5", 2, 128, 4, 256, 512),
    "t5-tiny": _other("t5", 4, 256, 4, 1024, 512, head_width=32),
    "t5-mini": _other("t5", 4, 384, 8, 1536, 512, head_width=32),
    "t5-small": _other("t5", 8, 512, 6, 1024, 512, head_width=64),
    "t5-base": _other("t5", 12, 768, 12, 2048, 512),
    "t5-large": _other("t5", 24, 1024, 16, 2816, 512),
    "t5-xl": _other("t5", 24, 2048, 32, 5120, 512),
    "t5-xxl": _other("t5", 24, 4096, 64, 10240, 512),
    "bart-nano": _other("bart", 2, 128, 4, 512, 512),
    "bart-base": _other("bart", 6, 768, 12, 3072, 1024),
    "bart-large": _other("bart", 12, 1024, 16, 4096, 1024),
}
