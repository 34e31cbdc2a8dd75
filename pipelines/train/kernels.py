"""A model, batches and settings in; their task's sums out, computed by the code that was chosen.

Precision, attention code and compilation change rounding, so a run keeps what it began with:
process 0 decides, the others follow, and the decision lies in the step's workspace, where a run
that goes on after a kill finds it. Only `auto` measures; all else follows from the settings.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from pipelines.core.artifact import Workspace
from pipelines.core.errors import ConfigError
from pipelines.tasks.batches import Batches
from pipelines.tasks.protocol import Batch, Sums, Task
from pipelines.train.compile import compiled, compiler, examples
from pipelines.train.config import Optimise
from pipelines.train.team import Team
from pipelines.train.throughput import precision

log = logging.getLogger(__name__)

FILE = ".kernels.json"
ATTENTION = ("sdpa", "eager")
MEASURE_S = 1.0  # seconds for each of the two
# Compiling takes 60 to 100 s of a core. What it saves of a step was nothing here (BERT-mini, fp32,
# AVX2: 1.33 to 1.36 s compiled, 1.30 to 1.38 eager), a quarter to a half in bf16 with AVX-512.
PAYS_S = 600.0


@dataclass(frozen=True)
class Kernels:
    """What a run computes with."""

    attention: str
    compiled: bool
    bits: int


class Prepared(NamedTuple):
    """What is learnt by, in which precision, and the figures that say how it is computed."""

    sums: Sums
    dtype: torch.dtype
    figures: dict[str, float]


def prepare(
    model: Any, batches: Batches, optimise: Optimise, out: Workspace, team: Team
) -> Prepared:
    """Choose how a run computes, or find what it began with.

    Call it once the weights are on their device and before any gradient is kept; it leaves weights,
    gradients and the random generators as they were.

    Args:
        model: a transformers model; its attention is set.
        batches: what is learnt.
        optimise: `precision`, `attention`, `compile` and the number of steps.
        out: keeps the decision, for a run that goes on.
        team: the processes that learn together; all of them call this.

    Raises:
        ConfigError: `compile=on`, or a run begun compiled, and this machine cannot compile.
    """
    kept = _kept(out) if team.rank == 0 else None
    began = time.perf_counter()
    dtype = _precision(optimise, team, kept)
    run = partial(_run, model, batches.task, dtype)
    with torch.random.fork_rng(devices=[]):
        attention = kept.attention if kept else _attention(model, batches, optimise, team, run)
        attention = ATTENTION[team.agreed(ATTENTION.index(attention))]
        set_attention(model, attention)
        wanted = kept.compiled if kept else _wanted(batches, optimise, team, run)
        sums: Sums = batches.task.sums
        fast = bool(team.agreed(int(wanted)))
        if fast:
            must = optimise.compile == "on" or bool(team.agreed(int(kept is not None)))
            sums, fast = _compiled(batches, optimise, team, run, must)
    bits = torch.finfo(dtype).bits
    if team.rank == 0 and kept is None:
        out.write(FILE, json.dumps(asdict(Kernels(attention, fast, bits))).encode())
    used = model.config._attn_implementation
    log.info("%d bits on %s; attention: %s; compiled: %s", bits, team.device, used, fast)
    figures = {
        "attention_sdpa": float(used == "sdpa"),
        "compiled": float(fast),
        "precision_bits": float(bits),
        "processes": float(team.size),
        "prepare_s": time.perf_counter() - began,
    }
    return Prepared(sums, dtype, figures)


def set_attention(model: Any, name: str) -> None:
    """Use `sdpa` where the model's class has it, and else its own eager code."""
    supported = getattr(model, "_supports_sdpa", False)
    model.set_attn_implementation(name if supported else "eager")


def _kept(out: Workspace) -> Kernels | None:
    """What this run began with, if it has."""
    return Kernels(**json.loads(out.read(FILE))) if out.exists(FILE) else None


def _precision(optimise: Optimise, team: Team, kept: Kernels | None) -> torch.dtype:
    """What matrices are multiplied in: process 0's choice, and what the run began with."""
    native = precision(optimise.precision, team.device)
    bits = team.agreed(kept.bits if kept else torch.finfo(native).bits)
    dtype = next(one for one in (torch.bfloat16, torch.float32) if torch.finfo(one).bits == bits)
    if dtype is not native:
        log.warning(
            "this run began in %d bits and goes on in them on %s, where they are the slower ones",
            bits,
            team.device,
        )
    return dtype


def _attention(
    model: Any, batches: Batches, optimise: Optimise, team: Team, run: Callable[[Sums, Batch], None]
) -> str:
    """The name asked for, or on process 0 the faster one on the first batch."""
    if optimise.attention != "auto":
        return optimise.attention
    if team.rank or not getattr(model, "_supports_sdpa", False):
        return ATTENTION[0]
    seconds = {}
    for name in ATTENTION:
        set_attention(model, name)
        seconds[name] = _seconds(run, batches.task.sums, batches.part(0, 0))
    told = ", ".join(f"{name} {taken * 1000:.1f} ms" for name, taken in seconds.items())
    log.info("attention on the first batch: %s", told)
    return min(seconds, key=lambda name: seconds[name])


def _wanted(
    batches: Batches, optimise: Optimise, team: Team, run: Callable[[Sums, Batch], None]
) -> bool:
    """Whether to try to compile, as process 0 finds."""
    if optimise.compile != "auto" or team.rank:
        return optimise.compile == "on"
    if compiler() is None:
        log.info("not compiled: there is no C++ compiler (set CXX, or install g++)")
        return False
    step = _seconds(run, batches.task.sums, batches.part(0, 0)) * optimise.shards / team.size
    return step * optimise.steps >= PAYS_S


def _compiled(
    batches: Batches, optimise: Optimise, team: Team, run: Callable[[Sums, Batch], None], must: bool
) -> tuple[Sums, bool]:
    """The compiled sums, or the task's own if a process cannot compile or nothing is gained."""
    met, varied = examples(batches, optimise.steps)
    eager: Sums = batches.task.sums
    sums = eager
    problem = ""
    try:
        if (found := compiler()) is None:
            raise FileNotFoundError("no C++ compiler found; set CXX, or install g++")
        log.info("compiling with %s", found)
        sums = compiled(eager, met, varied, run)
    except Exception as error:  # noqa: BLE001 (the compiler may raise anything)
        problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    failed = torch.tensor([int(bool(problem))], device=team.device)
    team.add(failed)
    if int(failed):
        if must:
            raise ConfigError(
                f"the model cannot be compiled here: {problem or 'another process failed'}; set "
                "optimise.compile=off"
            )
        log.warning("not compiled, goes on eagerly: %s", problem or "another process failed")
        return eager, False
    if not must and not team.agreed(int(team.rank == 0 and _gains(run, eager, sums, met[0]))):
        log.info("compiled code is no faster here, so it is not used")
        return eager, False
    return sums, True


def _gains(run: Callable[[Sums, Batch], None], eager: Sums, fast: Sums, batch: Batch) -> bool:
    plain, compiled_ = _seconds(run, eager, batch), _seconds(run, fast, batch)
    log.info("eager %.1f ms, compiled %.1f ms a batch", plain * 1000, compiled_ * 1000)
    return compiled_ < plain


def _run(model: Any, task: Task, dtype: torch.dtype, sums: Sums, batch: Batch) -> None:
    """Forward and backward on one batch as the loop does it; leaves no gradient."""
    device = next(model.parameters()).device
    tensors = {name: tensor.to(device) for name, tensor in batch.tensors.items()}
    mixed = dtype is torch.bfloat16
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
        found = sums(model, replace(batch, tensors=tensors))
    loss = torch.stack([found[name] for name in task.objectives]).sum()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(run: Callable[[Sums, Batch], None], sums: Sums, batch: Batch) -> float:
    """Seconds of the fastest of a second's runs; the first, which allocates, does not count."""
    run(sums, batch)
    best, end = float("inf"), time.perf_counter() + MEASURE_S
    while time.perf_counter() < end:
        started = time.perf_counter()
        run(sums, batch)
        best = min(best, time.perf_counter() - started)
    return best
