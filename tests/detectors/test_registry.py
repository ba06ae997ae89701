"""The registry: entry points in, detectors out, and errors that say what would be right."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmguard.detectors import registry
from llmguard.detectors.keywords import KeywordsDetector
from llmguard.detectors.registry import available, load, validate
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.testing import FakeDetector
from llmguard.types import Detector, Text

PLUGIN = """
from llmguard import Finding, detector
from llmguard.errors import MissingExtraError
from llmguard.testing import FakeDetector

class Sized(FakeDetector):
    def __init__(self, *, size, limit=3):
        if size > 100:
            raise ValueError("too big")
        super().__init__("sized")
        self.size = size

def free(**options):
    return FakeDetector("free", **options)

def other_name():
    return FakeDetector("another")

def needs_extra():
    raise MissingExtraError("this", "that", "pii")

@detector("ready", categories=["ANY"])
def ready(text):
    return [Finding("ANY")]

def nothing():
    return object()

number = 7
"""
ENTRIES = """[llmguard.detectors]
sized = demo_plugin:Sized
free = demo_plugin:free
other = demo_plugin:other_name
extra = demo_plugin:needs_extra
ready = demo_plugin:ready
nothing = demo_plugin:nothing
number = demo_plugin:number
broken = demo_plugin_missing:Thing
"""


def install(root: Path, name: str, entries: str) -> None:
    info = root / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(entries)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "demo_plugin.py").write_text(PLUGIN)
    install(tmp_path, "demo-plugin", ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    available.cache_clear()
    yield tmp_path
    available.cache_clear()
    sys.modules.pop("demo_plugin", None)


def test_our_own_detectors_are_there() -> None:
    ours = {"pii", "secrets", "unicode", "keywords", "injection_rules", "token_stats"}
    assert ours <= set(available())
    assert available() is available()


def test_a_detector_is_made_with_its_options() -> None:
    made = load("keywords", {"deny": ["acme"]})
    assert isinstance(made, KeywordsDetector)
    assert len(made.detect([Text("acme")])[0]) == 1
    assert load("token_stats").name == "token_stats"


def test_classes_factories_and_ready_made_detectors(plugins: Path) -> None:
    assert load("sized", {"size": 7}).size == 7  # type: ignore[attr-defined]
    assert load("free", {"category": "X"}).categories == {"X"}
    assert load("ready").detect([Text("x")])[0][0].category == "ANY"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("keyword", {}, "unknown detector 'keyword' (did you mean 'keywords'?)"),
        ("keywords", {"denny": []}, "the detector 'keywords' has no option 'denny' (did you mean 'deny'?)"),
        ("sized", {"size": 1, "self": 2}, "the detector 'sized' has no option 'self' (known: limit, size)"),
        ("sized", {"limit": 2}, "the detector 'sized' needs the option 'size'"),
        ("sized", {"size": 101}, "can't be made with the options ['size']: ValueError: too big"),
        ("other", {}, "'other' of demo-plugin 1.5 gives a detector called 'another'; the names must be equal"),
        ("other", {"x": 1}, "the detector 'other' has no option 'x'; it takes none"),
        ("ready", {"x": 1}, "the detector 'ready' takes no options, but was given x"),
        ("nothing", {}, "builtins.object is no detector: it has no 'name'"),
        ("number", {}, "'demo_plugin:number' is neither a detector nor makes one"),
        (
            "broken",
            {},
            "of demo-plugin 1.5 can't be imported from 'demo_plugin_missing:Thing': ModuleNotFoundError: No",
        ),
    ],
)
def test_what_is_wrong_is_named(plugins: Path, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        load(name, options)


def test_a_missing_extra_stays_one(plugins: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"llmguard\[pii\]"):
        load("extra")


def test_two_distributions_with_one_name_are_an_error(plugins: Path) -> None:
    install(plugins, "rival-plugin", "[llmguard.detectors]\nfree = rival:free\n")
    with pytest.raises(
        ConfigurationError,
        match=re.escape(
            "'free' is there more than once: demo-plugin 1.5 (demo_plugin:free), rival-plugin 1.5 (rival:free)"
        ),
    ):
        available()


def changed(**attributes: Any) -> Detector:
    detector = FakeDetector()
    for name, value in attributes.items():
        setattr(detector, name, value)
    return detector


async def detect_async(texts: object) -> list[object]:
    return []


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (KeywordsDetector, "KeywordsDetector is a class: make an object of it"),
        (changed(name="Own Name"), "'Own Name' is no name for a detector"),
        (changed(name=3), "a detector's name must be a string, not int"),
        (changed(version=1), "version must be a non-empty string"),
        (changed(scope="page"), "scope must be one of span, sentence, document"),
        (changed(categories={"A"}), "categories must be a frozenset, not set"),
        (changed(categories=frozenset()), "at least one category"),
        (changed(inline=None), "inline must be True or False"),
        (changed(detect=None), "detect must be a plain method"),
        (changed(detect=detect_async), "detect must be a plain method, not async"),
        (object(), "builtins.object is no detector: it has no 'name'"),
    ],
)
def test_validate_says_what_a_detector_lacks(thing: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        validate(thing)


def test_the_group_is_the_documented_one() -> None:
    assert registry.GROUP == "llmguard.detectors"
