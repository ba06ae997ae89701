import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.pii import PiiDetector
from llmguard.detectors.pii_email import ending, offline_email
from llmguard.detectors.pii_engine import analyzer
from llmguard.detectors.pii_nlp import engine
from llmguard.types import Text

LABELS = st.sampled_from(
    ["a", "co", "uk", "com", "org", "jp", "kawasaki", "ck", "www", "COM", "github", "x-y", "_x", "1", "рф", "é"]
)
HEADS = st.sampled_from(["a@", "a/b@", "x.com/b@", "a?b@", "b@c@", "x.com#@", "", "a.com-b@", "y.zz@"])
TAILS = st.sampled_from([" ", "-", "-x", ".", "/", "@", "!", "", "_", "ü", "\n"])
ADDRESSES = st.lists(
    st.builds(
        lambda head, labels, tail: head + ".".join(labels) + tail,
        HEADS,
        st.lists(LABELS, min_size=1, max_size=4),
        TAILS,
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def detector() -> PiiDetector:
    return PiiDetector(entities=["EMAIL_ADDRESS"], settle=False)


@given(ADDRESSES)
def test_what_is_found_is_what_presidio_finds(detector: PiiDetector, parts: list[str]) -> None:
    text = "".join(parts)
    presidio = analyzer(detector.recognizers, engine(["en"]), ["en"], 0.0)
    expected = sorted((found.start, found.end, found.score) for found in presidio.analyze(text, "en"))
    assert [(*finding.span, finding.score) for finding in detector.detect([Text(text)])[0]] == expected  # type: ignore[misc]


@given(ADDRESSES)
def test_the_check_is_that_of_the_public_suffix_list(parts: list[str]) -> None:
    recognizer = offline_email()()
    import tldextract

    extract = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())
    for part in parts:
        assert recognizer.validate_result(part) == bool(extract(part).fqdn)


def test_other_recognizers_have_no_ending(detector: PiiDetector) -> None:
    assert ending(detector.recognizers[0])
    assert all(ending(other) == "" for other in PiiDetector(entities=["URL"]).recognizers)


def test_an_address_that_fails_uses_up_its_characters_as_in_presidio(detector: PiiDetector) -> None:
    # "x@y.zz" is a match without a public suffix; what it took can't be part of the next.
    assert detector.detect([Text("x@y.zz@b.com")]) == [[]]
    assert len(detector.detect([Text("x@y.zz b@b.com")])[0]) == 1
