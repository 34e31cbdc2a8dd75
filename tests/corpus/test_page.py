"""The report's page: every figure and sample is on it, nothing of a text can act in it."""

from html.parser import HTMLParser

from pipelines.corpus.page import CHARS, page

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>"
REPORT = {
    "read": 10,
    "kept": 6,
    "quarantined": 1,
    "funnel": [
        {"reason": "kept", "rule": "", "documents": 6, "bytes": 1234, "words": 99},
        {"reason": "gopher@paper", "rule": "words", "documents": 3, "bytes": 56, "words": 7},
    ],
    "languages": {"en": 5, "zh": 1},
    "lengths": {"16 to 31": 6},
    "labels": {},
    "masked": {"email": 2},
    "contaminated": {},
    "problems": {"not JSON": 1},
}
SAMPLES = {
    "rejected": [
        {"id": f"a:{EVIL}", "reason": "gopher@paper", "rule": "words", "value": 3.0,
         "threshold": 50.0, "into": None, "jaccard": None, "language": "en", "text": EVIL},
    ],
    "cleaned": [{"id": "a:1", "before": "x\u200by", "after": "xy"}],
    "clusters": [{"into": "a:2", "documents": 3, "examples": ["b:1", "b:2"]}],
}  # fmt: skip


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def test_the_page_is_whole_self_contained_and_runs_nothing():
    found = Page(page("docs", REPORT, SAMPLES))
    assert found.open == []
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in found.tags}
    assert not [value for _, attrs in found.tags for name, value in attrs.items() if name == "src"]
    assert EVIL in found.text


def test_figures_samples_and_sections_are_on_it_and_empty_ones_are_not():
    text = Page(page("docs", REPORT, SAMPLES)).text
    assert "10 records read = 6 kept + 3 left out + 1 unreadable." in text
    for fact in ("1,234", "gopher@paper words: 1 shown", "value 3", "a:2", "b:1, b:2", "not JSON"):
        assert fact in text
    assert "Personal data" in text
    assert "Contamination" not in text


def test_a_long_text_is_cut():
    long = SAMPLES | {"rejected": [SAMPLES["rejected"][0] | {"text": "y" * (CHARS + 1)}]}
    assert "y" * CHARS + "…" in page("docs", REPORT, long)
