from __future__ import annotations

import logging
import pickle
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llmguard.detectors.pii import PiiDetector
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.testing import check_detector
from llmguard.types import Finding, Text


@pytest.fixture(scope="module")
def detector() -> PiiDetector:
    return PiiDetector()


def found(detector: PiiDetector, text: str) -> list[tuple[str, str, float]]:
    findings = detector.detect([Text(text)])[0]
    return [(f.category, text[slice(*f.span)], round(f.score, 2)) for f in findings if f.span]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("nothing to see here", []),
        ("mail jane.doe@example.com now", [("EMAIL_ADDRESS", "jane.doe@example.com", 1.0)]),
        ("my card is 4111 1111 1111 1111", [("CREDIT_CARD", "4111 1111 1111 1111", 1.0)]),
        ("my SSN is 536-22-8756.", [("US_SSN", "536-22-8756", 0.85)]),
        ("536-22-8756", [("US_SSN", "536-22-8756", 0.5)]),
        ("call 212-555-0123", [("PHONE_NUMBER", "212-555-0123", 0.75)]),
        ("it was 212-555-0123", [("PHONE_NUMBER", "212-555-0123", 0.4)]),
        ("pay to DE89370400440532013000", [("IBAN_CODE", "DE89370400440532013000", 1.0)]),
        ("at 192.168.10.24 it runs", [("IP_ADDRESS", "192.168.10.24", 0.6)]),
        ("on 2001:db8::1", [("IP_ADDRESS", "2001:db8::1", 0.6)]),
        ("see https://example.org/a?b=c", [("URL", "https://example.org/a?b=c", 0.6)]),
        ("born 12/11/1987", [("DATE_TIME", "12/11/1987", 0.6)]),
        ("wallet 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", [("CRYPTO", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", 1.0)]),
        ("NHS 943 476 5919", [("PHONE_NUMBER", "943 476 5919", 0.4), ("UK_NHS", "943 476 5919", 1.0)]),
        ("\u5730\u5740 ivan@example.com \u3002", [("EMAIL_ADDRESS", "ivan@example.com", 1.0)]),
    ],
)
def test_what_it_finds(detector: PiiDetector, text: str, expected: list[tuple[str, str, float]]) -> None:
    assert found(detector, text) == expected


def test_a_context_word_is_told_in_the_reasons(detector: PiiDetector) -> None:
    assert detector.detect([Text("my SSN is 536-22-8756")])[0] == [
        Finding("US_SSN", 0.85, (10, 21), reasons=("UsSsnRecognizer", "context"))
    ]


def test_it_keeps_the_promises_of_a_detector(detector: PiiDetector) -> None:
    check_detector(
        detector, texts=["SSN 536-22-8756, jane@example.com", "\u0661\u0662\u0663\u0664\u0665 4111111111111111"]
    )


def test_threads_and_copies_find_the_same(detector: PiiDetector) -> None:
    texts = [Text(f"jane{i}@example.com, 212-555-0{i:03}, 4111 1111 1111 1111 \u00e9") for i in range(40)]
    expected = [detector.detect([text])[0] for text in texts]
    assert detector.detect(texts) == expected
    with ThreadPoolExecutor(4) as pool:
        assert [result[0] for result in pool.map(lambda text: detector.detect([text]), texts)] == expected
    assert pickle.loads(pickle.dumps(detector)).detect(texts) == expected


def test_countries_switch_their_recognizers_on() -> None:
    text = "NINO AB 12 34 56 C, PAN ABCPE1234F"
    assert not {"UK_NINO", "IN_PAN"} & {f.category for f in PiiDetector().detect([Text(text)])[0]}
    both = PiiDetector(countries=["uk", "in"])
    assert {"UK_NINO", "IN_PAN"} <= {f.category for f in both.detect([Text(text)])[0]}
    assert "US_SSN" not in both.categories
    assert len(PiiDetector(countries="all").recognizers) > 85
    assert "US_SSN" not in PiiDetector(countries=[]).categories


def test_a_language_brings_its_default_recognizers() -> None:
    assert "ES_NIF" in PiiDetector(languages=["es"]).categories
    assert "US_SSN" not in PiiDetector(languages=["es"]).categories


def test_entities_limit_what_is_found() -> None:
    only = PiiDetector(entities=["EMAIL_ADDRESS"])
    assert only.categories == {"EMAIL_ADDRESS"}
    assert found(only, "jane@example.com 4111111111111111") == [("EMAIL_ADDRESS", "jane@example.com", 1.0)]


def test_lists_and_thresholds() -> None:
    text = "Falcon met jane@example.com at 212-555-0123, 192.168.10.24"
    assert [f[1] for f in found(PiiDetector(allow_list=["jane@example.com"]), text)] == [
        "212-555-0123",
        "192.168.10.24",
    ]
    matched = PiiDetector(allow_list=["@example"], allow_list_match="regex")
    assert [f[1] for f in found(matched, text)] == ["212-555-0123", "192.168.10.24"]
    assert ("PROJECT", "Falcon", 1.0) in found(PiiDetector(deny_list={"PROJECT": ["Falcon"]}), text)
    assert ("DENY_LIST", "Falcon", 1.0) in found(PiiDetector(deny_list=["Falcon"]), text)
    assert [f[0] for f in found(PiiDetector(score_threshold=0.9), text)] == ["EMAIL_ADDRESS"]
    assert [f[0] for f in found(PiiDetector(thresholds={"PHONE_NUMBER": 0.5}), text)] == ["EMAIL_ADDRESS", "IP_ADDRESS"]


OWN = {
    "name": "Staff",
    "supported_entity": "STAFF_ID",
    "patterns": [{"name": "staff", "regex": r"\bE\d{5}\b", "score": 0.3}],
    "context": ["employee"],
}


def test_own_recognizers_come_as_mappings_or_from_a_file(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"recognizers": [OWN]}), encoding="utf-8")
    for recognizers in ([OWN], str(path)):
        made = PiiDetector(recognizers=recognizers, entities=["STAFF_ID"])
        assert found(made, "employee E12345 or E54321") == [("STAFF_ID", "E12345", 0.65), ("STAFF_ID", "E54321", 0.65)]


@pytest.mark.parametrize(
    ("regex", "text", "expected"),
    [
        (r"(?>a+)b", "xaab ab", ["aab", "ab"]),
        (r"\p{Lu}{3}", "abc \u00c4\u00d6\u00dc ABC", ["\u00c4\u00d6\u00dc", "ABC"]),
        (r"x*", "yxxy", ["xx"]),
        (r"(?<=id:)\d+", "id:12 id: 3", ["12"]),
        (r"(\w)\1", "aab \u00e9\u00e9", ["aa", "\u00e9\u00e9"]),
        (r"[^\d]\d(?!\d)", "a1 b22 c\u0663", ["a1", "c\u0663"]),
    ],
)
def test_own_patterns_of_any_kind_match_as_they_stand(regex: str, text: str, expected: list[str]) -> None:
    own = {"name": "O", "supported_entity": "O", "patterns": [{"name": "o", "regex": regex, "score": 0.5}]}
    made = PiiDetector(recognizers=[{**own, "type": "custom"}], entities=["O"])
    flags = __import__("regex").I | __import__("regex").M | __import__("regex").S
    reference = [m.group() for m in __import__("regex").finditer(regex, text, flags) if m.group()]
    assert [f[1] for f in found(made, text)] == reference
    assert set(expected) <= set(reference)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"languages": ["eng"]}, "did you mean 'en'"),
        ({"languages": []}, "at least one language"),
        ({"languages": "en"}, "a list of words"),
        ({"countries": ["ukk"]}, "did you mean 'uk'"),
        ({"entities": ["EMAIL_ADRESS"]}, "did you mean 'EMAIL_ADDRESS'"),
        ({"thresholds": {"US_SNN": 0.5}}, "did you mean 'US_SSN'"),
        ({"thresholds": {"US_SSN": 2}}, "from 0 to 1"),
        ({"thresholds": [1]}, "a mapping"),
        ({"score_threshold": True}, "from 0 to 1"),
        ({"allow_list": [""]}, "not empty"),
        ({"allow_list": ["("], "allow_list_match": "regex"}, "no pattern"),
        ({"allow_list_match": "fuzzy"}, "'exact' or 'regex'"),
        ({"deny_list": 3}, "a list of words"),
        ({"settle": "yes"}, "true or false"),
        ({"nlp": "spacy"}, "'none', or a mapping"),
        ({"nlp": {"engine": "spcy", "model": "x"}}, "did you mean 'spacy'"),
        ({"nlp": {"engine": "spacy"}}, "'model'"),
        ({"nlp": {"engine": "spacy", "model": "en_core_web_none"}}, "not installed"),
        ({"nlp": {"engine": "spacy", "model": {"de": "x"}}}, "no model for language 'en'"),
        ({"recognizers": 3}, "a list of recognizers"),
        ({"recognizers": "/nowhere/own.yaml"}, "cannot read"),
        ({"recognizers": ["x"]}, "a list of recognizers"),
        ({"recognizers": [{"name": "x"}]}, "recognizers"),
    ],
)
def test_wrong_options_say_what_would_be_right(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PiiDetector(**options)


def test_a_missing_engine_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="spacy"):
        PiiDetector(nlp={"engine": "spacy", "model": "x"})


def test_a_spacy_model_that_is_installed_is_used(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    blank = spacy.blank("en")
    blank.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ada"}])
    blank.to_disk(tmp_path / "model")
    made = PiiDetector(nlp={"engine": "spacy", "model": str(tmp_path / "model")})
    assert {"PERSON", "US_SSN"} <= made.categories
    assert [f[:2] for f in found(made, "Ada has 192.168.10.24")] == [("PERSON", "Ada"), ("IP_ADDRESS", "192.168.10.24")]


def test_no_network_and_no_log_of_a_text(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with caplog.at_level(logging.DEBUG):
        made = PiiDetector()
        caplog.clear()
        made.detect([Text("jane@example.com GB00WEST12345698765432 4111111111111111")])
    assert caplog.text == ""


def test_importing_the_module_loads_nothing_heavy() -> None:
    code = "import sys, llmguard.detectors.pii; print({'presidio_analyzer', 'spacy', 'regex'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def hostile() -> Mapping[str, str]:
    size = 100_000
    return {
        "hyphens": "a-" * size + " bob@example.com",
        "dots": "a." * size + " bob@example.com",
        "spaced ones": "1 " * size,
        "one word": "a" * size + "@",
        "long row of digits": "1234567890" * (size // 10),
        "dates with times": "2012-01-02 08 " * (size // 14),
        "colons": ":" * size,
        "cyrillic": "\u043f\u0440\u0438\u0432\u0435\u0442 " * (size // 7) + "ivan@example.com",
    }


@pytest.mark.parametrize("name", list(hostile()))
def test_long_hostile_texts_come_to_an_end(detector: PiiDetector, name: str) -> None:
    text = hostile()[name]
    mails = [f.span for f in detector.detect([Text(text)])[0] if f.category == "EMAIL_ADDRESS"]
    assert mails == ([(text.rindex(" ") + 1, len(text))] if "@example" in text else [])


def test_very_many_findings(detector: PiiDetector) -> None:
    text = "b@example.com " * 5_000
    findings = detector.detect([Text(text)])[0]
    assert [f.span for f in findings] == [(at, at + 13) for at in range(0, len(text), 14)]
