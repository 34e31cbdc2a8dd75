"""What the terminal shows of a run: plain lines in a log, and tables whose figures line up."""

import io
import re

from pipelines.core import console
from pipelines.core.console import Console, comparison_table


def test_a_log_gets_a_line_an_event_and_no_control_codes(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(console, "LOG_EVERY_S", 0)
    stream = io.StringIO()
    fake.run_flow(fake.flow(), str(tmp_path), Console(2, stream))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "[1/2] words: fake from files"
    assert lines[1].startswith("      words 0s  ")
    assert re.match(r"      words done in \d+\.\ds  words 2  ", lines[3])
    assert lines[4] == "[2/2] joined: fake from words"
    assert "\x1b" not in stream.getvalue()
    again = io.StringIO()
    fake.run_flow(fake.flow(), str(tmp_path), Console(2, again))
    assert [line.partition(": ")[2][:6] for line in again.getvalue().splitlines()] == ["reused"] * 2


def test_a_failed_step_is_named_once(fake, tmp_path):
    stream = io.StringIO()
    screen = Console(1, stream)
    screen.started("words", fake.WordsConfig(), {})
    screen.failed("words", ValueError("told by the command itself"))
    assert stream.getvalue().splitlines()[-1] == "      words stopped: ValueError"


def test_figures_of_a_table_are_right_aligned_and_words_left():
    assert console.table(["name", "rows"], [["a", "1,000"], ["long", "7"], ["-", "-"]]) == (
        "name   rows\n"
        "----  -----\n"
        "a     1,000\n"
        "long      7\n"
        "-         -"
    )  # fmt: skip


def test_reports_are_compared_by_the_figures_that_they_have(make_artifact):
    judged = {"accuracy": 0.75, "accuracy_low": 0.7, "accuracy_high": 0.8}
    small = make_artifact(
        "Report", "evaluate", {"a": b""}, name="small", metrics=judged, measured={"latency_ms": 2.5}
    )
    large = make_artifact(
        "Report", "evaluate", {"a": b""}, name="large", metrics=judged | {"accuracy": 0.76}
    )
    lines = comparison_table({"small": small, "large": large}).splitlines()
    assert lines[0].split("  ")[-2:] == ["accuracy (95 %)", "ms a text"]
    assert lines[2].split() == ["small", "0.750", "(0.700-0.800)", "2.50"]
    assert lines[3].split() == ["large", "0.760", "(0.700-0.800)", "-"]
