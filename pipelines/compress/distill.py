"""A classifier and a Corpus in; a smaller student that learnt its softened outputs out.

The loss is `soft_share * T^2 * KL(teacher || student)` at temperature T on every text, plus
`1 - soft_share` times the cross-entropy on the texts that have labels. The loop is training's own.
The student begins with every weight of the teacher's that has its name and shape: embeddings, first
layers and head where the widths agree (Sanh et al. 2019, section 3).

Source: Hinton et al. 2015, section 2.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipelines.compress.config import CompressConfig, Distill
from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.config import Json
from pipelines.core.group import distributed
from pipelines.core.workflow import Outcome, Step
from pipelines.model.build import Labels, Vocabulary, build
from pipelines.model.checkpoint import Loaded, load_model, read_facts, supply
from pipelines.tasks.classify import ClassifyTask, encode, number, scores, select
from pipelines.tasks.protocol import Batch, inputs
from pipelines.train.loop import batches_of, fit
from pipelines.train.publish import publish
from pipelines.train.team import Team

GROUP = 256  # texts a file of teacher's logits, which a killed run computes anew at most
ROWS = 64  # texts the teacher reads at once


class DistillTask:
    """Texts with the teacher's logits (N, L), and labels where there are any."""

    def __init__(self, texts: ClassifyTask, teacher_NL: np.ndarray, method: Distill) -> None:
        self._texts, self._method = texts, method
        self._teacher_NL = torch.from_numpy(teacher_NL)
        self.lengths = texts.lengths

    @property
    def objectives(self) -> Mapping[str, float]:
        """T^2 keeps the soft gradients' size whatever T is (Hinton et al. 2015, section 2)."""
        soft = self._method.soft_share
        return {"soft_loss": soft * self._method.temperature**2, "label_loss": 1 - soft}

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:
        """These rows, alike in every epoch."""
        return _with_teacher(self._texts.batch(rows, epoch), self._teacher_NL)

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Sums of both losses, of right answers, and of answers that are the teacher's."""
        student_BL, teacher_BL = scores(model, batch), batch.tensors["teacher"]
        heat = self._method.temperature
        soft = functional.kl_div(
            functional.log_softmax(student_BL / heat, dim=-1),
            functional.log_softmax(teacher_BL / heat, dim=-1),
            reduction="sum",
            log_target=True,
        )
        agreed = student_BL.detach().argmax(-1) == teacher_BL.argmax(-1)
        figures = {"soft_loss": soft, "agreement": agreed.sum().float()}
        return figures | self._texts.figures(student_BL, batch)


def distill(config: CompressConfig, step: Step) -> Outcome:
    """Learn the student, in as many processes as the placement says and the batch has parts.

    Raises:
        DataError: the corpus has no text in the split, or a label the teacher does not know.
    """
    assert isinstance(config.method, Distill)
    facts = distributed(
        learn,
        {"config": config, "inputs": dict(step.inputs), "out": step.out},
        name=step.name,
        workers=step.placement.workers,
        parts=config.method.optimise.shards,
        cpus=step.placement.worker_cpus,
        out=step.out,
        report=step.report,
    )
    return Outcome(**facts)


def learn(settings: Json) -> Json:
    """One process's work; process 0 writes the student and returns its figures."""
    config: CompressConfig = settings["config"]
    sources: dict[str, Artifact] = settings["inputs"]
    method, out = config.method, settings["out"]
    assert isinstance(method, Distill)
    folder = sources["model"].local()
    max_length = read_facts(folder)["max_length"]
    teacher = load_model(folder)
    names = [
        teacher.model.config.id2label[place] for place in range(teacher.model.config.num_labels)
    ]
    table = select(sources["data"].local(), config.split)
    rows = encode(teacher.tokenizer, table["text"].to_pylist(), max_length)
    labels = number(table["label"].to_pylist(), names, sources["data"].uri)
    pad_id, optimise = teacher.tokenizer.pad_token_id, method.optimise
    texts = ClassifyTask(rows, labels, pad_id=pad_id)
    task = DistillTask(texts, teacher_logits(teacher, rows, out), method)
    vocabulary = Vocabulary(len(teacher.tokenizer), pad_id)
    student = build(
        method.student, vocabulary, Labels(names, method.student.dropout), optimise.seed
    )
    supply(student, teacher.model.state_dict())
    fitted = fit(student, batches_of(task, optimise), optimise, out)
    if Team().rank:
        return {}
    facts = publish(out, fitted, student, folder, teacher.task, max_length)
    facts["counts"]["rows"] = len(rows)
    return facts


def teacher_logits(teacher: Loaded, rows: list[np.ndarray], out: Workspace) -> np.ndarray:
    """The teacher's logits for every row, fp32 (N, L), each computed by one of the processes.

    They are working files, so that a restart computes only what is missing.
    """
    team = Team()
    names = [f".teacher/{place:05d}.npy" for place in range(-(-len(rows) // GROUP))]

    def write_own() -> None:
        for place in range(team.rank, len(names), team.size):
            if not out.exists(names[place]):
                part, buffer = rows[place * GROUP : (place + 1) * GROUP], io.BytesIO()
                np.save(buffer, _logits(teacher, part, team.device))
                out.write(names[place], buffer.getvalue())

    team.done(write_own)
    return np.concatenate([np.load(io.BytesIO(out.read(name))) for name in names])


@torch.inference_mode()
def _logits(teacher: Loaded, rows: list[np.ndarray], device: torch.device) -> np.ndarray:
    model = teacher.model.to(device)
    order = np.argsort([len(row) for row in rows], kind="stable")
    found = np.empty((len(rows), teacher.model.config.num_labels), np.float32)
    for chunk in np.array_split(order, max(1, -(-len(order) // ROWS))):
        given = inputs([rows[place] for place in chunk], teacher.tokenizer.pad_token_id)
        on_device = {name: tensor.to(device) for name, tensor in given.items()}
        found[chunk] = model(**on_device).logits.float().cpu().numpy()
    return found


def _with_teacher(batch: Batch, teacher_NL: torch.Tensor) -> Batch:
    rows = len(batch.rows)
    return Batch(
        batch.tensors | {"teacher": teacher_NL[list(batch.rows)]},
        batch.counts | {"soft_loss": rows, "agreement": rows},
        batch.rows,
        batch.tokens,
    )
