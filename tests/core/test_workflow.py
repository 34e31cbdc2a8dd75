import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core import plan as planning
from pipelines.core import run as running
from pipelines.core.artifact import MANIFEST, open_artifact
from pipelines.core.config import Input, Location, Placement, StageConfig, parse
from pipelines.core.errors import ArtifactError, ConfigError, DataError, StorageError
from pipelines.core.plan import facts_of, hashed, plan
from pipelines.core.run import run
from pipelines.core.storage import Store
from pipelines.core.workflow import Workflow, snapshot

FAKE = Path(__file__).with_name("fake.py")


def actions(workflow, storage, **options):
    return {
        step.name: (step.action, step.reason)
        for step in plan(workflow, Store.at(storage), **options)
    }


class Events:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.seen = []

    def started(self, name, config, made_from):
        self.seen.append(("started", name, sorted(made_from)))

    def progress(self, name, facts):
        self.seen.append(("progress", name, facts["step"]))

    def finished(self, name, artifact, made_from):
        self.seen.append(("finished", name, artifact.kind))

    def reused(self, name, artifact):
        self.seen.append(("reused", name, artifact.kind))

    def failed(self, name, error):
        self.seen.append(("failed", name, str(error)))


def test_a_run_makes_every_step_and_the_next_run_reuses_all(fake, root):
    first, second = Events(), Events()
    made = fake.run_flow(fake.flow(), root, first)
    assert made["joined"].read("report.json") == b"one two"
    assert made["words"].manifest.counts == {"words": 2}
    assert first.seen == [
        ("started", "words", []),
        ("progress", "words", 0),
        ("progress", "words", 1),
        ("finished", "words", "Corpus"),
        ("started", "joined", ["corpus"]),
        ("finished", "joined", "Report"),
    ]
    again = fake.run_flow(fake.flow(), root, second)
    assert second.seen == [("reused", "words", "Corpus"), ("reused", "joined", "Report")]
    assert again == made


def test_the_plan_says_what_runs_and_why(fake, root):
    assert actions(fake.flow(), root) == {
        "words": ("RUN", "not made yet"),
        "joined": ("RUN", "its input words runs"),
    }
    fake.run_flow(fake.flow(), root)
    assert {action for action, _ in actions(fake.flow(), root).values()} == {"REUSE"}
    assert actions(fake.flow(separator="-"), root)["joined"] == (
        "RUN",
        'changed: separator " " -> "-"',
    )
    assert actions(fake.flow(words=("one", "2")), root) == {
        "words": ("RUN", 'changed: words ["one", "two"] -> ["one", "2"]'),
        "joined": ("RUN", "its input words runs"),
    }


def test_a_changed_input_with_the_same_settings_is_named_as_the_reason(fake, tmp_path):
    raw, storage = tmp_path / "raw.txt", str(tmp_path / "store")
    raw.write_text("three")
    workflow = fake.flow(raw=str(raw))
    fake.run_flow(workflow, storage)
    raw.write_text("four")
    assert actions(workflow, storage)["words"][1].startswith("changed: raw.raw.txt ")
    made = fake.run_flow(workflow, storage)
    assert made["joined"].read("report.json") == b"one two four"
    assert actions(fake.flow(raw=str(raw)), storage)["joined"][0] == "REUSE"


def test_a_step_whose_remade_input_has_the_same_bytes_is_reused(fake, tmp_path):
    raw, storage = tmp_path / "raw.txt", str(tmp_path)
    raw.write_text("two")
    fake.run_flow(fake.flow(words=("one", "two")), storage)
    events = Events()
    fake.run_flow(fake.flow(words=("one",), raw=str(raw)), storage, events)
    assert ("finished", "words", "Corpus") in events.seen
    assert ("reused", "joined", "Report") in events.seen


def test_only_the_steps_below_a_change_run_again(fake, tmp_path):
    fake.run_flow(fake.flow(), str(tmp_path))
    events = Events()
    fake.run_flow(fake.flow(separator="-"), str(tmp_path), events)
    assert [(event, name) for event, name, _ in events.seen] == [
        ("reused", "words"),
        ("started", "joined"),
        ("finished", "joined"),
    ]


def test_a_longer_name_that_starts_alike_is_another_step(fake, tmp_path):
    workflow = Workflow("w")
    workflow.add("words-long", fake.WordsConfig(words=("a", "b", "c")))
    fake.run_flow(workflow, str(tmp_path))
    assert actions(fake.flow(), str(tmp_path))["words"] == ("RUN", "not made yet")


def test_placement_changes_nothing(fake, tmp_path):
    fake.run_flow(fake.flow(), str(tmp_path), workers=1)
    events = Events()
    fake.run_flow(fake.flow(), str(tmp_path), events, workers=7)
    assert {event for event, _, _ in events.seen} == {"reused"}


def test_a_store_copied_elsewhere_is_reused_there(fake, tmp_path, bucket):
    here = str(tmp_path / "here")
    fake.run_flow(fake.flow(), here)
    there = f"{bucket}/{tmp_path.name}-copy"
    for name in Store.at(here).names("fake"):
        Store.at(there).write(name, Store.at(here).read(name))
    (tmp_path / "here").rename(tmp_path / "moved")
    for storage in (str(tmp_path / "moved"), there):
        events = Events()
        made = fake.run_flow(fake.flow(), storage, events)
        assert {event for event, _, _ in events.seen} == {"reused"}
        assert made["joined"].manifest.inputs["corpus"].path.startswith("fake/words-")


def test_an_input_outside_the_store_keeps_its_whole_path(fake, tmp_path):
    corpus = fake.run_flow(fake.flow(), str(tmp_path / "runs"))["words"]
    workflow = Workflow("w")
    workflow.add("joined", fake.JoinConfig(corpus=corpus.uri))
    # A sibling whose path begins alike is outside, too.
    made = fake.run_flow(workflow, str(tmp_path / "run"))["joined"]
    assert made.manifest.inputs["corpus"].path == corpus.uri


@pytest.mark.parametrize("victim", ["data/part-0", MANIFEST])
def test_a_damaged_artifact_is_never_used_but_set_aside_and_made_anew(fake, root, victim):
    made = fake.run_flow(fake.flow(), root)
    words = made["words"]
    inside = f"data/{victim}" if words.manifest.root and victim != MANIFEST else victim
    whole = words.store.read(inside)
    words.store.write(inside, whole[:-1] + b"!")
    action, reason = actions(fake.flow(), root)["words"]
    assert action == "RUN"
    assert "damaged" in reason
    assert "altered" in reason
    again = fake.run_flow(fake.flow(), root)
    again["words"].verify()
    assert again["words"].digest == words.digest
    assert Store(f"{words.uri}.aside-1").read(inside) == whole[:-1] + b"!"


def test_making_a_damaged_artifact_anew_takes_nothing_from_an_old_try(fake, tmp_path):
    words = fake.run_flow(fake.flow(), str(tmp_path))["words"]
    words.store.write("data/part-0", b"damaged")
    leftover = Store.at(str(tmp_path)).below(f".work/fake/{Path(words.uri).name}")
    leftover.write("data/part-0", b"stale")
    assert fake.run_flow(fake.flow(), str(tmp_path))["joined"].read("report.json") == b"one two"


def test_a_folder_in_the_way_that_lost_its_manifest_is_kept_and_made_anew(fake, tmp_path):
    words = fake.run_flow(fake.flow(), str(tmp_path))["words"]
    words.store.delete(MANIFEST)
    again = fake.run_flow(fake.flow(), str(tmp_path))["words"]
    again.verify()
    assert Store(f"{words.uri}.aside-1").read("data/part-0") == b"one"


def test_changed_code_is_shown_as_drift_and_rerun_only_on_request(fake, root, monkeypatch):
    fake.run_flow(fake.flow(), root)
    for module in (planning, running):
        monkeypatch.setattr(module, "source_digest", lambda stage: "edited since")
    events = Events()
    fake.run_flow(fake.flow(), root, events)
    assert {event for event, _, _ in events.seen} == {"reused"}
    assert "its code has changed since" in actions(fake.flow(), root)["words"][1]
    assert actions(fake.flow(), root, fresh_code=True)["words"][0] == "RUN"
    made = fake.run_flow(fake.flow(), root, fresh_code=True)
    assert made["words"].manifest.code["source"] == "edited since"
    assert "changed" not in actions(fake.flow(), root)["words"][1]


def test_an_unfinished_try_of_other_code_is_dropped_on_request_and_else_told(
    fake, root, monkeypatch, caplog
):
    class Stop(Events):
        def progress(self, name, facts):
            if facts["step"] == 1:
                raise RuntimeError("killed")

    def leave_half() -> None:
        with pytest.raises(RuntimeError, match="killed"):
            fake.run_flow(fake.flow(), root, Stop())
        (half,) = [name for name in Store.at(root).names() if name.endswith("data/part-0")]
        Store.at(root).write(half, b"old")

    leave_half()
    for module in (planning, running):
        monkeypatch.setattr(module, "source_digest", lambda stage: "edited since")
    made = fake.run_flow(fake.flow(), root, fresh_code=True)["joined"]
    assert made.read("report.json") == b"one two"
    Store.at(root).delete("fake")
    leave_half()
    monkeypatch.setattr(running, "source_digest", lambda stage: "edited again")
    assert fake.run_flow(fake.flow(), root)["joined"].read("report.json") == b"old two"
    assert "what an unfinished run of other code wrote (--fresh-code starts anew)" in caplog.text


def test_the_code_of_a_stage_is_its_file_and_all_it_imports_but_core():
    found = planning._imported("pipelines.corpus.stage")
    assert {"pipelines.corpus.stage", "pipelines.corpus.rules.sets", "pipelines.safety.pii"} <= set(
        found
    )
    assert not [name for name in found if name.startswith("pipelines.core")]
    assert "pipelines.tasks.metrics" in planning._imported("pipelines.evaluate.stage")
    assert planning.source_digest("corpus") != planning.source_digest("evaluate")


def test_storage_that_fails_for_now_is_an_error_and_no_damage(fake, root, monkeypatch):
    words = fake.run_flow(fake.flow(), root)["words"]

    def fails(store, name):
        raise StorageError(f"{name}: cannot be reached: timed out")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "sha256", fails)
        with pytest.raises(StorageError, match="timed out"):
            fake.run_flow(fake.flow(), root)
    assert actions(fake.flow(), root)["words"][0] == "REUSE"
    words.verify()


def test_raw_files_that_change_while_they_are_read_stop_the_step(fake, tmp_path):
    raw = tmp_path / "raw.txt"
    raw.write_text("before")

    class Meddler(Events):
        def progress(self, name, facts):
            raw.write_text("after")

    storage, meddler = str(tmp_path / "store"), Meddler()
    with pytest.raises(DataError, match=r"raw files changed while they were read: raw\.txt"):
        fake.run_flow(fake.flow(raw=str(raw)), storage, meddler)
    assert meddler.seen[-1][:2] == ("failed", "words")
    assert not Store.at(storage).folders("fake")
    made = fake.run_flow(fake.flow(raw=str(raw)), storage)
    assert made["joined"].read("report.json") == b"one two after"


def test_a_failed_step_leaves_nothing_that_looks_finished_and_its_shards_are_kept(fake, root):
    class Stop(Events):
        def progress(self, name, facts):
            if facts["step"] == 1:
                raise RuntimeError("out of memory")

    stop = Stop()
    with pytest.raises(RuntimeError, match="out of memory"):
        fake.run_flow(fake.flow(), root, stop)
    assert stop.seen[-1] == ("failed", "words", "out of memory")
    assert actions(fake.flow(), root)["words"] == ("RUN", "not made yet")
    kept = [name for name in Store.at(root).names() if name.endswith("data/part-0")]
    assert len(kept) == 1
    assert fake.run_flow(fake.flow(), root)["joined"].read("report.json") == b"one two"


def test_killed_at_any_flush_or_rename_it_recovers_to_the_same_bytes(fake, tmp_path):
    expected = fake.run_flow(fake.flow(), str(tmp_path / "whole"))
    kills = 0
    for at in range(1, 60, 3):
        storage = str(tmp_path / f"killed-{at}")
        done = subprocess.run([sys.executable, str(FAKE), storage, str(at)], check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        kills += 1
        for folder in Store.at(storage).folders("fake"):
            place = Store.at(storage).locate(f"fake/{folder}")
            open_artifact(place).verify()  # on a disk it is there whole or not at all
        made = fake.run_flow(fake.flow(), storage)
        assert {n: a.digest for n, a in made.items()} == {n: a.digest for n, a in expected.items()}
        assert all(name.endswith(".lock") for name in Store.at(storage).names(".work"))
    else:
        pytest.fail("no run came to its end: the kills were never late enough")
    assert kills >= 8  # 2 steps of at least 4 writes each, 3 kill points a write


def test_two_runs_of_one_step_at_once_make_it_once_and_both_have_it(fake, tmp_path):
    storage, journal = str(tmp_path / "store"), tmp_path / "journal"
    environment = os.environ | {"FAKE_JOURNAL": str(journal), "FAKE_SLOW_S": "0.5"}
    runs = [
        subprocess.Popen([sys.executable, str(FAKE), storage], env=environment) for _ in range(2)
    ]
    assert [process.wait(60) for process in runs] == [0, 0]
    assert sorted(journal.read_text().split()) == ["joined", "words"]
    made = fake.run_flow(fake.flow(), storage)
    for artifact in made.values():
        artifact.verify()


def test_ray_is_opened_only_when_a_step_has_to_run(fake, tmp_path):
    fake.run_flow(fake.flow(), str(tmp_path))

    def session(placement):
        raise AssertionError("no step runs, so no cluster is needed")

    made = run(fake.flow(), Placement(storage=str(tmp_path)), [], session=session)
    assert sorted(made) == ["joined", "words"]


def test_an_artifact_named_by_path_is_hashed_before_anything_runs(fake, tmp_path):
    made = fake.run_flow(fake.flow(), str(tmp_path / "there"))
    words = Path(made["words"].uri)
    flow = Workflow("fake")
    flow.add("joined", fake.JoinConfig(corpus=str(words)))
    (part,) = words.rglob("part-0")
    part.chmod(0o644)
    part.write_bytes(b"six")
    assert actions(flow, str(tmp_path / "here"))["joined"][0] == "RUN"
    events = Events()
    with pytest.raises(ArtifactError, match="data/part-0 was altered"):
        fake.run_flow(flow, str(tmp_path / "here"), events)
    assert not events.seen


def test_a_step_must_have_a_new_plain_name_and_name_earlier_inputs(fake):
    workflow = fake.flow()
    for name in ("words", "Words", "a/b", "", "a.b", "../x"):
        with pytest.raises(ConfigError, match="taken: words, joined"):
            workflow.add(name, fake.WordsConfig())
    with pytest.raises(ConfigError, match=r"did you mean words\?"):
        workflow.add("other", fake.JoinConfig(corpus="@wrods"))


def test_an_input_of_another_kind_is_refused_with_what_was_expected(fake, tmp_path):
    made = fake.run_flow(fake.flow(), str(tmp_path))
    workflow = Workflow("w")
    workflow.add("joined", fake.JoinConfig(corpus=made["joined"].uri))
    with pytest.raises(ConfigError, match="is a Report, expected Corpus"):
        plan(workflow, Store.at(str(tmp_path)))
    missing = Workflow("w")
    missing.add("joined", fake.JoinConfig(corpus=str(tmp_path / "nowhere")))
    with pytest.raises(ArtifactError, match="no finished artifact here"):
        plan(missing, Store.at(str(tmp_path)))


def test_an_override_reaches_one_step_and_leaves_the_workflow_as_it_was(fake):
    workflow = fake.flow()
    changed = workflow.override("joined", {"separator": "-"}, str)
    assert snapshot(changed)["joined"]["separator"] == "-"
    assert snapshot(changed)["words"] == snapshot(workflow)["words"]
    assert snapshot(workflow)["joined"]["separator"] == " "
    with pytest.raises(
        ConfigError,
        match=r"at joined.seperator: joined: unknown setting seperator; did you mean sep",
    ):
        workflow.override("joined", {"seperator": "-"}, "at {}".format)


def test_the_manifest_tells_what_made_it(fake, tmp_path):
    facts = fake.run_flow(fake.flow(), str(tmp_path))["joined"].manifest
    assert facts.identity["config"] == {"separator": " "}
    assert facts.config["corpus"] == "@words"
    assert facts.versions["pyarrow"]
    assert len(facts.fingerprint) == len(facts.code["source"]) == 64
    assert facts.seconds >= 0


def fingerprint(config, digests):
    return hashed(facts_of(config, digests))


class ManyConfig(StageConfig):
    stage: ClassVar[str] = "many"
    makes: ClassVar[str] = "Report"

    data: str = Input("Corpus", description="input")
    place: str = Location(default="here", description="where raw data lies")
    a: int = 0
    b: float = 0.0
    c: tuple[str, ...] = ()


SETTINGS = st.fixed_dictionaries(
    {"a": st.integers(), "b": st.floats(allow_nan=False), "c": st.lists(st.text(max_size=3))}
)


@given(SETTINGS, SETTINGS, st.text(), st.randoms())
def test_the_fingerprint_is_of_the_settings_alone(one, two, place, random):
    keys = list(one)
    random.shuffle(keys)
    first = parse(ManyConfig, {"data": "@x"} | one, "test")
    shuffled = {key: one[key] for key in keys}
    moved = parse(ManyConfig, shuffled | {"data": "@y", "place": place}, "test")
    digests = {"data": "0" * 64, "more": "1" * 64}
    mark = fingerprint(first, digests)
    assert mark == fingerprint(moved, dict(reversed(digests.items())))
    other = parse(ManyConfig, {"data": "@x"} | two, "test")
    same = json.dumps(first.model_dump(mode="json")) == json.dumps(other.model_dump(mode="json"))
    assert (fingerprint(other, digests) == mark) == same
    assert fingerprint(first, {"data": "2" * 64, "more": "1" * 64}) != mark


def test_a_raised_version_is_another_fingerprint():
    class Newer(ManyConfig):
        version: ClassVar[int] = 2

    assert fingerprint(Newer(data="@x"), {}) != fingerprint(ManyConfig(data="@x"), {})
