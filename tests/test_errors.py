import inspect
import pickle

import pytest

from llmguard import Action, Decision, Finding, PolicyRef, Stage, errors
from llmguard.errors import Blocked, ConfigurationError, DetectorError, LlmGuardError, MissingExtraError, nearest


def test_the_tree_is_drawn_in_the_docstring() -> None:
    drawn = errors.__doc__ or ""
    for name, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, Exception) and error.__module__ == errors.__name__:
            assert name in drawn
            assert issubclass(error, LlmGuardError)


@pytest.mark.parametrize(
    ("source", "line", "expected"),
    [("policy.yaml", 12, "policy.yaml:12: wrong"), ("policy.yaml", None, "policy.yaml: wrong"), ("", 12, "wrong")],
)
def test_a_configuration_error_says_where(source: str, line: int | None, expected: str) -> None:
    error = ConfigurationError("wrong", source=source, line=line)
    assert str(error) == expected
    assert (error.message, error.source, error.line) == ("wrong", source, line)


def test_a_missing_extra_is_an_import_error_too() -> None:
    error = MissingExtraError("the vault", "cryptography", "vault")
    assert isinstance(error, ImportError)
    assert str(error) == (
        "the vault needs the package 'cryptography', which is not installed: pip install 'llmguard[vault]'"
    )


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("wrong", source="p.yaml", line=3),
        MissingExtraError("the vault", "cryptography", "vault"),
        DetectorError("pii", "gave nothing"),
        Blocked(Decision(Action.BLOCK, ("",), (Finding("X"),), Stage.INPUT, PolicyRef("p", "1", "h"))),
    ],
)
def test_errors_survive_a_process_boundary(error: LlmGuardError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("pij", ["pii", "secrets"], " (did you mean 'pii'?)"),
        ("zebra", ["pii", "secrets"], " (known: pii, secrets)"),
        ("zebra", [], ""),
    ],
)
def test_the_nearest_word_or_all_of_them(word: str, known: list[str], hint: str) -> None:
    assert nearest(word, known) == hint
