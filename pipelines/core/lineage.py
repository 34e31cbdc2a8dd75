"""An artifact and a store -> the tree of everything it was made from, back to the raw files.

The manifests alone are read: an input is looked for at its recorded path and, where a store was
moved or thinned out, by its digest. One that is nowhere is a node that says so.
"""

from dataclasses import dataclass

from pipelines.core.artifact import MANIFEST, Artifact, InputRecord, Manifest, open_artifact
from pipelines.core.config import Json, nearest
from pipelines.core.errors import ArtifactError
from pipelines.core.storage import Store

SHOWN = 12  # hex digits of a digest
RAW_SHOWN = 5  # raw files named; the rest are counted
KEY_METRICS = ("accuracy", "f1_macro", "loss", "agreement")  # the first that is there is shown


@dataclass(frozen=True)
class Node:
    """One ancestor: an artifact, a raw file, or an input that is gone (`missing`)."""

    role: str
    kind: str
    name: str
    digest: str
    uri: str = ""
    counts: tuple[tuple[str, int], ...] = ()
    metric: tuple[str, float] | None = None
    missing: bool = False
    made_from: "tuple[Node, ...]" = ()


def find(target: str, store: Store, workflow: str = "") -> Artifact:
    """The artifact at a path or URI, or the newest one that a step of that name made.

    Args:
        target: the path, URI or name.
        store: where steps are looked for.
        workflow: whose step it is; any workflow's if empty.

    Raises:
        ArtifactError: it is neither; lists the steps that have made something.
    """
    if Store.at(target).exists(MANIFEST):
        return open_artifact(target)
    if store.exists(f"{target}/{MANIFEST}"):
        return open_artifact(store.locate(target))
    made = [found for found in _all(store) if workflow in ("", found.manifest.workflow)]
    named = [artifact for artifact in made if artifact.manifest.name == target]
    if named:
        return max(named, key=lambda artifact: (artifact.manifest.started, artifact.uri))
    steps = sorted({artifact.manifest.name for artifact in made})
    hint = nearest(target, steps) if steps else f"{store.uri} holds no artifact yet"
    raise ArtifactError(f"{target}: neither an artifact's path nor a step of {store.uri}; {hint}")


def ancestors(artifact: Artifact, storage: Store) -> Node:
    """The tree below `artifact`; an ancestor reached twice is in it twice."""
    return _node("", artifact, storage)


def render(tree: Node) -> str:
    """The tree as indented lines: role, kind, name, digest, counts, key metric.

    An artifact that was reached before is named, and what it was made from is not said again.
    """
    return "\n".join(_lines(tree, "", "", set()))


def plain(tree: Node) -> Json:
    """The tree as JSON."""
    return {
        "role": tree.role,
        "kind": tree.kind,
        "name": tree.name,
        "digest": tree.digest,
        "uri": tree.uri,
        "counts": dict(tree.counts),
        "metrics": dict([tree.metric] if tree.metric else []),
        "missing": tree.missing,
        "made_from": [plain(node) for node in tree.made_from],
    }


def _node(role: str, artifact: Artifact, storage: Store) -> Node:
    facts = artifact.manifest
    parents = [_parent(role, record, storage) for role, record in sorted(facts.inputs.items())]
    raw = [Node("raw", "raw", name, digest) for name, digest in sorted(facts.raw.items())]
    return Node(
        role=role,
        kind=facts.kind,
        name=facts.name,
        digest=facts.digest,
        uri=artifact.uri,
        counts=tuple(sorted(facts.counts.items())),
        metric=_key_metric(facts),
        made_from=(*parents, *raw),
    )


def _parent(role: str, record: InputRecord, storage: Store) -> Node:
    found = _at(record, storage) or next(
        (other for other in _all(storage) if other.digest == record.digest), None
    )
    if found is None:
        return Node(role, record.kind, record.name, record.digest, record.path, missing=True)
    return _node(role, found, storage)


def _at(record: InputRecord, storage: Store) -> Artifact | None:
    """The artifact at the recorded path, if it is the one; absolute if it lay outside the store."""
    outside = record.path.startswith("/") or "://" in record.path
    try:
        found = open_artifact(record.path if outside else storage.locate(record.path))
    except ArtifactError:
        return None
    return found if found.digest == record.digest else None


def _all(storage: Store) -> list[Artifact]:
    """Every readable artifact of the store."""
    found = []
    for stage in storage.folders():
        for folder in [] if stage.startswith(".") else storage.folders(stage):
            try:
                found.append(open_artifact(storage.locate(f"{stage}/{folder}")))
            except ArtifactError:  # unfinished or damaged: not an ancestor
                continue
    return found


def _key_metric(facts: Manifest) -> tuple[str, float] | None:
    return next(((key, facts.metrics[key]) for key in KEY_METRICS if key in facts.metrics), None)


def _lines(node: Node, first: str, rest: str, seen: set[str]) -> list[str]:
    """The lines of a node; `first` leads its own line, `rest` those below."""
    if node.digest in seen and node.made_from:
        return [f"{first}{node.role}: {node.kind} {node.name} {node.digest[:SHOWN]}  (see above)"]
    seen.add(node.digest)
    raw = [child for child in node.made_from if child.kind == "raw"]
    shown = [child for child in node.made_from if child.kind != "raw"] + raw[:RAW_SHOWN]
    more = len(raw) - RAW_SHOWN
    lines = [first + _line(node)]
    for index, child in enumerate(shown, start=1):
        last = index == len(shown) and more <= 0
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        lines += _lines(child, rest + branch, rest + below, seen)
    if more > 0:
        lines.append(f"{rest}└─ and {more:,} more raw files")
    return lines


def _line(node: Node) -> str:
    if node.kind == "raw":
        return f"raw file {node.name} {node.digest[:SHOWN]}"
    facts = [f"{key} {count:,}" for key, count in node.counts]
    if node.metric:
        facts.append(f"{node.metric[0]} {node.metric[1]:.4g}")
    role = f"{node.role}: " if node.role else ""
    line = f"{role}{node.kind} {node.name} {node.digest[:SHOWN]}"
    if node.missing:
        return f"{line}  missing: no longer at {node.uri}, nor anywhere else in the store"
    return f"{line}  {'  '.join(facts)}".rstrip()
