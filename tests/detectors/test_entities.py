from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mini import PLAIN, SAYS, mini

from llmguard import Guard
from llmguard.detectors.entities import EntityReader
from llmguard.detectors.model_options import ModelOptions
from llmguard.detectors.pii import NAMES, PiiDetector
from llmguard.detectors.registry import load
from llmguard.errors import ConfigurationError
from llmguard.testing import check_detector
from llmguard.types import Text


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(mini(tmp_path_factory.mktemp("models") / "mini"))


@pytest.fixture(scope="module")
def reader(model: str) -> EntityReader:
    return EntityReader(ModelOptions(model, "cpu"))


def named(reader: EntityReader, text: str) -> list[tuple[str, str]]:
    return [(finding.category, text[slice(*finding.span)]) for finding in reader.findings([text])[0] if finding.span]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "John Smith works in Paris at Acme.",
            [("PERSON", "John Smith"), ("LOCATION", "Paris"), ("ORGANIZATION", "Acme")],
        ),
        ("John, John Smith", [("PERSON", "John"), ("PERSON", "John Smith")]),
        ("call at 12 Street, Paris", [("STREET_ADDRESS", "12 Street"), ("LOCATION", "Paris")]),
        ("(Paris)", [("LOCATION", "Paris")]),
        ("a good day", []),
        ("", []),
    ],
)
def test_names_are_whole_words(reader: EntityReader, text: str, expected: list[tuple[str, str]]) -> None:
    assert named(reader, text) == expected


def test_names_in_windows_that_overlap_are_found_once(reader: EntityReader) -> None:
    text = "a good day John Smith in Paris " * 20
    assert len(named(reader, text)) == 40


@given(st.lists(st.sampled_from([*PLAIN, *SAYS, "John", "É", "🙂", ".", ",", "("]), max_size=80).map(" ".join))
def test_spans_lie_in_the_text_and_never_overlap(reader: EntityReader, text: str) -> None:
    last = 0
    for finding in reader.findings([text])[0]:
        assert finding.span is not None
        start, end = finding.span
        assert last <= start < end <= len(text)
        assert 0 <= finding.score <= 1
        last = end


def test_pii_finds_names_beside_its_patterns(model: str) -> None:
    detector = PiiDetector(names=model, device="cpu")
    assert not detector.inline
    assert detector.categories >= {"PERSON", "LOCATION", "ORGANIZATION", "STREET_ADDRESS", "EMAIL_ADDRESS"}
    text = "John Smith, john.smith@example.com, in Paris"
    (findings,) = detector.detect([Text(text)])
    seen = [(finding.category, text[slice(*finding.span)]) for finding in findings if finding.span]
    assert seen == [("PERSON", "John Smith"), ("EMAIL_ADDRESS", "john.smith@example.com"), ("LOCATION", "Paris")]


def test_pii_leaves_out_names_that_are_allowed_not_asked_for_or_too_unsure(model: str) -> None:
    text = [Text("John Smith in Paris")]
    own: dict[str, Any] = {"names": model, "device": "cpu"}
    assert [f.category for f in PiiDetector(allow_list=["Paris"], **own).detect(text)[0]] == ["PERSON"]
    assert [f.category for f in PiiDetector(entities=["LOCATION"], **own).detect(text)[0]] == ["LOCATION"]
    assert PiiDetector(thresholds={"PERSON": 1.0, "LOCATION": 1.0}, **own).detect(text) == [[]]


def test_names_come_with_the_rule_that_asks_for_them(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmguard.detectors.pii.DEFAULT_MODEL", model)
    assert load("pii").inline
    assert load("pii", {}, {"EMAIL_ADDRESS"}).inline
    assert not load("pii", {"device": "cpu"}, {"PERSON"}).inline
    assert PiiDetector.for_categories({"names": "none"}, NAMES) == {"names": "none"}
    rule = {"detector": "pii", "stage": "input", "categories": ["PERSON"], "action": "redact"}
    with Guard({"rules": [rule], "device": "cpu"}) as guard:
        assert guard.check("John Smith in Paris").text == "<PERSON_1> in Paris"


def test_pii_with_names_is_a_well_behaved_detector(model: str) -> None:
    check_detector(PiiDetector(names=model, device="cpu"), texts=["John Smith in Paris"])


@pytest.mark.parametrize("names", ["", 3, None])
def test_names_must_be_none_or_a_model(names: Any) -> None:
    with pytest.raises(ConfigurationError, match="'none' or a model"):
        PiiDetector(names=names)


def test_a_model_without_token_labels_is_refused(tmp_path: Path) -> None:
    from directories import directory

    with pytest.raises(ConfigurationError, match="0 heads of the kind 'tokens'"):
        EntityReader(ModelOptions(str(directory(tmp_path / "m")), "cpu"))
