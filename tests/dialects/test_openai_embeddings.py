"""Embeddings. Bodies are in the shapes of OpenAI's, vLLM's and llama.cpp's pages; the values are ours."""

import json
from pathlib import Path

import pytest

from llmguard.dialects.openai_embeddings import AZURE_EMBEDDINGS, EMBEDDINGS
from llmguard.dialects.wire import Body, Usage
from llmguard.errors import DialectError

SAMPLES = json.loads((Path(__file__).parent / "samples" / "openai.embeddings.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("number", "texts", "uncovered"),
    [
        (0, ["/input"], ()),
        (1, ["/input/0", "/input/1"], ()),
        (2, [], ("/input",)),
        (3, [], ("/input/0", "/input/1")),
        (4, ["/content"], ()),
        (5, ["/messages/0/content/0/text"], ("/messages/0/content/1",)),
    ],
)
def test_requests(number, texts, uncovered):
    body = EMBEDDINGS.request(SAMPLES["requests"][number]["body"], {})
    assert [(str(part.stage), str(part.role), part.path) for part in body.parts] == [
        ("input", "user", path) for path in texts
    ]
    assert body.uncovered == uncovered
    assert not body.stream


def test_azure_names_the_model_in_the_path():
    assert AZURE_EMBEDDINGS.request({"input": "x"}, {"deployment": "vectors"}).model == "vectors"


@pytest.mark.parametrize("body", [[], {}, {"input": True}, {"input": 5, "model": 5}, {"input": "x", "messages": None}])
def test_what_is_no_request(body):
    with pytest.raises(DialectError):
        EMBEDDINGS.request(body, {})


def test_an_answer_has_no_texts():
    body = EMBEDDINGS.response(SAMPLES["responses"][0]["body"])
    assert (body.parts, body.uncovered, body.model) == ((), (), "text-embedding-3-small")
    assert body.usage == Usage(input=5)
    with pytest.raises(DialectError):
        EMBEDDINGS.response({})


def test_a_refusal_is_an_error_that_says_the_text():
    body = EMBEDDINGS.response(EMBEDDINGS.refusal(Body(), "No."))
    assert (body.error, [part.content for part in body.parts]) == ("content_filter", ["No."])
