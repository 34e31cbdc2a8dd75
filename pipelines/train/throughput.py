"""Work done, against what this machine can do: tokens, FLOPs, peak FLOP/s, MFU, waiting for data.

A FLOP is a multiplication or an addition. What is counted is what the mathematics asks for: no
padding, no key that a query may not see, and the vocabulary head on predicted positions only.
"""

import contextlib
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from pipelines.tasks.protocol import Batch

SIDE = 1024  # of the square matrices whose product measures the peak
# Each weight and each attended pair: two FLOPs forward, four backward (Kaplan et al. 2020, 2.1).
PASSES = 6
_CROSS = ("EncDecAttention.", "encoder_attn.")  # T5's and BART's attention to the source
_KEYS_VALUES = (".k", ".v", ".k_proj", ".v_proj")
_ONE_A_ROW = ("pooler.", "seq_relationship")  # not worth counting, and seen once a row


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


@dataclass(frozen=True)
class Costs:
    """How many weights each kind of token is multiplied by, and what an attended pair costs.

    `source` and `target` are of an encoder-decoder; other models have `source` alone. A pair is one
    query and one key in all layers of a stack: a product with the key and one with the value.
    `near_pair` is of the layers that see no further than `window` tokens (ModernBERT).
    """

    source: int
    target: int
    head: int
    source_pair: int
    near_pair: int
    target_pair: int
    window: int

    def flops(self, batch: Batch) -> float:
        """Of one forward and backward pass over `batch`.

        Attention's causal half is not taken off, as usual in MFU (Chowdhery et al. 2023, B).
        """
        read, written = _lengths(batch)
        work = self.source * read.sum() + self.head * batch.predicted
        work += self.source_pair * (read**2).sum()
        work += self.near_pair * (read * read.clamp(max=self.window)).sum()
        if written is not None:
            work += self.target * written.sum()
            work += self.target_pair * (written * (written + read)).sum()
        return PASSES * float(work)


def costs(model: Any) -> Costs:
    """Those of a transformers model; told from its linear layers, so by no architecture's names."""
    config = model.config
    both = bool(config.is_encoder_decoder)
    first = model.get_encoder() if both else model.base_model
    second = model.get_decoder() if both else nn.Module()
    crossed = _weights(second, _is_cross)
    bodies = {module for body in (first, second) for module in body.modules()}
    pair = 2 * config.num_attention_heads * _head_width(config)
    near = list(getattr(config, "layer_types", None) or ()).count("sliding_attention")
    return Costs(
        source=_weights(first, _every_token) + crossed,
        target=_weights(second, _every_token) - crossed,
        head=sum(
            module.weight.numel()
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module not in bodies and _every_token(name)
        ),
        source_pair=pair * (config.num_hidden_layers - near),
        near_pair=pair * near,
        target_pair=pair * _decoder_layers(config) if both else 0,
        window=_window(config) if near else 0,
    )


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


@dataclass(frozen=True)
class Work:
    """What batches hold: `tokens` without padding, `places` with it, and their FLOPs."""

    tokens: float
    places: float
    flops: float


class Meter:
    """Tokens/s, MFU and waiting of a run, over all its processes.

    A machine's peak is what all processes reach at the same time: one alone sees more cache and a
    higher clock, and one whose peers are still starting sees less.
    """

    def __init__(self, model: Any, peak: float) -> None:
        """Start the clock; `peak` is the FLOP/s of all processes together."""
        self._costs, self._peak = costs(model), peak
        self._tokens, self._places, self._flops = 0.0, 0.0, 0.0
        self._seconds = self._waited = 0.0
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block as waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def work(self, batches: Sequence[Batch]) -> Work:
        """What is to be done for these parts."""
        return Work(
            sum(batch.tokens for batch in batches),
            sum(_places(batch) for batch in batches),
            sum(self._costs.flops(batch) for batch in batches),
        )

    def count(self, done: Work) -> None:
        """Take a finished step's work into account, that of all processes."""
        self._tokens += done.tokens
        self._places += done.places
        self._flops += done.flops
        self._seconds = time.perf_counter() - self._started

    def raise_peak(self, peak: float) -> None:
        """Use the higher one: what slowed a measurement down was no part of the machine."""
        self._peak = max(self._peak, peak)

    def read(self) -> dict[str, float]:
        """The figures from the start to the last step of this try.

        `tokens_per_s` counts padding, as is usual; `useful_tokens_per_s` does not. `mfu` is the
        share of the peak, `loader_wait` that of the time spent waiting for data, `memory_mb` the
        most that this process had. Nothing if it took no step, as one that finds the last
        checkpoint already written.
        """
        if not self._seconds:
            return {}
        rate = self._flops / self._seconds
        return {
            "tokens_per_s": self._places / self._seconds,
            "useful_tokens_per_s": self._tokens / self._seconds,
            "flops_per_s": rate,
            "mfu": rate / self._peak,
            "loader_wait": self._waited / self._seconds,
            "memory_mb": _memory() / 2**20,
            "seconds": self._seconds,
        }


def _memory() -> float:
    """Most bytes that this process ever had, on the GPU if there is one."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on Linux


def _lengths(batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Tokens of each row (or, packed, of each document's piece) read, and written if any are."""
    ids, written = batch.tensors["input_ids"], None
    if "position_ids" in batch.tensors:  # positions begin anew with each piece
        starts = torch.nonzero(batch.tensors["position_ids"].flatten() == 0).flatten()
        ends = torch.cat([starts[1:], torch.tensor([ids.numel()], device=starts.device)])
        read = (ends - starts) * (batch.tokens / ids.numel())  # padding is a piece: leave its share
    elif "attention_mask" in batch.tensors:
        read = batch.tensors["attention_mask"].sum(1)
    else:
        read = torch.full((ids.shape[0],), ids.shape[1])
    if "labels" in batch.tensors and batch.tensors["labels"].ndim == 2:
        written = (batch.tensors["labels"] >= 0).sum(1).double()
    return read.double(), written


def _places(batch: Batch) -> int:
    """Positions computed, padding and all."""
    two = [batch.tensors[name] for name in ("input_ids", "labels") if name in batch.tensors]
    return sum(tensor.numel() for tensor in two if tensor.ndim == 2)


def _weights(body: nn.Module, wanted: Callable[[str], bool]) -> int:
    return sum(
        module.weight.numel()
        for name, module in body.named_modules()
        if isinstance(module, nn.Linear) and wanted(name)
    )


def _is_cross(name: str) -> bool:
    """Whether a decoder's layer makes keys or values of the source."""
    return any(part in f"{name}." for part in _CROSS) and name.endswith(_KEYS_VALUES)


def _every_token(name: str) -> bool:
    """Whether a layer sees every token, not one vector a row."""
    return not any(part in f"{name}." for part in _ONE_A_ROW)


def _head_width(config: Any) -> int:
    named = getattr(config, "head_dim", None) or getattr(config, "d_kv", None)
    return int(named or config.hidden_size // config.num_attention_heads)


def _decoder_layers(config: Any) -> int:
    named = getattr(config, "decoder_layers", None) or getattr(config, "num_decoder_layers", None)
    return int(named or config.num_hidden_layers)


def _window(config: Any) -> int:
    """Tokens that one sees in a layer with a window: itself and half of it on either side."""
    return int(config.local_attention) + 1
