import pickle
from pathlib import Path
from typing import Any

import pytest
from directories import directory
from mini import PLAIN, mini, nano

from llmguard.detectors.classifier import BiasDetector, ClassifierDetector, HarmfulRequestDetector, ToxicityDetector
from llmguard.detectors.registry import load
from llmguard.errors import ConfigurationError, ModelLoadError
from llmguard.testing import check_detector
from llmguard.types import Finding, Text

CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(mini(tmp_path_factory.mktemp("models") / "mini"))


def found(detector: ClassifierDetector, text: str) -> dict[str, Finding]:
    return {finding.category: finding for finding in detector.detect([Text(text)])[0]}


def test_toxicity_has_its_finer_kinds(model: str) -> None:
    detector = ToxicityDetector(model=model, head="toxicity", **CPU)
    assert detector.categories == {"TOXICITY", "INSULT", "THREAT", "IDENTITY_ATTACK", "OBSCENE", "SEXUAL"}
    findings = found(detector, "you idiot")
    assert findings.keys() == {"TOXICITY", "INSULT"}
    assert findings["TOXICITY"].score > 0.99
    assert findings["TOXICITY"].span is None
    assert findings["TOXICITY"].reasons == ("mini 1",)
    assert detector.detect([Text("a good day"), Text(""), Text(" \n")]) == [[], [], []]


def test_a_long_text_says_which_window_was_worst(model: str) -> None:
    text = "a good day " * 40 + "you idiot " + "a good day " * 40
    finding = found(ToxicityDetector(model=model, **CPU), text)["TOXICITY"]
    assert finding.span is not None
    start, end = finding.span
    assert 0 < start < text.index("idiot") < end < len(text)
    assert finding.reasons[1].startswith("window ")


def test_every_score_is_there_for_who_ranks_texts(model: str) -> None:
    detector = ToxicityDetector(model=model, **CPU)
    assert len(detector.score([Text("a good day")])[0]) == 6
    assert len(ToxicityDetector(model=model, floor=0.0, **CPU).detect([Text("a good day")])[0]) == 6


def test_whole_texts_are_ranked_by_toxicity_where_it_is_among_the_labels(model: str) -> None:
    assert ToxicityDetector(model=model, **CPU).overall == "TOXICITY"
    assert ToxicityDetector(model=model, head="toxicity", labels=["insult"], **CPU).overall == ""
    assert BiasDetector(model=model, head="toxicity", labels=["identity_attack"], **CPU).overall == ""


def test_bias_and_harmful_requests_read_heads_of_the_same_pass(model: str) -> None:
    bias = BiasDetector(model=model, head="toxicity", labels=["identity_attack"], **CPU)
    harmful = HarmfulRequestDetector(model=model, head="harmful", **CPU)
    assert bias.encoder is harmful.encoder is ToxicityDetector(model=model, **CPU).encoder
    assert found(bias, "all foreigners").keys() == {"IDENTITY_ATTACK"}
    assert found(harmful, "the bomb").keys() == {"HARMFUL_REQUEST"}
    assert bias.categories == {"IDENTITY_ATTACK"}


def test_a_foreign_classifier_needs_no_options_beyond_its_model(tmp_path: Path) -> None:
    head = {
        "name": "prompt",
        "output": "logits",
        "kind": "labels",
        "labels": ["SAFE", "TOXIC"],
        "activation": "softmax",
    }
    model = str(directory(tmp_path / "foreign", heads=[head]))
    assert ToxicityDetector(model=model, **CPU).categories == {"TOXIC"}


def test_the_first_model_clears_and_the_last_has_the_last_word(model: str, tmp_path: Path) -> None:
    other = str(mini(tmp_path / "large", name="large"))
    first = str(nano(tmp_path / "nano"))
    detector = ToxicityDetector(model=model, first=first, clear_below=0.5, last=other, unsure=[0.9, 1.0], **CPU)
    assert detector.score([Text("a good day")]) == [[]]
    again = {finding.category: finding.reasons for finding in detector.score([Text("you idiot")])[0]}
    assert again["TOXICITY"] == ("large 1",)
    assert "large" in detector.version


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"floor": 2}, "'floor' must be a number in"),
        ({"floor": "high"}, "'floor' must be a number in"),
        ({"labels": "toxic"}, "must be a list"),
        ({"labels": []}, "one label or more"),
        ({"head": ""}, "no head ''"),
        ({"labels": ["toxik"]}, "did you mean 'toxic'"),
        ({"head": "entities"}, "of the kind 'tokens', not 'labels'"),
        ({"head": "toxicty"}, "did you mean 'toxicity'"),
        ({"unsure": [0.9, 0.1]}, "the lower first"),
        ({"unsure": "wide"}, "two numbers"),
        ({"model": ""}, "must be a text"),
        ({"device": 3}, "must be a text"),
        ({"device": "tpu"}, "tpu"),
        ({"precision": "int3"}, "int3"),
        ({"first": "no-such"}, "no model 'no-such'"),
    ],
)
def test_a_wrong_option_says_what_would_be_right(model: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        ToxicityDetector(**{"model": model, **CPU, **options})


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelLoadError, match="/no/such/model"):
        ToxicityDetector(model="/no/such/model")


def test_it_is_a_well_behaved_detector(model: str) -> None:
    detector = load("toxicity", {"model": model, **CPU})
    check_detector(detector, texts=["you idiot", " ".join(PLAIN)])


def test_it_is_rebuilt_in_another_process_from_its_options(model: str) -> None:
    detector = ToxicityDetector(model=model, floor=0.5, **CPU)
    again = pickle.loads(pickle.dumps(detector))
    assert again.detect([Text("you idiot")]) == detector.detect([Text("you idiot")])
