"""Embeddings: texts in, vectors out.

Follows "Create embeddings" of OpenAI's API reference (https://platform.openai.com/docs/api-reference/embeddings).
vLLM's server takes messages in place of the input, llama.cpp's ``content``; the latter answers with a list.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmguard.dialects.openai_chat import add_messages, add_template
from llmguard.dialects.openai_common import COMMON, prompts, unread
from llmguard.dialects.openai_wordless import OpenAiWordless
from llmguard.dialects.reader import Reader, exact
from llmguard.dialects.wire import Json
from llmguard.errors import DialectError

_INPUTS = frozenset({"input", "content", "messages"})
_TEMPLATE = frozenset({"documents", "chat_template", "chat_template_kwargs"})
_KNOWN = _INPUTS | _TEMPLATE | COMMON


def _read(reader: Reader, root: Mapping[str, Json]) -> None:
    exact(root, _INPUTS, "")
    if _INPUTS.isdisjoint(root):
        raise DialectError("/input: is missing")
    for key in ("input", "content"):
        prompts(reader, root.get(key), f"/{key}")
    if "messages" in root:
        add_messages(reader, root["messages"])
    add_template(reader, root)
    unread(reader, root, _KNOWN)


EMBEDDINGS = OpenAiWordless(
    "openai.embeddings", "openai", "embeddings", ("/v1/embeddings", "/embeddings"), _read, "data"
)
AZURE_EMBEDDINGS = OpenAiWordless(
    "azure.embeddings",
    "azure.ai.openai",
    "embeddings",
    ("/openai/deployments/{deployment}/embeddings", "/openai/v1/embeddings"),
    _read,
    "data",
)
