"""The files that texts are judged by -> a classifier and an index of evaluation items, in the step.

They are learnt once, in the driver; each task loads them. A record of theirs that cannot be read
stops the step: an item left out unseen would not be looked for.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from sys import maxsize
from typing import Any

from pipelines.core.artifact import Workspace
from pipelines.core.errors import DataError
from pipelines.core.storage import scratch
from pipelines.corpus import contamination, dedup, quality, readers
from pipelines.corpus.clean import clean
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.records import Document, Quarantined
from pipelines.corpus.refine import Learnt, safe
from pipelines.corpus.sources import Files, RawFile, expand

QUALITY, EVALUATION = ".work/quality.safetensors", ".work/evaluation.safetensors"


def learn(config: CorpusConfig, out: Workspace) -> None:
    """Write what texts are judged by: the classifier of the examples, the evaluation items.

    Raises:
        DataError: a file gives nothing, or has records that cannot be read.
    """
    if config.quality and not out.exists(QUALITY):
        wanted = (text for _, text in _texts(config.quality.wanted, "quality.wanted"))
        unwanted = (text for _, text in _texts(config.quality.unwanted, "quality.unwanted"))
        out.write(QUALITY, quality.train(wanted, unwanted).to_bytes())
    if config.decontaminate and not out.exists(EVALUATION):
        items: dict[str, list[tuple[str, str]]] = {}
        for document, text in _texts(config.decontaminate.sets, "decontaminate.sets"):
            items.setdefault(document.source, []).append((str(document.row), text))
        out.write(EVALUATION, contamination.build(items).to_bytes())


def learnt(config: CorpusConfig, out: Workspace) -> Learnt:
    """What `learn` wrote, loaded, for one part."""
    return Learnt(
        words=dedup.Words(),
        quality=_opened(out, QUALITY, quality.load) if config.quality else None,
        evaluation=_opened(out, EVALUATION, contamination.load) if config.decontaminate else None,
    )


def evaluated(config: CorpusConfig, out: Workspace) -> dict[str, dict[str, int]]:
    """Of each evaluation set: its items, and how many are too short to be looked for."""
    if not config.decontaminate:
        return {}
    index: contamination.Index = _opened(out, EVALUATION, contamination.load)
    return contamination.sizes(index)


def _texts(files: tuple[Files, ...], setting: str) -> Iterator[tuple[Document, str]]:
    """The documents of some files, and their cleaned texts."""
    for raw in expand(files):
        found = Counter[type]()
        first: Quarantined | None = None
        for part in readers.slices(raw, maxsize):
            for record in readers.documents(part):
                found[type(record)] += 1
                if isinstance(record, Document):
                    yield record, clean(record.text)
                else:
                    first = first or record
        _check(raw, setting, found[Document], found[Quarantined], first)


def _check(raw: RawFile, setting: str, read: int, bad: int, first: Quarantined | None) -> None:
    """Refuse a file that does not do all that its owner thinks it does."""
    remedy = f"text= of its entry in {setting} names the field that holds the text"
    if first:
        raise DataError(
            f"{raw.location}: {bad:,} of its {read + bad:,} records cannot be read, the first is "
            f"row {first.row}: {safe(first.reason)}; {remedy}; mend or remove bad records"
        )
    if not read:
        raise DataError(f"{raw.location}: no text in it, expected at least one; {remedy}")


@lru_cache(maxsize=2)  # both of a step, in a process that works on many parts
def _opened(out: Workspace, name: str, load: Callable[[str], Any]) -> Any:
    with scratch() as folder:
        path = Path(folder) / "learnt"
        path.write_bytes(out.read(name))
        return load(str(path))
