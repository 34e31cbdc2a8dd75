"""Language detection: offline, of the first 2,000 characters, and of each paragraph."""

import gzip
import json

import pytest

from pipelines.corpus.language import CHARS, detect, native, paragraphs


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The quick brown fox jumps over the lazy dog and runs away.", "en"),
        ("今天的天气很好，我们去公园散步。", "zh"),
        ("Der schnelle braune Fuchs springt über den faulen Hund.", "de"),
        ("Le renard brun saute par-dessus le chien paresseux.", "fr"),
    ],
)
def test_a_sentence_has_its_language(text, code):
    found, score = detect(text)
    assert found == code
    assert 0.65 < score <= 1


def test_capitals_do_not_hide_a_language():
    assert (
        detect("THE OLD PEOPLE OF THIS SMALL TOWN HAVE KNOWN THAT WINTER COMES EARLY.")[0] == "en"
    )


def test_only_the_beginning_is_read():
    english = "The quick brown fox jumps over the lazy dog. " * 60
    assert len(english) > CHARS
    assert detect(english + "今天的天气很好。" * 500) == detect(english)


ENGLISH = "The quick brown fox jumps over the lazy dog and runs far away from here."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und läuft weit weg."
CHINESE = "今天的天气很好，我们去公园散步，然后回家吃饭，晚上看了一场电影。"


def test_paragraphs_are_told_apart_by_blank_lines():
    text = f"{ENGLISH}\n{ENGLISH}\n\n{GERMAN}\n\n\n{CHINESE}"
    parts = paragraphs(text)
    assert [part.language for part in parts] == ["en", "de", "zh"]
    assert text[parts[1].start : parts[1].end] == GERMAN


def test_a_short_or_unsure_paragraph_has_no_language():
    assert paragraphs("Kapitel 1")[0].language == "und"
    assert paragraphs(ENGLISH, min_score=1.01)[0].language == "und"
    assert paragraphs("") == []


def test_foreign_paragraphs_are_left_out():
    text = f"Kapitel 1\n\n{ENGLISH}\n\n{GERMAN}\n\n  {ENGLISH}\n\n{CHINESE}"
    kept = native(text, ["en"])
    assert kept == f"Kapitel 1\n\n{ENGLISH}\n\n  {ENGLISH}"
    assert native(kept, ["en"]) == kept
    assert native(GERMAN, ["en"]) == ""


def test_languages_of_the_declaration_of_human_rights(shared_data):
    """512 texts: 510 are told right as documents, and 507 of the 509 long enough paragraphs."""
    with gzip.open(shared_data / "html/langid_udhr.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert sum(detect(row["text"])[0] == row["lang"] for row in rows) >= 0.99 * len(rows)
    told = [(part.language, row["lang"]) for row in rows for part in paragraphs(row["text"])]
    sure = [pair for pair in told if pair[0] != "und"]
    assert len(sure) >= 0.98 * len(told)
    assert sum(found == true for found, true in sure) >= 0.99 * len(sure)
