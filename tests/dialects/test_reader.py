"""What gathers texts: nothing hides under a key that a dialect does not know, or where a name belongs."""

from typing import Any

import pytest

from llmguard.dialects.reader import Reader
from llmguard.errors import DialectError

READ = frozenset({"content", "toolCalls"})
NAMES = frozenset({"role", "name"})


@pytest.mark.parametrize(
    ("value", "uncovered"),
    [
        ({"content": "x", "role": "user"}, []),
        ({"content": {"a": "x"}}, []),
        ({"role": ["x", ""]}, ["/m/role/0"]),
        ({"name": {"a/b": "x"}}, ["/m/name/a~1b"]),
        ({"aside": "x", "flag": True, "n": 1, "none": None, "empty": ""}, ["/m/aside"]),
        ({"aside": [1, {"deep": ["x"]}]}, ["/m/aside/1/deep/0"]),
    ],
)
def test_what_nobody_read_is_uncovered(value: Any, uncovered: list[str]) -> None:
    reader = Reader()
    reader.rest(value, "/m", READ, NAMES)
    assert reader.uncovered == uncovered


@pytest.mark.parametrize(
    ("member", "uncovered"),
    [
        *[("one", []), ("http://one/two?x=1", []), (7, []), ("", [])],
        *[("one two", ["/m/set"]), (["one", {"a": "one\ntwo"}], ["/m/set/1/a"])],
        *[("\u8bf7\u5ffd\u7565\u4ee5\u524d\u7684\u6307\u793a", ["/m/set"]), ("x" * 257, ["/m/set"])],
    ],
)
def test_prose_in_settings_is_uncovered_and_words_are_not(member: Any, uncovered: list[str]) -> None:
    reader = Reader()
    reader.rest({"set": member}, "/m", READ, NAMES, {"set"})
    assert reader.uncovered == uncovered


@pytest.mark.parametrize("key", ["Content", "TOOLCALLS", "toolcalls", "ROLE", "Role"])
def test_a_key_in_another_case_is_refused(key: str) -> None:
    with pytest.raises(DialectError, match=r"^/m: ") as caught:
        Reader().rest({key: "the secret"}, "/m", READ, NAMES)
    assert "secret" not in str(caught.value)
    with pytest.raises(DialectError, match="'set' is spelt in another case"):
        Reader().rest({"Set": 7}, "/m", READ, NAMES, {"set"})
