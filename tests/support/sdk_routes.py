"""What the providers' packages say that goes over the guarded routes: bodies and events, by dialect."""

from __future__ import annotations

import functools
import importlib
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sdk_shapes import Shape, examples

from llmguard.dialects import registry
from llmguard.dialects.wire import Body, Event, Frame

#: The versions in which every member was looked at; with others the audit is skipped, and says so.
PACKAGES = {
    "openai": "3.54.0",
    "anthropic": "2.12.0",
    "google-genai": "3.4.0",
    "botocore": "1.44.5",
    "ollama": "0.6.3",
    "huggingface_hub": "2.4.0",
    "mcp": "2.3.0",
}


@dataclass(frozen=True)
class Said:
    """A body or an event of a route.

    Attributes:
        dialect: by its name.
        kind: request, response or event.
        name: of the type.
        make: its examples, with leaves.
    """

    dialect: str
    kind: str
    name: str
    make: Callable[[], Iterator[Any]]

    @functools.cached_property
    def made(self) -> list[Any]:
        """The examples."""
        return list(self.make())

    def __str__(self) -> str:
        return f"{self.dialect} {self.kind} {self.name}"

    def read(self, body: Any) -> Body | Event:
        """What the dialect says of one."""
        dialect = registry.get(self.dialect)
        if self.kind == "request":
            return dialect.request(body, {})
        if self.kind == "response":
            return dialect.response(body)
        name = body.get("type", "") if isinstance(body, dict) else ""
        return dialect.event(Frame(body, name if isinstance(name, str) else ""))


def installed(package: str) -> str:
    """The version that is installed, "" for none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@functools.cache
def routes(package: str) -> tuple[Said, ...]:
    """All that goes over the routes, as a package describes it."""
    return tuple(_PACKAGES[package]())


def _said(dialect: str, kind: str, shape: Any, name: str = "") -> Said:
    return Said(dialect, kind, name or shape.__name__, lambda: examples(shape))


def _of(package: str, dialect: str, *named: str) -> Iterator[Said]:
    """Types by ``kind module.name``."""
    for each in named:
        kind, path = each.split(" ")
        module, _, name = path.rpartition(".")
        where = importlib.import_module(f"{package}.{module}" if module else package)
        yield _said(dialect, kind, getattr(where, name), name)


def _openai() -> Iterator[Said]:
    of = functools.partial(_of, "openai.types")
    chats = "request chat.completion_create_params.CompletionCreateParamsNonStreaming"
    yield from of("openai.chat", chats, "response chat.ChatCompletion", "event chat.ChatCompletionChunk")
    completions = "request completion_create_params.CompletionCreateParamsNonStreaming"
    yield from of("openai.completions", completions, "response .Completion", "event .Completion")
    yield from of(
        "openai.embeddings",
        "request embedding_create_params.EmbeddingCreateParams",
        "response .CreateEmbeddingResponse",
    )
    yield from of(
        "openai.moderations",
        "request moderation_create_params.ModerationCreateParams",
        "response .ModerationCreateResponse",
    )
    yield from of(
        "openai.responses",
        "request responses.response_create_params.ResponseCreateParamsNonStreaming",
        "request responses.response_compact_params.ResponseCompactParams",
        "request responses.input_token_count_params.InputTokenCountParams",
        "response responses.Response",
        "response responses.CompactedResponse",
        "response responses.input_token_count_response.InputTokenCountResponse",
        "response responses.ResponseItemList",
        "event responses.ResponseStreamEvent",
    )


def _anthropic() -> Iterator[Said]:
    for at, beta in (("", ""), ("beta.", "Beta")):
        yield from _of(
            "anthropic.types",
            "anthropic.messages",
            f"request {at}message_create_params.MessageCreateParamsNonStreaming",
            f"request {at}message_count_tokens_params.MessageCountTokensParams",
            f"response {at}{'' if beta else '.'}{beta}Message",
            f"response {at}{'' if beta else '.'}{beta}MessageTokensCount",
            f"event {at}{'' if beta else '.'}{beta}RawMessageStreamEvent",
        )
    yield from _of("anthropic.types", "anthropic.messages", "response .ErrorResponse")


def _genai() -> Iterator[Said]:
    types = importlib.import_module("google.genai.types")
    # The package turns one flat configuration into this, the request as it goes over the wire.
    members = {
        "contents": list[types.Content],
        "systemInstruction": types.Content,
        "tools": list[types.Tool],
        "toolConfig": types.ToolConfig,
        "safetySettings": list[types.SafetySetting],
        "generationConfig": types.GenerationConfig,
        "labels": dict[str, str],
        "cachedContent": str,
        "modelArmorConfig": types.ModelArmorConfig,
    }
    request = typing.TypedDict("GenerateContentRequest", members)  # type: ignore[misc,operator]
    yield _said("gemini", "request", request)
    yield _said("gemini", "response", types.GenerateContentResponse)
    yield _said("gemini", "event", types.GenerateContentResponse)
    yield _said("gemini", "response", types.CountTokensResponse)


def _botocore() -> Iterator[Said]:
    loaders, model = importlib.import_module("botocore.loaders"), importlib.import_module("botocore.model")
    service = model.ServiceModel(loaders.Loader().load_service_model("bedrock-runtime", "service-2"))
    for name, whole in (("Converse", True), ("ConverseStream", False), ("CountTokens", True)):
        operation = service.operation_model(name)
        yield _said("bedrock.converse", "request", Shape(operation.input_shape), operation.input_shape.name)
        if whole:
            yield _said("bedrock.converse", "response", Shape(operation.output_shape), operation.output_shape.name)
    yield _said("bedrock.converse", "event", Shape(service.shape_for("ConverseStreamOutput")), "ConverseStreamOutput")


def _ollama() -> Iterator[Said]:
    for sort in ("Chat", "Generate"):
        answers = [f"{kind} _types.{sort}Response" for kind in ("response", "event")]
        yield from _of("ollama", f"ollama.{sort.lower()}", f"request _types.{sort}Request", *answers)


def _hub() -> Iterator[Said]:
    of = functools.partial(_of, "huggingface_hub.inference._generated.types")
    for dialect, sort in (
        ("tgi.generate", "text_generation.TextGeneration"),
        ("openai.chat", "chat_completion.ChatCompletion"),
    ):
        yield from of(dialect, f"request {sort}Input", f"response {sort}Output", f"event {sort}StreamOutput")


def _mcp() -> Iterator[Said]:
    types = importlib.import_module("mcp.types")
    for kind, name in (
        ("request", "ClientRequest"),
        ("request", "ClientNotification"),
        ("request", "ClientResult"),
        ("response", "ServerResult"),
        ("event", "ServerRequest"),
        ("event", "ServerNotification"),
        ("event", "ServerResult"),
    ):
        yield Said("mcp", kind, name, functools.partial(_messages, getattr(types, name), name.endswith("Result")))


def _messages(shape: Any, result: bool) -> Iterator[Any]:
    """Messages of JSON-RPC, which the package puts around its types."""
    for made in examples(shape):
        yield {"jsonrpc": "2.0", "id": 7, **({"result": made} if result else made)}


_PACKAGES: dict[str, Callable[[], Iterator[Said]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "google-genai": _genai,
    "botocore": _botocore,
    "ollama": _ollama,
    "huggingface_hub": _hub,
    "mcp": _mcp,
}
