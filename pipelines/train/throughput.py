"""Arithmetic done, against what this machine can do: model FLOPs, peak FLOP/s, and MFU."""

import time
from collections.abc import Sequence
from typing import Literal

import torch
from transformers import PreTrainedConfig

from pipelines.tasks.protocol import Batch

SIDE = 1024  # of the square matrices whose product measures the peak


def precision(wanted: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype:
    """The type matrices are multiplied in.

    `auto` takes bf16 only where hardware multiplies it: emulated, it is many times slower than fp32
    (pytorch issues 86270 and 118499).
    """
    if wanted == "auto":
        cpu = torch.cpu.get_capabilities()
        native = device.type == "cuda" or cpu.get("avx512_bf16") or cpu.get("amx_bf16")
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if wanted == "bf16" else torch.float32


def model_flops(config: PreTrainedConfig, batch: Batch) -> float:
    """Floating-point operations of one forward and backward pass over the real tokens of `batch`.

    Six for each token and matrix weight, two forward and four backward (Kaplan et al. 2020, section
    2.1), plus attention's products of length T, plus the vocabulary head on predicted positions
    only. Padding is not counted as work.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    rows = max(1, len(batch.rows))
    matrices = layers * (4 * width**2 + 2 * width * config.intermediate_size)
    attention = layers * 2 * width * batch.tokens / rows
    head = batch.predicted * (width**2 + width * config.vocab_size)
    flops: float = 6.0 * (batch.tokens * (matrices + attention) + head)
    return flops


def peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.25) -> float:
    """FLOP/s of the best large matrix product that this process sees on `device`."""
    left, right = (torch.ones(SIDE, SIDE, device=device, dtype=dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * SIDE**3 / best


class Meter:
    """Tokens/s and MFU of a run, over all its processes.

    A machine's peak is what all processes reach at the same time: one alone sees more cache and a
    higher clock, and one whose peers are still starting sees less.
    """

    def __init__(self, config: PreTrainedConfig, peak: float) -> None:
        """Start the clock; `peak` is the FLOP/s of all processes together."""
        self._config, self._peak = config, peak
        self._tokens, self._flops, self._seconds = 0, 0.0, 0.0
        self._started = time.perf_counter()

    def count(self, batches: Sequence[Batch]) -> None:
        """Take a finished step's parts into account."""
        self._tokens += sum(batch.tokens for batch in batches)
        self._flops += sum(model_flops(self._config, batch) for batch in batches)
        self._seconds = time.perf_counter() - self._started

    def raise_peak(self, peak: float) -> None:
        """Use the higher one: what slowed a measurement down was no part of the machine."""
        self._peak = max(self._peak, peak)

    def read(self) -> dict[str, float]:
        """`tokens_per_s`, `mfu` and `seconds` from the start to the last step of this try.

        Nothing if it took no step, as one that finds the last checkpoint already written.
        """
        if not self._seconds:
            return {}
        return {
            "tokens_per_s": self._tokens / self._seconds,
            "mfu": self._flops / self._seconds / self._peak,
            "seconds": self._seconds,
        }
