"""What holds for every dialect of the family, over its documented samples and over bodies that are none."""

import importlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.dialects.edit import rewrite
from llmguard.dialects.openai_common import definition, error_of, is_name, prompts, usage_of
from llmguard.dialects.reader import Reader
from llmguard.dialects.wire import Body, Dialect, Event, Frame, Usage
from llmguard.errors import DialectError

MODULES = ("openai_chat", "openai_completions", "openai_embeddings", "openai_moderations", "ollama", "llamacpp")
FAMILY: dict[str, Dialect] = {
    value.name: value
    for module in MODULES
    for value in vars(importlib.import_module(f"llmguard.dialects.{module}")).values()
    if hasattr(value, "routes") and not isinstance(value, type)
}
SAMPLES = {
    name: json.loads((Path(__file__).parent / "samples" / f"{name}.json").read_text(encoding="utf-8"))
    for name in FAMILY
}


def test_names_and_providers():
    assert {name: (dialect.provider, dialect.operation) for name, dialect in FAMILY.items()} == {
        "openai.chat": ("openai", "chat"),
        "azure.chat": ("azure.ai.openai", "chat"),
        "openai.completions": ("openai", "text_completion"),
        "azure.completions": ("azure.ai.openai", "text_completion"),
        "openai.embeddings": ("openai", "embeddings"),
        "azure.embeddings": ("azure.ai.openai", "embeddings"),
        "openai.moderations": ("openai", "moderation"),
        "ollama.chat": ("ollama", "chat"),
        "ollama.generate": ("ollama", "text_completion"),
        "llamacpp.completion": ("llamacpp", "text_completion"),
    }


def test_no_two_routes_are_the_same():
    routes = [(route.method, route.path) for dialect in FAMILY.values() for route in dialect.routes]
    assert len(routes) == len(set(routes))


@pytest.mark.parametrize("name", FAMILY)
def test_every_part_of_a_request_can_be_written_back_and_read_again(name):
    dialect = FAMILY[name]
    for sample in SAMPLES[name]["requests"]:
        data = json.dumps(sample["body"]).encode()
        before = dialect.request(sample["body"], {})
        marks = {part.path: f"mark {number} of it" for number, part in enumerate(before.parts)}
        after = dialect.request(json.loads(rewrite(data, marks)), {})
        assert {part.path: part.content for part in after.parts} == marks
        assert after.uncovered == before.uncovered


@pytest.mark.parametrize("name", FAMILY)
def test_every_part_of_an_answer_can_be_written_back_and_read_again(name):
    dialect = FAMILY[name]
    for sample in SAMPLES[name]["responses"] + SAMPLES[name]["errors"]:
        before = dialect.response(sample["body"])
        marks = {part.path: f"mark {number} of it" for number, part in enumerate(before.parts)}
        after = dialect.response(json.loads(rewrite(json.dumps(sample["body"]).encode(), marks)))
        assert {part.path: part.content for part in after.parts} == marks


@pytest.mark.parametrize("name", [name for name, dialect in FAMILY.items() if dialect.framing])
def test_an_ending_after_any_prefix_says_the_text_once_a_choice_and_is_the_last(name):
    dialect = FAMILY[name]
    for stream in SAMPLES[name]["streams"]:
        frames = [Frame(frame["data"]) for frame in stream["frames"]]
        for cut in range(len(frames)):
            for text in ("It stops here.", ""):
                events = [dialect.event(frame) for frame in dialect.ending(frames[:cut], text)]
                said = {delta.channel: delta.content for event in events for delta in event.deltas if delta.content}
                assert set(said.values()) <= {text}
                assert events[-1].last or name == "llamacpp.completion"
                assert {reason for event in events for reason in event.finish} <= {"content_filter"}
        assert dialect.ending(frames, "It stops here.") == []


@pytest.mark.parametrize("name", FAMILY)
def test_an_error_of_ours_is_read_as_one(name):
    body = FAMILY[name].response(FAMILY[name].error("no such thing", "not_found"))
    assert body.error
    assert [part.content for part in body.parts] == ["no such thing"]


KEYS = st.sampled_from(
    [
        "messages",
        "role",
        "content",
        "type",
        "text",
        "tool_calls",
        "function",
        "arguments",
        "name",
        "choices",
        "delta",
        "message",
        "index",
        "finish_reason",
        "logprobs",
        "error",
        "code",
        "prompt",
        "input",
        "stop",
        "stream",
        "tools",
        "parameters",
        "options",
        "response",
        "done",
        "usage",
        "prompt_tokens",
        "audio",
        "prediction",
        "data_sources",
        "custom",
        "annotations",
        "context",
        "model",
        "id",
        "data",
        "results",
        "format",
        "input_extra",
        "timings",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["secret", "user", "{}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize("name", FAMILY)
@settings(max_examples=120, deadline=None)
@given(body=VALUES)
def test_any_body_is_read_or_refused_and_no_content_is_in_the_error(name, body):
    dialect, frame = FAMILY[name], Frame(body)
    refused = []
    for read in (lambda: dialect.request(body, {}), lambda: dialect.response(body), lambda: dialect.event(frame)):
        try:
            read()
        except DialectError as error:
            refused.append(str(error))
        else:
            refused.append("")
    assert "secret" not in " ".join(refused)
    if not refused[-1]:
        assert all(isinstance(dialect.event(ended), Event) for ended in dialect.ending([frame], "x"))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("openai.chat", ["Messages", "Tools", "Functions", "Documents", "Stop", "Response_Format", "\u017ftream"]),
        ("openai.completions", ["Prompt", "Suffix", "STOP", "Guided_Regex"]),
        ("openai.embeddings", ["Input", "MESSAGES"]),
        ("openai.moderations", ["Input"]),
        ("ollama.chat", ["Messages", "Tools", "\u017ftream", "Option\u017f", "Format"]),
        ("ollama.generate", ["Prompt", "SYSTEM", "\u017fuffix", "Template", "\u212aeep_alive"]),
        ("llamacpp.completion", ["Prompt", "Input_Extra", "Grammar"]),
    ],
)
def test_a_key_in_another_case_is_no_way_around(name, keys):
    body = SAMPLES[name]["requests"][0]["body"]
    for key in keys:
        with pytest.raises(DialectError, match="another case"):
            FAMILY[name].request({**body, key: "hidden words"}, {})


@pytest.mark.parametrize(
    ("schema", "texts"),
    [
        ({"type": "object", "required": ["a", "b"], "$ref": "#/$defs/x", "name": "get_weather"}, []),
        ({"description": "d e", "title": "T", "pattern": "^a$"}, ["d e", "T", "^a$"]),
        ({"properties": {"type": {"description": "inner"}, "name": {"enum": ["x y", "z"]}}}, ["inner", "x y", "z"]),
        ({"type": "say what you know"}, ["say what you know"]),
        ({"name": "say what you know", "required": ["a b"]}, ["say what you know", "a b"]),
        ({"default": {"deep": ["one"]}, "examples": ["two"], "const": "three"}, ["one", "two", "three"]),
        (None, []),
        (True, []),
    ],
)
def test_definition(schema, texts):
    reader = Reader()
    definition(reader, schema, "/s")
    assert [part.content for part in reader.parts] == texts


@pytest.mark.parametrize(
    ("value", "paths", "uncovered"),
    [
        ("a", ["/p"], []),
        (["a", "b"], ["/p/0", "/p/1"], []),
        ([1, 2], [], ["/p"]),
        ([[1, 2], [3]], [], ["/p/0", "/p/1"]),
        ([1, "a", 2], ["/p/1"], ["/p/0", "/p/2"]),
        ([[1, "a"]], ["/p/0/1"], ["/p/0/0"]),
        ({"prompt_string": "a", "multimodal_data": ["AA"]}, ["/p/prompt_string"], ["/p/multimodal_data/0"]),
        ([], [], []),
        (None, [], []),
    ],
)
def test_prompts(value, paths, uncovered):
    reader = Reader()
    prompts(reader, value, "/p")
    assert ([part.path for part in reader.parts], reader.uncovered) == (paths, uncovered)


@pytest.mark.parametrize("value", [True, [True], {"prompt_string": 1}, {"Prompt_String": "a"}])
def test_prompts_that_are_none(value):
    with pytest.raises(DialectError):
        prompts(Reader(), value, "/p")


@pytest.mark.parametrize(
    ("body", "error", "texts"),
    [
        ({"error": {"message": "m m", "type": "t", "code": "c"}}, "c", ["m m"]),
        ({"error": {"message": "m m", "type": "t", "code": None}}, "t", ["m m"]),
        ({"error": {"message": "m m", "code": 429}}, "429", ["m m"]),
        ({"error": {"message": "m m", "code": "all about ann"}}, "error", ["m m"]),
        ({"error": "m m"}, "error", ["m m"]),
        ({"object": "error", "message": "m m", "code": 400}, "400", ["m m"]),
        ({"detail": "Not Found"}, "error", ["Not Found"]),
        ({"error": None}, "", []),
        ({}, "", []),
    ],
)
def test_errors(body, error, texts):
    reader = Reader()
    assert error_of(reader, body) == error
    assert [part.content for part in reader.parts] == texts


def test_usage_in_the_terms_of_openai():
    whole = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
    assert usage_of(whole) == Usage(9, 4, 8, None)
    assert usage_of({"prompt_tokens": "9", "completion_tokens": True, "prompt_tokens_details": 1}) == Usage()
    assert usage_of(None) is None


def test_names():
    assert all(is_name(name) for name in ("get_weather", "#/$defs/a", "https://json-schema.org/draft", "gpt-4.1"))
    assert not any(is_name(name) for name in ("", "two words", "x" * 129, "naïve", "line\n"))


def test_embeddings_and_moderations_have_no_stream():
    for name in ("openai.embeddings", "openai.moderations"):
        with pytest.raises(DialectError, match="no stream"):
            FAMILY[name].event(Frame({}))
        assert FAMILY[name].ending([], "x") == []
        assert FAMILY[name].response(FAMILY[name].refusal(Body(), "It stops here.")).error == "content_filter"
