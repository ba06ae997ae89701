"""The ``InferenceClient`` of huggingface_hub, sync and async: Text Generation Inference, and the tasks that are texts.

Follows https://huggingface.co/docs/huggingface_hub/package_reference/inference_client. Chats and text generation are
guarded as the wire formats that they become; of the other tasks those below. A task that is not among them is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from llmguard.dialects import openai_chat, tgi
from llmguard.guard import Guard
from llmguard.integrations.clients.arguments import named
from llmguard.integrations.clients.closed import Closed
from llmguard.integrations.clients.few_texts import CALLED, DOCUMENT, USER, FewTexts, wordless
from llmguard.integrations.clients.values import Fallback, Way, check_fallback

C = TypeVar("C")

MODULES = ("huggingface_hub",)

#: Tasks that answer with a text: the arguments that are texts with their roles, and the member that is the answer.
_WORDED: Mapping[str, tuple[Mapping[str, str], str]] = {
    "summarization": ({"text": USER}, "summary_text"),
    "translation": ({"text": USER}, "translation_text"),
    "question_answering": ({"question": USER, "context": DOCUMENT}, "answer"),
    "visual_question_answering": ({"question": USER}, "answer"),
    "document_question_answering": ({"question": USER}, "answer"),
    "fill_mask": ({"text": USER}, "sequence"),
    "image_to_text": ({}, "generated_text"),
    "automatic_speech_recognition": ({}, "text"),
}
#: Tasks that answer with vectors, labels, images or speech: the arguments that are texts, or lists of texts.
_WORDLESS: Mapping[str, tuple[str, ...]] = {
    "feature_extraction": ("text",),
    "sentence_similarity": ("sentence", "other_sentences"),
    "text_classification": ("text",),
    "token_classification": ("text",),
    "zero_shot_classification": ("text", "candidate_labels", "hypothesis_template"),
    "text_to_image": ("prompt", "negative_prompt"),
    "text_to_video": ("prompt", "negative_prompt"),
    "text_to_speech": ("text",),
    "image_to_image": ("prompt", "negative_prompt"),
    "image_to_video": ("prompt", "negative_prompt"),
    "zero_shot_image_classification": ("candidate_labels", "hypothesis_template"),
}
_PLACES = frozenset({"model", "details"})  # arguments of text generation that are no parameters of the format


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None) -> C:
    """A client of the same type whose calls are guarded.

    Args:
        client: an ``InferenceClient`` or an ``AsyncInferenceClient``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so; gives a text, or the answer itself.

    Raises:
        ConfigurationError: the policy needs a fallback and none is given.
    """
    check_fallback(guard, fallback)
    made: Any = _Client(client, guard, fallback)
    return made  # type: ignore[no-any-return]


class _Client(Closed):
    passes: ClassVar[frozenset[str]] = frozenset(
        {"get_endpoint_info", "health_check", "close", "audio_classification", "audio_to_audio"}
        | {"image_classification", "image_segmentation", "object_detection"}
    )
    hint: ClassVar[str] = "chat_completion or text_generation"

    def __init__(self, client: Any, guard: Guard, fallback: Fallback | None) -> None:
        super().__init__(client)
        self._self_guard = guard
        self._self_fallback = fallback
        self._self_later = inspect.iscoroutinefunction(client.chat_completion)

    @property
    def chat(self) -> Any:
        """The spelling of OpenAI's client: ``chat.completions.create``."""
        return type(self.__wrapped__.chat)(self)

    def chat_completion(self, *args: Any, **kwargs: Any) -> Any:
        """A chat completion, whole or as a stream."""
        from huggingface_hub import ChatCompletionOutput, ChatCompletionStreamOutput

        method = self.__wrapped__.chat_completion
        body = named(method, args, kwargs)
        extra = body.pop("extra_body", None) or {}
        told = {"tool_prompt": body.pop("tool_prompt")} if body.get("tool_prompt") else {}
        streams = bool(body.get("stream"))

        def send(cleared: dict[str, Any]) -> Any:
            own = {key: value for key, value in cleared.items() if key in body}
            more = {key: value for key, value in cleared.items() if key in extra}
            template = dict(cleared.get("chat_template_kwargs", {}))
            said = {key: template.pop(key) for key in told}
            if told and "chat_template_kwargs" in more:
                more["chat_template_kwargs"] = template
            return method(**own, **said, **({"extra_body": more} if extra else {}))

        seen = {**body, **extra}
        if told:  # it is put into the template, for which vLLM's format has a place
            seen["chat_template_kwargs"] = {**(extra.get("chat_template_kwargs") or {}), **told}
        build = ChatCompletionStreamOutput if streams else ChatCompletionOutput
        way = Way(self._self_guard, openai_chat.CHAT, self._self_fallback, build.parse_obj_as_instance, **CALLED)
        return way.make(seen, send, later=self._self_later, streams=streams)

    def text_generation(self, *args: Any, **kwargs: Any) -> Any:
        """A continuation of a prompt: a string or with details, whole or as a stream."""
        method = self.__wrapped__.text_generation
        given = named(method, args, kwargs)
        prompt, streams = given.pop("prompt"), bool(given.pop("stream", None))
        own = {key: given.pop(key) for key in _PLACES & given.keys()}
        read, build = _generated(details=bool(own.get("details")), streams=streams)

        def send(cleared: dict[str, Any]) -> Any:
            return method(cleared["inputs"], stream=streams, **own, **cleared["parameters"])

        way = Way(self._self_guard, tgi.GENERATE, self._self_fallback, build, read, **CALLED)
        body = {"inputs": prompt, "parameters": given, "stream": streams}
        return way.make(body, send, later=self._self_later, streams=streams)

    def __getattr__(self, name: str) -> Any:
        if name in _WORDED:
            return lambda *args, **kwargs: self._worded(name, args, kwargs)
        if name in _WORDLESS:
            return lambda *args, **kwargs: self._wordless(name, args, kwargs)
        return super().__getattr__(name)

    def _worded(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        method = getattr(self.__wrapped__, name)
        given = named(method, args, kwargs)
        roles, member = _WORDED[name]
        keys = [key for key in roles if given.get(key) is not None]

        def put(answer: Any, texts: list[str]) -> Any:
            return _answer(name, member, answer, texts)

        few = FewTexts(self._self_guard, lambda answer: _said(answer, member), put, self._self_fallback)
        texts = [(roles[key], given[key]) for key in keys]

        def send(cleared: list[str]) -> Any:
            return method(**{**given, **dict(zip(keys, cleared, strict=True))})

        return few.make(texts, send, later=self._self_later, model=given.get("model") or "")

    def _wordless(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        method = getattr(self.__wrapped__, name)
        given = named(method, args, kwargs)
        keys = [key for key in _WORDLESS[name] if given.get(key) is not None]
        lists = {key: [given[key]] if isinstance(given[key], str) else list(given[key]) for key in keys}

        def send(cleared: list[str]) -> Any:
            rest = iter(cleared)
            new = {key: [next(rest) for _ in texts] for key, texts in lists.items()}
            return method(**{**given, **{k: t[0] if isinstance(given[k], str) else t for k, t in new.items()}})

        texts = [text for key in keys for text in lists[key]]
        return wordless(self._self_guard, texts, send, later=self._self_later, model=given.get("model") or "")


def _generated(*, details: bool, streams: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """What reads and makes the four kinds of answers of text generation."""
    from huggingface_hub import TextGenerationOutput, TextGenerationStreamOutput

    if details:
        kind = TextGenerationStreamOutput if streams else TextGenerationOutput
        return (lambda answer: answer), kind.parse_obj_as_instance
    if streams:
        token = {"id": 0, "logprob": 0.0, "special": False}
        return (lambda text: {"token": {**token, "text": text}}), (lambda event: event["token"]["text"])
    return (lambda text: {"generated_text": text}), (lambda answer: answer["generated_text"])


def _said(answer: Any, member: str) -> list[str]:
    """The texts of a task's answer, which may be a list."""
    answers = answer if isinstance(answer, list) else [answer]
    return [getattr(one, member) or "" for one in answers]


def _answer(name: str, member: str, answer: Any, texts: list[str]) -> Any:
    """A task's answer with other texts; one of our own where there was none."""
    import huggingface_hub

    if answer is None:
        words = "".join([word.capitalize() for word in name.split("_")])
        kind = getattr(huggingface_hub, f"{words}OutputElement", None) or getattr(huggingface_hub, f"{words}Output")
        listed = name in ("visual_question_answering", "document_question_answering", "fill_mask")
        made = kind.parse_obj_as_instance({**dict.fromkeys(kind.__dataclass_fields__), member: texts[0]})
        return [made] if listed else made
    answers = answer if isinstance(answer, list) else [answer]
    new = [
        type(one).parse_obj_as_instance({**_without_copies(one), member: text})
        for one, text in zip(answers, texts, strict=True)
    ]
    return new if isinstance(answer, list) else new[0]


def _without_copies(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer says beside its text, but for what says parts of that again."""
    return {key: value for key, value in answer.items() if key not in ("chunks", "token_str", "tokens")}
