"""Moderations. Bodies are in the shapes of OpenAI's page (see the samples); the values are ours."""

import json
from pathlib import Path

import pytest

from llmguard.dialects.openai_moderations import MODERATIONS
from llmguard.dialects.wire import Body
from llmguard.errors import DialectError

SAMPLES = json.loads((Path(__file__).parent / "samples" / "openai.moderations.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("number", "texts", "uncovered"),
    [(0, ["/input"], ()), (1, ["/input/0", "/input/1"], ()), (2, ["/input/0/text"], ("/input/1",))],
)
def test_requests(number, texts, uncovered):
    body = MODERATIONS.request(SAMPLES["requests"][number]["body"], {})
    assert [(str(part.stage), str(part.role), part.path) for part in body.parts] == [
        ("input", "user", path) for path in texts
    ]
    assert body.uncovered == uncovered


@pytest.mark.parametrize(
    "body", [[], {}, {"input": 5}, {"input": [5]}, {"input": [{"type": "text", "text": 5}]}, {"input": "x", "model": 5}]
)
def test_what_is_no_request(body):
    with pytest.raises(DialectError):
        MODERATIONS.request(body, {})


def test_an_answer_has_no_texts():
    body = MODERATIONS.response(SAMPLES["responses"][0]["body"])
    assert (body.parts, body.uncovered, body.id) == ((), (), "modr-1")
    with pytest.raises(DialectError):
        MODERATIONS.response({"id": "modr-1"})


def test_a_refusal_is_an_error_that_says_the_text():
    body = MODERATIONS.response(MODERATIONS.refusal(Body(), "No."))
    assert (body.error, [part.content for part in body.parts]) == ("content_filter", ["No."])
