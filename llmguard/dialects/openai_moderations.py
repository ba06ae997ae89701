"""Moderations: texts and images in, categories and scores out.

Follows "Create moderation" of OpenAI's API reference (https://platform.openai.com/docs/api-reference/moderations).
"""

from __future__ import annotations

from collections.abc import Mapping

from llmguard.dialects.openai_common import unread
from llmguard.dialects.openai_wordless import OpenAiWordless
from llmguard.dialects.pointer import child
from llmguard.dialects.reader import Reader, exact, mapping, members, word
from llmguard.dialects.wire import Json
from llmguard.errors import DialectError
from llmguard.types import Stage


def _read(reader: Reader, root: Mapping[str, Json]) -> None:
    exact(root, {"input", "model"}, "")
    if isinstance(root.get("input"), str):
        reader.text(root["input"], "/input", Stage.INPUT)
    elif "input" in root:
        for where, item in members(root["input"], "/input"):
            _input(reader, item, where)
    else:
        raise DialectError("/input: is missing")
    unread(reader, root, {"input", "model"})


def _input(reader: Reader, item: Json, path: str) -> None:
    if isinstance(item, str):
        reader.text(item, path, Stage.INPUT)
    elif word(mapping(item, path), "type", path) == "text":
        reader.text(item.get("text"), child(path, "text"), Stage.INPUT)
        reader.rest(item, path, {"type", "text"})
    else:
        reader.uncovered.append(path)


MODERATIONS = OpenAiWordless("openai.moderations", "openai", "moderation", ("/v1/moderations",), _read, "results")
