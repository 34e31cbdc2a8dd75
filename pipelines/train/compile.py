"""A task's `sums` in; the same compiled by Inductor out, with the same bits on every resume.

Which code runs a batch must follow from the batch alone. Left to itself, `torch.compile` makes new
code for shapes it has not met, guided by those it has, so a resumed run, which meets other shapes
first, would round otherwise. Here code is made once, before the first step, from examples that
follow from the task (the largest batch of each kind); a shape that this code does not fit runs
eagerly, today and after any resume.

Compiled code is kept in `cache()`. Without it BERT-mini took 62 s of a busy core for two kinds of
batch of one size each, 104 s for all sizes.
"""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pipelines.tasks.batches import Batches
from pipelines.tasks.protocol import Batch, Sums

log = logging.getLogger(__name__)

SURVEYED = 64  # steps whose batches are looked at for the largest of each kind
FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # the variable that Inductor reads
COMPILERS = ("c++", "g++", "clang++")


def compiler() -> str | None:
    """The C++ compiler that Inductor would call, if there is one."""
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else COMPILERS)), None)


def cache() -> Path:
    """Where compiled code is kept, by torch's version and the threads it was made for.

    It is loaded as code, so it lies with the user and nobody else may write there.
    """
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"{torch.__version__}-{torch.get_num_threads()}-threads"
    return Path(root) / "rayline" / "inductor" / name


def examples(batches: Batches, steps: int) -> tuple[list[Batch], bool]:
    """The largest part of each kind among the first batches, and whether shapes vary.

    A kind is a set of tensors: batches with and without padding differ by their mask. Both follow
    from the batches and the number of steps alone.
    """
    largest: dict[tuple[str, ...], Batch] = {}
    shapes: dict[tuple[str, ...], set[tuple[torch.Size, ...]]] = {}
    for step in range(min(steps, SURVEYED)):
        for batch in filter(lambda part: part.rows, batches.whole(step)):
            kind = tuple(sorted(batch.tensors))
            shapes.setdefault(kind, set()).add(tuple(batch.tensors[name].shape for name in kind))
            if kind not in largest or _size(batch) > _size(largest[kind]):
                largest[kind] = batch
    return [largest[kind] for kind in sorted(largest)], any(len(s) > 1 for s in shapes.values())


def compiled(
    sums: Sums, met: Sequence[Batch], varied: bool, run: Callable[[Sums, Batch], None]
) -> Sums:
    """`sums` with code for `met`; a batch that fits none of it runs eagerly.

    Args:
        sums: a task's.
        met: the batches that code is made for.
        varied: whether the code takes other sizes too; for one size it is a little faster.
        run: calls a function on a batch as training will: forward and backward, in its precision.

    Raises:
        Exception: whatever the compiler or Inductor raises.
    """
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ.setdefault(FOLDER, str(folder))
    import torch._inductor.config as inductor  # noqa: PLC0415 (2 s, and only here)

    inductor.compile_threads = 1  # else processes that outlive a killed worker
    torch.compiler.reset()  # code of an earlier model in this process must not guide this one's
    fast: Sums = torch.compile(sums, dynamic=varied)
    for batch in met:
        run(fast, batch)

    def call(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        with torch.compiler.set_stance("eager_on_recompile"):
            return fast(model, batch)

    return call


def _size(batch: Batch) -> tuple[int, ...]:
    """What "largest" goes by; a name breaks no tie, as tensors of one kind have the same names."""
    return tuple(batch.tensors[name].numel() for name in sorted(batch.tensors))
