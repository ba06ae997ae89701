"""Bedrock's Converse; shapes from https://docs.aws.amazon.com/bedrock/latest/APIReference/, values ours."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_samples import frames, load

from llmguard.dialects import registry
from llmguard.dialects.bedrock_converse import CONVERSE
from llmguard.dialects.wire import Body, Delta, Frame, Framing, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

SAMPLE = load("bedrock.converse")


def _parts(body: Body) -> list[tuple[str, str, str, str]]:
    return [(str(part.stage), str(part.role), part.path, part.content) for part in body.parts]


@pytest.mark.parametrize(
    ("block", "parts", "uncovered"),
    [
        ({"text": "a"}, [("input", "user", "/text", "a")], []),
        ({"image": {"format": "png", "source": {"bytes": "x"}}}, [], ["/image"]),
        (
            {"document": {"name": "a", "format": "txt", "context": "b", "source": {"text": "c"}}},
            [
                ("context", "retrieval", "/document/name", "a"),
                ("context", "retrieval", "/document/context", "b"),
                ("context", "retrieval", "/document/source/text", "c"),
            ],
            [],
        ),
        (
            {"document": {"name": "a", "source": {"bytes": "x"}}},
            [("context", "retrieval", "/document/name", "a")],
            ["/document/source/bytes"],
        ),
        (
            {"toolUse": {"toolUseId": "t", "name": "f", "input": {"to": ["a"]}}},
            [("tool_call", "assistant", "/toolUse/input/to/0", "a")],
            [],
        ),
        (
            {"toolResult": {"toolUseId": "t", "content": [{"json": {"a": "b"}}, {"text": "c"}, {"video": {"x": "y"}}]}},
            [
                ("tool_result", "tool", "/toolResult/content/0/json/a", "b"),
                ("tool_result", "tool", "/toolResult/content/1/text", "c"),
            ],
            ["/toolResult/content/2/video"],
        ),
        (
            {"reasoningContent": {"reasoningText": {"text": "a", "signature": "s"}}},
            [("input", "user", "/reasoningContent/reasoningText/text", "a")],
            [],
        ),
        ({"reasoningContent": {"redactedContent": "x"}}, [], ["/reasoningContent/redactedContent"]),
        ({"guardContent": {"text": {"text": "a"}}}, [("input", "user", "/guardContent/text/text", "a")], []),
        (
            {"guardContent": {"text": {"text": "a", "qualifiers": ["grounding_source"]}}},
            [("context", "retrieval", "/guardContent/text/text", "a")],
            [],
        ),
        (
            {"searchResult": {"source": "a", "title": "b", "content": [{"text": "c"}]}},
            [
                ("context", "retrieval", "/searchResult/source", "a"),
                ("context", "retrieval", "/searchResult/title", "b"),
                ("context", "retrieval", "/searchResult/content/0/text", "c"),
            ],
            [],
        ),
        ({"cachePoint": {"type": "default"}}, [], []),
        ({"somethingNew": {"words": "a"}}, [], ["/somethingNew/words"]),
    ],
)
def test_blocks(block: Any, parts: list[tuple[str, str, str, str]], uncovered: list[str]) -> None:
    said = CONVERSE.request({"messages": [{"role": "user", "content": [block]}]}, {})
    where = "/messages/0/content/0"
    assert _parts(said) == [(stage, role, where + path, text) for stage, role, path, text in parts]
    assert list(said.uncovered) == [where + path for path in uncovered]


def test_a_request() -> None:
    body = SAMPLE["requests"][0]["body"]
    found = registry.find(*SAMPLE["requests"][0]["route"].split(" "), (CONVERSE,))
    assert found is not None
    said = CONVERSE.request(body, found.segments)
    texts = {part.path: (part.stage, part.role, part.content) for part in said.parts}
    assert texts["/system/1/guardContent/text/text"][:2] == (Stage.INPUT, Role.SYSTEM)
    assert texts["/toolConfig/tools/0/toolSpec/description"][:2] == (Stage.INPUT, Role.SYSTEM)
    assert texts["/outputConfig/textFormat/structure/jsonSchema/schema#/description"][2] == "All hours"
    assert texts["/promptVariables/customer/text"] == (Stage.INPUT, Role.USER, "Ann")
    assert texts["/inferenceConfig/stopSequences/0"][2] == "END OF LETTER"
    assert "/additionalModelRequestFields/prefix" in said.uncovered
    assert said.model == "anthropic.claude-sonnet-5-v1:0"


def test_a_response() -> None:
    said = CONVERSE.response(SAMPLE["responses"][0]["body"])
    texts = {part.path: (part.stage, part.role, part.content) for part in said.parts}
    where = "/output/message/content"
    assert texts[f"{where}/2/text"] == (Stage.OUTPUT, Role.ASSISTANT, "We open at nine.")
    assert texts[f"{where}/4/citationsContent/citations/0/sourceContent/0/text"][:2] == (Stage.OUTPUT, Role.RETRIEVAL)
    assert texts["/trace/guardrail/modelOutput/0"][:2] == (Stage.OUTPUT, Role.ASSISTANT)
    assert said.usage == Usage(input=89, output=11, cached=64)
    assert said.finish == ("tool_use",)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_stream_as_frames_and_as_the_sdk_gives_it(wrapped: bool) -> None:
    assert CONVERSE.framing is Framing.AWS
    texts: dict[str, str] = {}
    for frame in frames(SAMPLE["streams"][0]):
        event = CONVERSE.event(Frame({frame.name: frame.data}) if wrapped else frame)
        for delta in event.deltas:
            assert delta.path.startswith(f"/{frame.name}/delta/" if wrapped else "/delta/")
            texts[delta.channel] = texts.get(delta.channel, "") + delta.content
    assert texts == {
        "0/reasoning": "They want the hours.",
        "1/text": "We open at nine.",
        "2/input": '{"to":"ann@shop.example"}',
        "3/result": "sent",
    }
    assert event.last
    assert event.usage == Usage(input=89, output=11, cached=64)


def test_a_piece_of_a_call() -> None:
    data = {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"to'}}, "p": "abc"}
    assert CONVERSE.event(Frame(data, "contentBlockDelta")).deltas == (
        Delta("2/input", Stage.TOOL_CALL, Role.ASSISTANT, "/delta/toolUse/input", '{"to', json=True),
    )
    assert CONVERSE.event(Frame({"contentBlockIndex": 2}, "contentBlockStop")).ends == ("2/",)


def test_an_exception_ends_a_stream() -> None:
    said = CONVERSE.event(Frame({"message": "It broke down."}, "modelStreamErrorException"))
    assert (said.error, said.last) == ("modelStreamErrorException", True)
    assert [part.path for part in said.parts] == ["/message"]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"messages": {}},
        {"messages": [1]},
        {"messages": [{"role": "user", "content": "a secret"}]},
        {"messages": [{"role": "user", "content": [{"text": ["a secret"]}]}]},
        {"messages": [{"role": "user", "content": [{"Text": "a secret"}]}]},
        {"Messages": []},
    ],
)
def test_what_is_refused(body: Any) -> None:
    with pytest.raises(DialectError) as caught:
        CONVERSE.request(body, {})
    assert "secret" not in str(caught.value)


def test_an_ending_closes_what_is_open() -> None:
    made = CONVERSE.ending(frames(SAMPLE["streams"][0])[:2], "Not that.")
    assert [(frame.name, frame.data.get("contentBlockIndex")) for frame in made] == [
        ("contentBlockStop", 0),
        ("contentBlockDelta", 1),
        ("contentBlockStop", 1),
        ("messageStop", None),
        ("metadata", None),
    ]
    assert [frame.name for frame in CONVERSE.ending([], "")] == ["messageStart", "messageStop", "metadata"]
    assert [frame.name for frame in CONVERSE.ending(frames(SAMPLE["streams"][0])[:-1], "Not that.")] == ["metadata"]
    assert CONVERSE.ending(frames(SAMPLE["streams"][0]), "Not that.") == []


def test_amazons_own_model_of_the_format_takes_what_we_make() -> None:
    pytest.importorskip("botocore", reason="botocore is not installed")
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    service = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
    answer = service.operation_model("Converse").output_shape
    events = service.operation_model("ConverseStream").output_shape.members["stream"].members

    def check(value: Any, shape: Any) -> None:
        report = ParamValidator().validate(value, shape)
        assert not report.has_errors(), report.generate_report()

    check(CONVERSE.refusal(Body(), "Not that."), answer)
    for length in range(len(SAMPLE["streams"][0]["frames"])):
        for text in ("Not that.", ""):
            for frame in CONVERSE.ending(frames(SAMPLE["streams"][0])[:length], text):
                check(frame.data, events[frame.name])
