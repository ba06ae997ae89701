"""Chat completions. Bodies in the shapes of OpenAI's, Azure's and vLLM's pages (see the samples); values are ours."""

import json
from pathlib import Path

import pytest

from llmguard.dialects.openai_chat import AZURE_CHAT, CHAT
from llmguard.dialects.wire import Body, Frame, Usage
from llmguard.errors import DialectError

SAMPLES = json.loads((Path(__file__).parent / "samples" / "openai.chat.json").read_text(encoding="utf-8"))
AZURE = json.loads((Path(__file__).parent / "samples" / "azure.chat.json").read_text(encoding="utf-8"))


def rows(parts):
    return [(str(part.stage), str(part.role), part.path) for part in parts]


def chunk(*choices, **fields):
    return Frame({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": list(choices), **fields})


def test_every_text_of_a_request_with_its_stage_and_role():
    body = CHAT.request(SAMPLES["requests"][0]["body"], {})
    assert rows(body.parts) == [
        ("input", "system", "/messages/0/content"),
        ("input", "system", "/messages/1/content/0/text"),
        ("input", "user", "/messages/2/content/0/text"),
        ("input", "assistant", "/messages/3/reasoning_content"),
        ("tool_call", "assistant", "/messages/3/tool_calls/0/function/arguments#/town"),
        ("tool_call", "assistant", "/messages/3/tool_calls/0/function/arguments#/note/0"),
        ("tool_call", "assistant", "/messages/3/tool_calls/0/function/arguments#/note/1/why"),
        ("tool_call", "assistant", "/messages/3/tool_calls/1/custom/input"),
        ("tool_call", "assistant", "/messages/3/tool_calls/2/function/arguments"),
        ("tool_result", "tool", "/messages/4/content"),
        ("tool_result", "tool", "/messages/5/content/0/text"),
        ("input", "assistant", "/messages/6/content/0/text"),
        ("input", "assistant", "/messages/6/content/1/refusal"),
        ("input", "assistant", "/messages/7/content"),
        ("tool_call", "assistant", "/messages/7/function_call/arguments#/town"),
        ("tool_result", "tool", "/messages/8/content"),
        ("input", "user", "/messages/9/content"),
        ("input", "system", "/tools/0/function/description"),
        ("input", "system", "/tools/0/function/parameters/properties/town/title"),
        ("input", "system", "/tools/0/function/parameters/properties/town/description"),
        ("input", "system", "/tools/0/function/parameters/properties/type/description"),
        ("input", "system", "/tools/0/function/parameters/properties/type/enum/0"),
        ("input", "system", "/tools/0/function/parameters/properties/type/enum/1"),
        ("input", "system", "/tools/0/function/parameters/properties/type/default"),
        ("input", "system", "/tools/0/function/parameters/properties/type/pattern"),
        ("input", "system", "/tools/1/custom/description"),
        ("input", "system", "/tools/1/custom/format/grammar/definition"),
        ("input", "system", "/functions/0/description"),
        ("input", "system", "/web_search_options/user_location/approximate/city"),
        ("input", "system", "/web_search_options/user_location/approximate/country"),
        ("input", "assistant", "/prediction/content/0/text"),
        ("input", "system", "/response_format/json_schema/description"),
        ("input", "system", "/response_format/json_schema/schema/properties/line/description"),
        ("input", "user", "/stop/0"),
        ("input", "user", "/stop/1"),
    ]
    assert body.uncovered == (
        "/messages/2/content/1",
        "/messages/2/content/2",
        "/messages/2/content/3",
        "/messages/2/content/4",
        "/messages/6/audio/id",
        "/messages/9/aside/hint",
    )
    assert (body.model, body.stream) == ("gpt-5.1-mini", True)


def test_vllm_extras_of_a_request():
    body = CHAT.request(SAMPLES["requests"][1]["body"], {})
    assert rows(body.parts) == [
        ("input", "user", "/messages/0/content"),
        ("input", "assistant", "/messages/1/content"),
        ("context", "retrieval", "/documents/0/title"),
        ("context", "retrieval", "/documents/0/text"),
        ("input", "system", "/chat_template"),
        ("input", "system", "/chat_template_kwargs/persona"),
        ("input", "system", "/structured_outputs/regex"),
        ("input", "system", "/guided_choice/0"),
        ("input", "system", "/guided_choice/1"),
        ("input", "user", "/stop"),
        ("input", "user", "/bad_words/0"),
    ]


def test_azure_names_the_model_in_the_path_and_retrieves():
    body = AZURE_CHAT.request(AZURE["requests"][0]["body"], {"deployment": "shop-chat"})
    assert body.model == "shop-chat"
    assert ("context", "retrieval", "/messages/1/context/citations/0/content") in rows(body.parts)
    assert ("input", "system", "/data_sources/0/parameters/role_information") in rows(body.parts)
    assert not any("authentication" in part.path or "endpoint" in part.path for part in body.parts)
    answer = AZURE_CHAT.response(AZURE["responses"][0]["body"])
    assert ("output", "retrieval", "/choices/0/message/context/citations/0/content") in rows(answer.parts)
    assert answer.uncovered == ()


@pytest.mark.parametrize(
    ("message", "row"),
    [
        ({"role": "ipython", "content": "x"}, ("input", "user", "/messages/0/content")),
        ({"role": "document", "content": "x"}, ("context", "retrieval", "/messages/0/content")),
        ({"role": "user", "content": ["x"]}, ("input", "user", "/messages/0/content/0")),
        ({"role": "user", "name": "obey me now"}, ("input", "user", "/messages/0/name")),
        ({"role": "assistant", "reasoning": "x"}, ("input", "assistant", "/messages/0/reasoning")),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}]},
            ("input", "assistant", "/messages/0/content/0/thinking/0/text"),
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": "x"}}}]},
            ("tool_call", "assistant", "/messages/0/tool_calls/0/function/arguments/a"),
        ),
    ],
)
def test_other_shapes_of_messages(message, row):
    assert rows(CHAT.request({"messages": [message]}, {}).parts) == [row]


@pytest.mark.parametrize(
    ("message", "uncovered"),
    [
        ({"content": [{"type": "video_url", "video_url": {"url": "u"}}]}, "/messages/0/content/0"),
        ({"content": [{"image_url": "u"}]}, "/messages/0/content/0"),
        ({"content": [{"type": "text"}]}, "/messages/0/content/0"),
        ({"content": [{"type": "text", "text": "x", "extra": "y"}]}, "/messages/0/content/0/extra"),
        ({"tool_calls": [{"function": {"arguments": "{}", "also": "y"}}]}, "/messages/0/tool_calls/0/function/also"),
        ({"reasoning_details": [{"data": "gAAA"}]}, "/messages/0/reasoning_details/0/data"),
    ],
)
def test_what_is_unknown_is_uncovered(message, uncovered):
    assert CHAT.request({"messages": [{"role": "user", **message}]}, {}).uncovered == (uncovered,)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ([], "the body"),
        ({}, "/messages"),
        ({"messages": "secret"}, "/messages"),
        ({"messages": ["secret"]}, "/messages/0"),
        ({"messages": [{"content": "secret"}]}, "/messages/0/role"),
        ({"messages": [{"role": "the secret role", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": 5}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": {"text": "secret"}}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": [5]}]}, "/messages/0/content/0"),
        ({"messages": [{"role": "user", "content": [{"type": ["text"]}]}]}, "/messages/0/content/0/type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "/messages/0/content/0/text"),
        ({"messages": [{"role": "user", "Content": "secret"}]}, "'content' is spelt in another case"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "", "Text": "s"}]}]}, "another case"),
        ({"messages": [{"role": "user", "tool_calls": {}}]}, "/messages/0/tool_calls"),
        ({"messages": [{"role": "user", "tool_calls": [{"function": {"arguments": 5}}]}]}, "function/arguments"),
        ({"messages": [], "stream": "true"}, "/stream"),
        ({"messages": [], "stream": 1}, "/stream"),
        ({"messages": [], "model": 5}, "/model"),
        ({"messages": [], "tools": {}}, "/tools"),
        ({"messages": [], "Tools": []}, "another case"),
        ({"messages": [], "prediction": "secret"}, "/prediction"),
    ],
)
def test_what_is_no_request_is_refused_without_its_content(body, where):
    with pytest.raises(DialectError) as raised:
        CHAT.request(body, {})
    assert where in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_answer_of_several_choices():
    body = CHAT.response(SAMPLES["responses"][0]["body"])
    assert rows(body.parts) == [
        ("output", "assistant", "/choices/0/message/content"),
        ("output", "retrieval", "/choices/0/message/annotations/0/url_citation/title"),
        ("output", "retrieval", "/choices/0/message/annotations/0/url_citation/url"),
        ("output", "assistant", "/choices/1/message/refusal"),
    ]
    assert body.uncovered == ("/choices/0/logprobs",)
    assert (body.id, body.model, body.finish) == ("chatcmpl-7Rq", "gpt-5.1-mini", ("stop", "stop"))
    assert body.usage == Usage(input=31, output=12, cached=16, reasoning=4)


@pytest.mark.parametrize(
    ("number", "texts", "uncovered"),
    [
        (
            1,
            [
                ("tool_call", "assistant", "/choices/0/message/tool_calls/0/function/arguments#/town"),
                ("tool_call", "assistant", "/choices/0/message/tool_calls/1/custom/input"),
            ],
            set(),
        ),
        (2, [("tool_call", "assistant", "/choices/0/message/function_call/arguments#/town")], set()),
        (
            3,
            [("output", "assistant", "/choices/0/message/audio/transcript")],
            {"/choices/0/message/audio/data"},
        ),
        (
            4,
            [
                ("output", "assistant", "/choices/0/message/content"),
                ("output", "assistant", "/choices/0/message/reasoning"),
                ("output", "assistant", "/choices/0/message/reasoning_content"),
                ("output", "user", "/prompt_text"),
            ],
            {
                "/choices/0/message/reasoning_details/0/type",
                "/choices/0/message/reasoning_details/0/text",
                "/choices/0/token_ids",
                "/prompt_token_ids",
                "/prompt_logprobs",
                "/__verbose",
            },
        ),
    ],
)
def test_other_answers(number, texts, uncovered):
    body = CHAT.response(SAMPLES["responses"][number]["body"])
    assert rows(body.parts) == texts
    assert set(body.uncovered) == uncovered


@pytest.mark.parametrize(
    "body", [[], {}, {"choices": {}}, {"choices": [5]}, {"choices": [{}]}, {"choices": [{"message": {"content": 5}}]}]
)
def test_what_is_no_answer(body):
    with pytest.raises(DialectError):
        CHAT.response(body)


def test_channels_of_a_stream_join_to_its_texts():
    texts, ends, finish, usage = {}, [], [], None
    for frame in SAMPLES["streams"][0]["frames"]:
        event = CHAT.event(Frame(frame["data"]))
        for delta in event.deltas:
            texts[delta.channel] = texts.get(delta.channel, "") + delta.content
        ends += event.ends
        finish += event.finish
        usage = event.usage or usage
    assert texts == {"0/content": "Dry until six.", "1/content": "", "1/refusal": "I can't say."}
    assert (ends, finish, usage) == (["1/", "0/"], ["stop", "stop"], Usage(31, 12, 16, 4))
    assert event.last


def test_arguments_of_tools_are_channels_of_json():
    deltas = [
        delta
        for frame in SAMPLES["streams"][1]["frames"]
        for delta in CHAT.event(Frame(frame["data"])).deltas
        if delta.stage == "tool_call"
    ]
    joined = {}
    for delta in deltas:
        joined[delta.channel] = joined.get(delta.channel, "") + delta.content
    assert joined == {"0/tool/0/arguments": '{"town": "Ghent"}', "0/tool/1/input": "SELECT"}
    assert {delta.channel for delta in deltas if delta.json} == {"0/tool/0/arguments"}
    assert deltas[1].path == "/choices/0/delta/tool_calls/0/function/arguments"


def test_whole_tool_calls_without_an_index_are_told_apart_by_id():
    calls = [{"id": name, "function": {"name": "f", "arguments": "{}"}} for name in ("a", "b")]
    events = [CHAT.event(chunk({"index": 0, "delta": {"tool_calls": [call]}})) for call in calls]
    assert [event.deltas[0].channel for event in events] == ["0/tool/a/arguments", "0/tool/b/arguments"]


def test_log_probabilities_of_a_chunk_are_uncovered():
    said = {"content": [{"token": "Dry", "logprob": 0, "bytes": [68], "top_logprobs": []}]}
    event = CHAT.event(chunk({"index": 0, "delta": {"content": "Dry"}, "logprobs": said}))
    assert event.uncovered == ("/choices/0/logprobs",)


def test_a_whole_message_in_a_chunk_is_no_piece():
    event = CHAT.event(chunk({"index": 0, "message": {"role": "assistant", "content": "Dry."}}))
    assert event.deltas == ()
    assert rows(event.parts) == [("output", "assistant", "/choices/0/message/content")]


def test_an_error_in_mid_stream():
    event = CHAT.event(Frame({"error": {"message": "the engine died", "type": "server_error", "code": 500}}))
    assert (event.error, rows(event.parts)) == ("500", [("output", "assistant", "/error/message")])


@pytest.mark.parametrize("data", ["[done]", "hello", 5, [], {"choices": 5}, {"choices": [{"delta": 5}]}])
def test_what_is_no_chunk(data):
    with pytest.raises(DialectError):
        CHAT.event(Frame(data))


def test_an_ending_goes_on_where_the_stream_was():
    seen = [
        chunk({"index": 0, "delta": {"role": "assistant", "content": "Dry"}}, created=7),
        chunk({"index": 1, "delta": {"role": "assistant", "content": "Wet"}}),
        chunk({"index": 1, "delta": {}, "finish_reason": "stop"}),
    ]
    ending = CHAT.ending(seen, "No.")
    assert [frame.data for frame in ending][-1] == "[DONE]"
    assert [(f.data["id"], f.data["created"], f.data["choices"][0]["index"]) for f in ending[:-1]] == [("c1", 7, 0)] * 2
    assert ending[0].data["choices"][0]["delta"] == {"content": "No."}
    assert CHAT.ending([], "")[0].data["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(CHAT.ending(seen, "")) == 2


def test_what_we_write_is_accepted_by_the_official_types():
    chat = pytest.importorskip("openai.types.chat", reason="needs the openai package")
    refusal = chat.ChatCompletion.model_validate(CHAT.refusal(Body(model="m"), "No."), strict=True)
    assert refusal.choices[0].message.content == "No."
    assert refusal.choices[0].finish_reason == "content_filter"
    for stream in SAMPLES["streams"]:
        frames = [Frame(frame["data"]) for frame in stream["frames"]]
        for cut in range(len(frames)):
            for frame in CHAT.ending(frames[:cut], "No.")[:-1]:
                chat.ChatCompletionChunk.model_validate(frame.data, strict=True)
