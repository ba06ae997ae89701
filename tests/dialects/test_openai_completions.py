"""Completions. Bodies are in the shapes of OpenAI's and vLLM's pages (see the samples); the values are ours."""

import json
from pathlib import Path

import pytest

from llmguard.dialects.openai_completions import AZURE_COMPLETIONS, COMPLETIONS
from llmguard.dialects.wire import Body, Frame, Usage
from llmguard.errors import DialectError

SAMPLES = json.loads((Path(__file__).parent / "samples" / "openai.completions.json").read_text(encoding="utf-8"))


def rows(parts):
    return [(str(part.stage), str(part.role), part.path) for part in parts]


@pytest.mark.parametrize(
    ("number", "texts", "uncovered"),
    [
        (0, ["/prompt", "/suffix", "/stop/0"], ()),
        (1, ["/prompt/0", "/prompt/1"], ()),
        (2, [], ("/prompt",)),
        (3, [], ("/prompt/0", "/prompt/1")),
    ],
)
def test_requests(number, texts, uncovered):
    body = COMPLETIONS.request(SAMPLES["requests"][number]["body"], {})
    assert rows(body.parts) == [("input", "user", path) for path in texts]
    assert body.uncovered == uncovered
    assert body.stream is (number == 1)


def test_vllm_extras():
    body = COMPLETIONS.request(SAMPLES["requests"][4]["body"], {})
    assert rows(body.parts) == [("input", "system", "/guided_regex")]
    assert body.uncovered == ("/prompt_embeds",)


def test_azure_names_the_model_in_the_path():
    assert AZURE_COMPLETIONS.request({"prompt": "x"}, {"deployment": "shop"}).model == "shop"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ("secret", "the body"),
        ({}, "/prompt"),
        ({"prompt": True}, "/prompt"),
        ({"prompt": ["a", None, {"x": 1}], "suffix": 5}, "/suffix"),
        ({"prompt": "secret", "stream": "yes"}, "/stream"),
    ],
)
def test_what_is_no_request(body, where):
    with pytest.raises(DialectError) as raised:
        COMPLETIONS.request(body, {})
    assert where in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_answer():
    body = COMPLETIONS.response(SAMPLES["responses"][0]["body"])
    assert rows(body.parts) == [
        ("output", "assistant", "/choices/0/text"),
        ("output", "assistant", "/choices/1/text"),
    ]
    assert body.uncovered == ("/choices/0/logprobs",)
    assert (body.id, body.model, body.finish) == ("cmpl-3a", "davinci-002", ("stop", "length"))
    assert body.usage == Usage(31, 12, 16, 4)
    assert set(COMPLETIONS.response(SAMPLES["responses"][1]["body"]).uncovered) == {
        "/choices/0/token_ids",
        "/choices/0/prompt_token_ids",
        "/choices/0/prompt_logprobs",
    }


def test_a_stream():
    events = [COMPLETIONS.event(Frame(frame["data"])) for frame in SAMPLES["streams"][0]["frames"]]
    pieces = [(delta.channel, delta.path, delta.content) for event in events for delta in event.deltas]
    assert pieces == [
        ("0/text", "/choices/0/text", " dry"),
        ("1/text", "/choices/0/text", " wet"),
        ("1/text", "/choices/0/text", ""),
        ("0/text", "/choices/0/text", " today"),
    ]
    assert [event.ends for event in events] == [(), (), ("1/text",), ("0/text",), (), ()]
    assert events[0].uncovered == ("/choices/0/logprobs",)
    assert events[4].usage == Usage(31, 12, 16, 4)
    assert [event.last for event in events] == [False] * 5 + [True]


def test_an_ending_finishes_what_is_open():
    frames = [Frame(frame["data"]) for frame in SAMPLES["streams"][0]["frames"]]
    ending = COMPLETIONS.ending(frames[:3], "No.")
    assert [(f.data["choices"][0]["index"], f.data["choices"][0]["text"]) for f in ending[:-1]] == [(0, "No.")]
    assert ending[0].data["id"] == "cmpl-3a"
    assert [frame.data for frame in COMPLETIONS.ending(frames[:4], "No.")] == ["[DONE]"]


def test_what_we_write_is_accepted_by_the_official_types():
    types = pytest.importorskip("openai.types", reason="needs the openai package")
    refusal = types.Completion.model_validate(COMPLETIONS.refusal(Body(model="m"), "No."), strict=True)
    assert (refusal.choices[0].text, refusal.choices[0].finish_reason) == ("No.", "content_filter")
    for frame in COMPLETIONS.ending([], "No.")[:-1]:
        types.Completion.model_validate(frame.data, strict=True)
