"""llama.cpp's own completions. Bodies are in the shapes of its server's README (see the samples); values are ours."""

import json
from pathlib import Path

import pytest

from llmguard.dialects.llamacpp import COMPLETION
from llmguard.dialects.wire import Body, Frame, Usage
from llmguard.errors import DialectError

SAMPLES = json.loads((Path(__file__).parent / "samples" / "llamacpp.completion.json").read_text(encoding="utf-8"))


def rows(parts):
    return [(str(part.stage), str(part.role), part.path) for part in parts]


@pytest.mark.parametrize(
    ("number", "texts", "uncovered"),
    [
        (0, [("input", "user", "/prompt"), ("input", "system", "/grammar"), ("input", "user", "/stop/0")], ()),
        (1, [("input", "user", "/prompt/2")], ("/prompt/0", "/prompt/1", "/prompt/3")),
        (2, [], ("/prompt",)),
        (
            3,
            [
                ("input", "user", "/prompt/0"),
                ("input", "user", "/prompt/2/prompt_string"),
                ("input", "system", "/json_schema/properties/line/description"),
            ],
            ("/prompt/1", "/prompt/2/multimodal_data/0"),
        ),
        (4, [("input", "user", "/prompt/prompt_string"), ("input", "system", "/reasoning_budget_message")], ()),
        (
            5,
            [
                ("context", "retrieval", "/input_extra/0/filename"),
                ("context", "retrieval", "/input_extra/0/text"),
                ("input", "user", "/input_prefix"),
                ("input", "user", "/input_suffix"),
                ("input", "user", "/prompt"),
            ],
            (),
        ),
    ],
)
def test_requests(number, texts, uncovered):
    body = COMPLETION.request(SAMPLES["requests"][number]["body"], {})
    assert rows(body.parts) == texts
    assert body.uncovered == uncovered
    assert body.stream is (number == 0)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ([], "the body"),
        ({}, "/prompt"),
        ({"prompt": True}, "/prompt"),
        ({"prompt": "secret", "stream": "true"}, "/stream"),
        ({"input_prefix": ["secret"]}, "/input_prefix"),
        ({"prompt": "", "input_extra": ["secret"]}, "/input_extra/0"),
    ],
)
def test_what_is_no_request(body, where):
    with pytest.raises(DialectError) as raised:
        COMPLETION.request(body, {})
    assert where in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_answer_repeats_the_prompt():
    body = COMPLETION.response(SAMPLES["responses"][0]["body"])
    assert rows(body.parts) == [("output", "assistant", "/content"), ("output", "user", "/prompt")]
    assert body.uncovered == ("/completion_probabilities",)
    assert (body.model, body.finish, body.usage) == ("tiny", ("eos",), Usage(input=7, output=3, cached=2))


def test_several_prompts_have_a_list_as_their_answer():
    body = COMPLETION.response(SAMPLES["responses"][1]["body"])
    assert [part.path for part in body.parts] == ["/0/content", "/0/prompt", "/1/content", "/1/prompt"]
    assert (body.finish, body.usage) == (("eos", "word"), Usage(input=14, output=6, cached=4))
    assert COMPLETION.response([]) == Body()


def test_what_is_unknown_in_an_answer_is_uncovered():
    assert COMPLETION.response({"content": "x", "n_predict": 5, "aside": {"y": "z"}}).uncovered == ("/aside/y",)
    with pytest.raises(DialectError):
        COMPLETION.response({"model": "tiny"})


def test_a_stream():
    events = [COMPLETION.event(Frame(frame["data"])) for frame in SAMPLES["streams"][0]["frames"]]
    assert "".join(delta.content for event in events for delta in event.deltas) == " dry today"
    assert {delta.channel for event in events for delta in event.deltas} == {"0/content"}
    assert set(events[1].uncovered) == {"/tokens", "/completion_probabilities"}
    assert [event.usage for event in events] == [None, None, None, Usage(input=7, output=3, cached=2)]
    assert (events[-1].last, events[-1].ends, events[-1].finish) == (False, ("0/content",), ("eos",))
    assert rows(events[-1].parts) == [("output", "user", "/prompt")]


def test_prompts_of_one_stream_are_channels():
    events = [COMPLETION.event(Frame({"index": index, "content": "x", "stop": False})) for index in (0, 1)]
    assert [event.deltas[0].channel for event in events] == ["0/content", "1/content"]


def test_a_refusal_and_an_ending():
    body = COMPLETION.response(COMPLETION.refusal(Body(model="tiny"), "No."))
    assert ([part.content for part in body.parts], body.finish) == (["No."], ("content_filter",))
    seen = [Frame({"index": index, "content": "x", "stop": index == 1}) for index in (0, 1, 2)]
    ending = [frame.data for frame in COMPLETION.ending(seen, "No.")]
    assert [(line["index"], line["content"], line["stop"]) for line in ending] == [
        (0, "No.", False),
        (0, "", True),
        (2, "No.", False),
        (2, "", True),
    ]
    assert COMPLETION.ending([Frame({"error": {"message": "it died"}})], "No.") == []


def test_a_server_that_marks_the_end_as_others_do():
    assert COMPLETION.event(Frame("[DONE]")).last
    assert COMPLETION.ending([Frame("[DONE]")], "No.") == []


@pytest.mark.parametrize("data", ["text", [], {"index": 0}, {"content": 5, "stop": False}, {"content": "", "stop": ""}])
def test_what_is_no_event(data):
    with pytest.raises(DialectError):
        COMPLETION.event(Frame(data))
