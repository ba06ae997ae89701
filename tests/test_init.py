"""The public face: what it holds, and what importing it costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import llmguard

HEAVY = [
    "ahocorasick_rs",
    "cryptography",
    "detect_secrets",
    "evidently",
    "numba",
    "numpy",
    "onnxruntime",
    "opentelemetry.sdk",
    "pandas",
    "presidio_analyzer",
    "rich",
    "spacy",
    "torch",
    "transformers",
    "typer",
    "watchfiles",
]


def test_all_is_the_public_face() -> None:
    assert sorted(llmguard.__all__) == llmguard.__all__
    for name in llmguard.__all__:
        assert getattr(llmguard, name) is not None
    assert dir(llmguard) == llmguard.__all__
    with pytest.raises(AttributeError, match="no attribute 'Gaurd'"):
        _ = llmguard.Gaurd


def loaded_by(program: str) -> set[str]:
    program += f"\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "program", ["import llmguard", "from llmguard import *", "from llmguard import Guard, Policy, detector"]
)
def test_importing_loads_nothing_heavy(program: str) -> None:
    assert loaded_by(program) == set()


def test_a_guard_with_own_detectors_loads_nothing_heavy() -> None:
    program = """
from llmguard import Guard, Finding, detector
@detector("shout", categories=["SHOUT"], inline=True)
def shout(text):
    if text.isupper():
        yield Finding("SHOUT")
guard = Guard({"name": "p", "version": "1", "rules": [{"detector": "shout", "action": "block"}]}, detectors=[shout])
assert guard.check("HELLO").blocked
"""
    assert loaded_by(program) == set()


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert llmguard.__version__ == project["version"]


@pytest.mark.parametrize(
    ("package", "detector", "extra"),
    [
        ("presidio_analyzer", "pii", "pii"),
        ("detect_secrets", "secrets", "secrets"),
        ("ahocorasick_rs", "keywords", "keywords"),
    ],
)
def test_a_missing_extra_is_one_error_that_names_the_pip_command(package: str, detector: str, extra: str) -> None:
    options = {"deny": ["x"]} if detector == "keywords" else {}
    program = f"""
import sys
sys.modules[{package!r}] = None
from llmguard import Guard, MissingExtraError
try:
    Guard({{"rules": [{{"detector": {detector!r}, "action": "block"}}], "detectors": {{{detector!r}: {options!r}}}}})
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"pip install 'llmguard[{extra}]'" in done.stdout
    assert len(done.stdout.splitlines()) == 1
