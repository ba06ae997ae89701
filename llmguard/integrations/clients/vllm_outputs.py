"""vLLM's ``RequestOutput``s as JSON of OpenAI's formats, and with other texts; whole, in pieces, and growing.

What says a changed text once more, tokens and log probabilities, is taken out.
"""

from __future__ import annotations

import copy
from typing import Any

from llmguard.dialects.wire import Json

_DELTA = 1  # of vLLM's RequestOutputKind


def seen_text(output: Any) -> Json:
    """A whole output, as a completion."""
    choices = [{"index": one.index, "text": one.text, "finish_reason": _reason(one)} for one in output.outputs]
    return {"choices": choices}


def seen_chat(output: Any) -> Json:
    """A whole output, as a chat completion."""
    choices = [
        {"index": one.index, "message": {"role": "assistant", "content": one.text}, "finish_reason": _reason(one)}
        for one in output.outputs
    ]
    return {"choices": choices}


def answer_of(value: Json, output: Any) -> Any:
    """An output with other texts, or one of our own.

    Args:
        value: as `seen_text` or `seen_chat` give it, or a refusal.
        output: what was looked at; None where there was no answer.
    """
    texts = [choice["text"] if "text" in choice else choice["message"]["content"] for choice in value["choices"]]
    if output is None:
        return _made(texts[0])
    if "id" in value:  # a refusal, which says one text
        outputs = [_with(one, texts[0], "content_filter") for one in output.outputs]
    else:
        pairs = zip(output.outputs, texts, strict=True)
        outputs = [one if one.text == text else _with(one, text, one.finish_reason) for one, text in pairs]
    return _copied(output, outputs)


class Growth:
    """The outputs of one stream: what each says that is new, and what goes out of all of it.

    Args:
        sampling_params: of the call; they say whether an output holds what is new, or all of the text so far.
    """

    def __init__(self, sampling_params: Any) -> None:
        kind = getattr(sampling_params, "output_kind", 0)
        self._pieces = getattr(kind, "value", kind) == _DELTA
        self._came: dict[int, str] = {}
        self._out: dict[int, str] = {}
        self._views: dict[int, Json] = {}
        self._last: Any = None

    def restart(self) -> None:
        """The call is made once more."""
        self._came.clear()
        self._views.clear()

    def read(self, output: Any) -> Json:
        """What an output says that is new."""
        choices = []
        for one in output.outputs:
            before = "" if self._pieces else self._came.get(one.index, "")
            self._came[one.index] = one.text
            choices.append({"index": one.index, "text": one.text.removeprefix(before), "finish_reason": _reason(one)})
        view = {"choices": choices}
        self._views[id(output)] = view
        self._last = output
        return view

    def written(self, event: Any) -> Any:
        """An output as it may go out: one that came, or one made of the JSON of an event."""
        if not isinstance(event, dict):
            if not hasattr(event, "outputs"):
                return event  # a fallback's own
            return self._grown(self._views.pop(id(event), {"choices": []}), event)
        return self._grown(event, self._last)

    def _grown(self, view: Json, output: Any) -> Any:
        said = {choice["index"]: choice for choice in view["choices"]}
        for index, choice in said.items():
            self._out[index] = self._out.get(index, "") + choice["text"]
        if output is None:
            return _made("".join([choice["text"] for choice in said.values()]))
        outputs = []
        for one in output.outputs:
            choice = said.get(one.index, {"text": "", "finish_reason": None})
            text = choice["text"] if self._pieces else self._out.get(one.index, "")
            reason = choice["finish_reason"]
            outputs.append(one if one.text == text and _reason(one) == reason else _with(one, text, reason))
        if all([new is old for new, old in zip(outputs, output.outputs, strict=True)]):
            return output
        made = _copied(output, outputs)
        made.finished = all([one.finish_reason is not None for one in outputs])
        return made


def _reason(output: Any) -> str | None:
    return str(output.finish_reason) if output.finish_reason is not None else None


def _with(one: Any, text: str, reason: Any) -> Any:
    new = copy.copy(one)
    new.text, new.finish_reason = text, reason
    new.token_ids, new.logprobs, new.cumulative_logprob = [], None, None
    return new


def _copied(output: Any, outputs: list[Any]) -> Any:
    made = copy.copy(output)
    made.outputs = outputs
    return made


def _made(text: str) -> Any:
    """An output where the engine was never asked."""
    from vllm.outputs import CompletionOutput, RequestOutput

    one = CompletionOutput(
        index=0, text=text, token_ids=[], cumulative_logprob=None, logprobs=None, finish_reason="content_filter"
    )
    return RequestOutput(
        request_id="llmguard", prompt=None, prompt_token_ids=[], prompt_logprobs=None, outputs=[one], finished=True
    )
