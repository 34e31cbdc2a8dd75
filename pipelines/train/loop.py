"""A model, batches and settings in; the learnt weights and their history out. No Ray.

`fit` is one process's view: all of them call it, with equal arguments. A batch is cut in
`optimise.shards` parts whatever the number of processes. Two terms add up to the same bits in
either order, so one process and two give the same weights with two parts; with more, they agree to
rounding.

What a step does follows from the settings and from what a checkpoint holds, so that a run goes on
from any of its checkpoints to the same end. How often one is written changes no weight.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn, assert_never

import torch

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError, DataError
from pipelines.core.group import LeaveError
from pipelines.tasks.batches import Batches
from pipelines.tasks.protocol import Task
from pipelines.train import validate
from pipelines.train.ahead import Ahead
from pipelines.train.config import Optimise, Spikes
from pipelines.train.kernels import prepare
from pipelines.train.learner import Learner
from pipelines.train.optimizers import Optimizer, open_optimizer
from pipelines.train.preempt import Notice
from pipelines.train.progress import Progress
from pipelines.train.schedule import learning_rate
from pipelines.train.sharded import Sharded
from pipelines.train.spikes import watched
from pipelines.train.state import FOLDER, Checkpoint, Writer
from pipelines.train.team import Parallel, Replicated, Team
from pipelines.train.throughput import Meter, peak_flops
from pipelines.train.validate import Judging

log = logging.getLogger(__name__)

PATIENCE_S = 20.0  # of one wait for a score; longer ones are cut, as the other processes wait too


@dataclass(frozen=True)
class Fitted:
    """What `fit` leaves beside the weights in the model.

    `history` has a point a step: `step` (from 1), `loss`, `learning_rate` and the task's figures;
    where there is more to tell, also `skipped`, `batch` (its number, if it is not the step's) and
    `validation_loss`. `chosen` has `best_step` and its figures if the run was judged. All this and
    `tokens` repeat exactly; `measured` does not, and has no rate if no step was left.
    """

    history: list[Json]
    tokens: int
    measured: dict[str, float]
    chosen: dict[str, float] = field(default_factory=dict)
    roll_backs: int = 0


def batches_of(task: Task, optimise: Optimise) -> Batches:
    """A task's batches as the settings say."""
    return Batches(task, seed=optimise.seed, batch_rows=optimise.batch_rows, parts=optimise.shards)


def fit(
    model: Any,
    batches: Batches,
    optimise: Optimise,
    out: Workspace,
    judging: Judging | None = None,
) -> Fitted:
    """Learn a task's `batches` from the newest verified checkpoint in `out`, or from the start.

    Args:
        model: a transformers model with the weights to start from; learnt in place. In process 0
            it has the chosen weights in the end: the last step's, or the best judged ones.
        batches: what is learnt, a batch a step.
        optimise: how.
        out: where checkpoints are read and written.
        judging: how the weights are judged on other rows while they are learnt, if they are.

    Raises:
        ArtifactError: a process cannot read the checkpoint that process 0 resumes from.
        DataError: the loss or a gradient is not finite, which names the step and the rows; or
            there were more spikes than `optimise.spikes` lets pass.
        LeaveError: a process was told to go; the step that was under way is in a checkpoint.
        StorageError: a checkpoint could not be written.
    """
    team = Team()
    model.to(team.device).train()
    sums, dtype, prepared = prepare(model, batches, optimise, out, team)
    meter = Meter(model, _peak(team, dtype))
    parallel = _parallel(model, optimise, team)
    optimizer = open_optimizer(model, optimise)
    ahead = Ahead(batches, parallel.turns)
    learner = Learner(batches.task, sums, ahead, optimise, dtype, team, parallel, meter)
    with Notice(out, team.rank) as notice, Writer() as writer, ahead:
        run = _Run(optimise, learner, optimizer, out, notice, writer, judging)
        run.to_the_end()
        team.done(writer.wait)
    meter.raise_peak(_peak(team, dtype))
    parallel.gather()
    measured = meter.read() | prepared
    fitted = Fitted(run.history, run.tokens, measured, roll_backs=run.watch.roll_backs)
    if judging is None or team.rank:
        return fitted
    return _chosen(fitted, model, run.handed, judging, out)


class _Run:
    """Where a run stands, moved on step by step; alike in every process."""

    def __init__(
        self,
        optimise: Optimise,
        learner: Learner,
        optimizer: Optimizer,
        out: Workspace,
        notice: Notice,
        writer: Writer,
        judging: Judging | None,
    ) -> None:
        self._optimise, self._learner, self._optimizer = optimise, learner, optimizer
        self._team, self._parallel = learner.team, learner.parallel
        self._out, self._notice, self._writer, self._judging = out, notice, writer, judging
        self._progress = Progress(out, optimise.steps)
        self._shown: Json = {}  # the newest figures of validation
        at = self._parallel.resume(out, optimizer)
        if at.step and at.optimizer != optimise.optimizer.kind:
            raise ArtifactError(
                f"checkpoint of step {at.step}: made with {at.optimizer}, and optimise.optimizer "
                f"is {optimise.optimizer.kind}; remove {FOLDER} in the step's work folder"
            )
        self._stand(at)

    def _stand(self, at: Checkpoint) -> None:
        """Take up a checkpoint whose tensors are in place."""
        self.batch, self.step, self.tokens = at.batch, at.step, at.tokens
        self.history, self.watch, self.handed = list(at.history), at.watch, at.handed
        self._saved, self._saved_s = at.step, time.monotonic()

    def to_the_end(self) -> None:
        """Take every step that is left, or those until validation has seen enough.

        Raises:
            LeaveError: a process was told to go; the checkpoint of the step is written.
        """
        spikes, steps = self._optimise.spikes, self._optimise.steps
        if spikes and self.watch.anchor is None and self.step < steps:
            self._anchor()
        enough = bool(self.handed) and self._enough()
        while self.step < steps and not enough:
            leave, due = self._advance()
            if spikes and self.watch.streak >= spikes.in_a_row:
                self._roll_back(spikes)
                continue
            last = self.step == steps
            judged = self._judging and (last or self.step % self._judging.every == 0)
            if judged:
                self._hand_in()
            if spikes and not self.watch.streak and self.step % spikes.anchor_steps == 0:
                self._anchor()
            elif due or last:
                self._save()
            if leave and not last:  # without waiting for scores: the next try asks for them first
                self._leave()
            enough = bool(judged) and self._enough()
        if self._saved != self.step:
            self._save()
        if not self._team.rank:
            self._progress.close()

    def _leave(self) -> NoReturn:
        """Go, as was asked, once the checkpoint of this step is written."""
        if self._saved != self.step:
            self._save()
        self._writer.wait()
        raise LeaveError(f"told to leave; the checkpoint of step {self.step} is written")

    def _advance(self) -> tuple[bool, bool]:
        """Take one step; returns whether to leave, and whether a checkpoint is due."""
        taken = self._learner.take(self.batch, self.step, (self._notice.given(), self._due()))
        rate = learning_rate(self.step, self._optimise)
        point: Json = {"step": self.step + 1, "learning_rate": rate} | taken.figures
        if self._optimise.spikes:
            loss = taken.figures["loss"]
            self.watch = watched(self.watch, loss, taken.norm, self._optimise.spikes)
        if self.watch.streak:
            log.warning(
                "step %d: loss %s, gradient norm %s: a spike; weights were not changed by it",
                self.step + 1,
                taken.figures["loss"],
                taken.norm,
            )
            point["skipped"] = 1
        else:
            self._learner.move(self._optimizer, rate)
            self.tokens += taken.tokens
        if self.batch != self.step:
            point["batch"] = self.batch + 1
        self.batch, self.step = self.batch + 1, self.step + 1
        self.history.append(point)
        leave, due = taken.flags
        if not self._team.rank:
            shown = point | {"tokens": self.tokens} | self._shown
            self._progress.add(shown, self._learner.meter.read(), kept=due)
        return leave, due

    def _due(self) -> bool:
        """Whether a checkpoint is due after the step that begins, as process 0 finds.

        One that comes due while another is being written waits for it, and training does not.
        """
        if self._team.rank or not self._writer.idle:
            return False
        steps = self.step + 1 - self._saved
        seconds = time.monotonic() - self._saved_s
        return steps >= self._optimise.checkpoint_steps or seconds >= self._optimise.checkpoint_s

    def _save(self) -> None:
        """Begin to write a checkpoint of where the run stands."""
        checkpoint = Checkpoint(
            self.batch,
            self.step,
            self.tokens,
            list(self.history),
            self.watch,
            self.handed,
            self._optimise.optimizer.kind,
            self._parallel.capture(self._optimizer),
        )
        self._submit(partial(self._parallel.write, self._out, checkpoint))
        self._saved, self._saved_s = self.step, time.monotonic()

    def _submit(self, job: Callable[[], None]) -> None:
        """Begin to write once nothing is being written in any process, however long that takes."""
        self._team.done(self._writer.wait)
        self._writer.submit(job)

    def _anchor(self) -> None:
        """Make this the point that weights go back to; it does not follow from checkpoints' times.

        Else a run whose checkpoints fell otherwise would go back to other weights.
        """
        self.watch = replace(self.watch, anchor=self.batch)
        self._save()

    def _roll_back(self, spikes: Spikes) -> None:
        """Go back to the anchor's weights, and on with the batches after those taken.

        Raises:
            DataError: that was done as often as it may be.
        """
        if self.watch.roll_backs == spikes.roll_backs:
            raise DataError(
                f"step {self.step}: {self.watch.streak} spikes in a row, after "
                f"{spikes.roll_backs} roll-backs (optimise.spikes.roll_backs): lower "
                "optimise.learning_rate, or look at the rows of these steps"
            )
        self._team.done(self._writer.wait)
        batch, step, handed, done = self.batch, self.step, self.handed, self.watch.roll_backs + 1
        at = self._parallel.resume(self._out, self._optimizer, self.watch.anchor)
        self._stand(replace(at, batch=batch, handed=handed))
        self.watch = replace(self.watch, roll_backs=done)
        log.warning(
            "step %d: %d spikes in a row; back to the weights of step %d, and on with batch %d",
            step,
            spikes.in_a_row,
            self.step,
            batch + 1,
        )
        self._anchor()

    def _hand_in(self) -> None:
        """Give the weights to whoever judges them; process 0 has them."""
        assert self._judging is not None
        weights = self._parallel.weights()
        if self.handed and not self._team.rank:
            newest = self._judging.score(self.handed[-1][0], 0.0) or {}
            self._shown = _named(newest) or self._shown
        if self._team.rank:
            self._submit(lambda: None)
        else:
            self._submit(partial(validate.hand_in, self._out, self.batch, weights))
        self.handed = (*self.handed, (self.batch, self.step))

    def _enough(self) -> bool:
        """Whether validation has seen enough, by the scores before the newest.

        Raises:
            LeaveError: a process was told to go while all waited for a score.
        """
        judging = self._judging
        if judging is None or judging.patience is None:
            return False
        handed = [entry for entry in self.handed if _taken(self.history, *entry)][:-1]
        while True:
            verdict = 0
            if not self._team.rank:
                scores = _scores(handed, judging, PATIENCE_S)
                if scores is not None:
                    verdict = 2 if validate.exhausted(scores, judging.patience) else 1
            if verdict := self._team.agreed(verdict):
                return verdict == 2
            if self._team.any(self._notice.given()):
                self._leave()


def _chosen(
    fitted: Fitted,
    model: Any,
    handed: tuple[tuple[int, int], ...],
    judging: Judging,
    out: Workspace,
) -> Fitted:
    """Put the best weights into the model, once all are judged, and the scores into the history."""
    scores = None
    while scores is None:
        scores = _scores(handed, judging, PATIENCE_S)
    validate.finite(scores)
    for (batch, step), score in zip(handed, scores, strict=True):
        if _taken(fitted.history, batch, step):
            fitted.history[step - 1] = fitted.history[step - 1] | _named(score)
    there = validate.kept(out, handed)
    place = there[validate.best([scores[place] for place in there])]
    batch, step = handed[place]
    validate.put(model, validate.best_weights(out, batch))
    return replace(fitted, chosen={"best_step": float(step)} | _named(scores[place]))


def _taken(history: list[Json], batch: int, step: int) -> bool:
    """Whether a step of the history is this one; a roll-back takes others after its anchor."""
    return step <= len(history) and history[step - 1].get("batch", step) == batch


def _named(score: validate.Score) -> dict[str, float]:
    """The figures that are numbers, as they are called beside those of training."""
    return {f"validation_{name}": value for name, value in score.items() if value is not None}


def _parallel(model: torch.nn.Module, optimise: Optimise, team: Team) -> Parallel:
    """How the weights lie among the processes."""
    match optimise.parallel:
        case "replicate":
            return Replicated(model, team)
        case "shard":
            return Sharded(model, team)
        case other:
            assert_never(other)


def _peak(team: Team, dtype: torch.dtype) -> float:
    """FLOP/s of all processes together, measured at the same time."""
    team.add(torch.zeros(1, device=team.device))  # wait until all are here
    found = torch.tensor([peak_flops(team.device, dtype)], device=team.device)
    team.add(found)
    return float(found)


def _scores(
    handed: Sequence[tuple[int, int]], judging: Judging, wait_s: float
) -> list[validate.Score] | None:
    """Those of the weights handed in, or None if one is not there in time."""
    found = []
    for batch, _ in handed:
        score = judging.score(batch, wait_s)
        if score is None:
            return None
        found.append(score)
    return found
