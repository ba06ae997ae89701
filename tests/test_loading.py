import pytest
from fakes import Words

from llmguard import ConfigurationError, Policy, Stage
from llmguard.loading import Loader
from llmguard.workers import Workers

RULES = [{"detector": "unicode", "action": "flag"}, {"detector": "words", "action": "block"}]


def policy(**changes: object) -> Policy:
    return Policy.parse({"name": "p", "version": "1", "rules": RULES, **changes})


@pytest.fixture
def loader() -> Loader:
    return Loader([Words("words", "bad")], Workers())


def steps(loader: Loader, made: Policy) -> dict[str, object]:
    loaded = loader.load(made).pipeline._stages[Stage.INPUT]
    return {step.name: step for step in (*loaded.inline, *loaded.pooled)}


def test_what_did_not_change_is_made_only_once(loader: Loader) -> None:
    first = steps(loader, policy())
    second = steps(loader, policy(version="2"))
    assert first["unicode"].detect.__self__ is second["unicode"].detect.__self__
    assert first["unicode"].breaker is second["unicode"].breaker


def test_other_options_make_another_detector_and_other_settings_another_breaker(loader: Loader) -> None:
    rules = [{"detector": "token_stats", "action": "flag"}]
    first = steps(loader, policy(rules=rules))["token_stats"]
    second = steps(loader, policy(rules=rules, detectors={"token_stats": {"max_tokens": 5}}))["token_stats"]
    third = steps(loader, policy(rules=rules, breaker={"failures": 1, "reset_s": 1}))["token_stats"]
    assert first.detect.__self__ is not second.detect.__self__
    assert first.breaker is second.breaker
    assert first.breaker is not third.breaker


def test_options_for_a_ready_made_detector_are_refused(loader: Loader) -> None:
    with pytest.raises(ConfigurationError, match="'words' was given ready made: it takes no options"):
        loader.load(policy(detectors={"words": {"deny": ["x"]}}))


def test_a_category_that_the_detector_can_not_find_is_refused(loader: Loader) -> None:
    rules = [{"detector": "words", "categories": ["BADD"], "action": "flag"}]
    with pytest.raises(ConfigurationError, match=r"'BADD'.*did you mean 'BAD'"):
        loader.load(policy(rules=rules))


@pytest.mark.parametrize(
    ("device", "taken"), [("auto", True), ("cpu", True), ("cuda", False), ("grpc://host:8001", False)]
)
def test_a_device_that_nothing_runs_on_is_refused(loader: Loader, device: str, taken: bool) -> None:
    if taken:
        loader.load(policy(device=device))
    else:
        with pytest.raises(ConfigurationError, match=f"asks for the device '{device}'"):
            loader.load(policy(device=device))
