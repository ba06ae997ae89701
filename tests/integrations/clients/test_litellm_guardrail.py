"""The guardrail for litellm's proxy, driven by its hooks as the proxy drives them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes import Pieces, Words

from llmguard import ConfigurationError, Guard

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic"),
]

RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
]


@pytest.fixture(scope="module")
def kit() -> Any:
    """The module, litellm, and the error that refuses."""
    import os
    import warnings

    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or it asks the network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litellm = pytest.importorskip("litellm")
        fastapi = pytest.importorskip("fastapi")
        from llmguard.integrations.clients import litellm_guardrail
    return litellm_guardrail, litellm, fastapi.HTTPException


def guard_of(**policy: Any) -> Guard:
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Words("words", "bad", "worse")])


def request(text: str, **more: Any) -> dict[str, Any]:
    own = {"proxy_server_request": {"body": object()}, "litellm_logging_obj": object(), "metadata": {"user": object()}}
    return {"model": "m", "messages": [{"role": "user", "content": text}], **own, **more}


def answer(litellm: Any, text: str) -> Any:
    message = {"role": "assistant", "content": text}
    return litellm.ModelResponse(choices=[{"index": 0, "message": message, "finish_reason": "stop"}], model="m")


async def chunks(litellm: Any, *words: str) -> AsyncIterator[Any]:
    from litellm.types.utils import ModelResponseStream

    for word in words:
        choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
        yield ModelResponseStream(id="1", model="m", choices=[choice])
    yield ModelResponseStream(id="1", model="m", choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])


async def test_a_call_is_cleared_and_its_own_values_come_back(kit: Any) -> None:
    module, litellm, _ = kit
    with guard_of() as guard:
        hook = module.LlmGuardrail(guard=guard, guardrail_name="g", event_hook="pre_call", default_on=True)
        data = await hook.async_pre_call_hook(None, None, request("a bad thing"), "acompletion")
        assert data["messages"][0]["content"] == "a <BAD_1> thing"
        got = await hook.async_post_call_success_hook(data, None, answer(litellm, "you said <BAD_1>"))
        assert got.choices[0].message.content == "you said bad"
        # The call is over: the same name means nothing to the next one.
        data = await hook.async_pre_call_hook(None, None, request("hi"), "completion")
        got = await hook.async_post_call_success_hook(data, None, answer(litellm, "you said <BAD_1>"))
        assert got.choices[0].message.content == "you said <BAD_1>"
        assert not hook._calls


async def test_what_is_blocked_is_refused_or_replied_to(kit: Any) -> None:
    module, litellm, error = kit
    with guard_of() as guard:
        hook = module.LlmGuardrail(guard=guard)
        with pytest.raises(error) as refused:
            await hook.async_pre_call_hook(None, None, request("worse"), "completion")
        assert refused.value.status_code == 400
        assert "a worse" not in str(refused.value.detail)
        data = await hook.async_pre_call_hook(None, None, request("hi"), "completion")
        with pytest.raises(error):
            await hook.async_post_call_success_hook(data, None, answer(litellm, "worse"))
    with guard_of(on_block={"reply": "No."}) as guard:
        hook = module.LlmGuardrail(guard=guard)
        assert await hook.async_pre_call_hook(None, None, request("worse"), "completion") == "No."
        data = await hook.async_pre_call_hook(None, None, request("hi"), "completion")
        got = await hook.async_post_call_success_hook(data, None, answer(litellm, "worse"))
        assert got.choices[0].message.content == "No."
        assert not hook._calls


async def test_streams_are_cleared(kit: Any) -> None:
    module, litellm, error = kit
    rules = [
        {"detector": "pieces", "categories": ["PIECE"], "action": "redact"},
        {"detector": "pieces", "categories": ["LONG"], "action": "block"},
    ]
    with Guard({"name": "p", "rules": rules}, detectors=[Pieces()]) as guard:
        hook = module.LlmGuardrail(guard=guard)

        async def read(*words: str, asked: str = "hi") -> str:
            data = await hook.async_pre_call_hook(None, None, request(asked, stream=True), "acompletion")
            events = hook.async_post_call_streaming_iterator_hook(None, chunks(litellm, *words), data)
            return "".join([event.choices[0].delta.content or "" async for event in events])

        assert await read("see a", "b", "c now") == "see <PIECE_1> now"
        assert await read("see <PIE", "CE_1> now", asked="abc") == "see abc now"
        with pytest.raises(error):
            await read("so ", "abbc")
        assert not hook._calls


async def test_calls_in_other_formats_are_refused_unless_told_otherwise(kit: Any) -> None:
    module, _, error = kit
    with guard_of() as guard:
        with pytest.raises(error, match="image_generation"):
            await module.LlmGuardrail(guard=guard).async_pre_call_hook(None, None, {"prompt": "x"}, "image_generation")
        data = {"prompt": "x"}
        hook = module.LlmGuardrail(guard=guard, unmatched="pass")
        assert await hook.async_pre_call_hook(None, None, data, "image_generation") is data


async def test_answers_to_requests_that_were_not_looked_at_are_looked_at(kit: Any) -> None:
    module, litellm, _ = kit
    with guard_of() as guard:
        hook = module.LlmGuardrail(guard=guard)
        got = await hook.async_post_call_success_hook(request("hi"), None, answer(litellm, "a bad answer"))
        assert got.choices[0].message.content == "a <BAD_1> answer"


async def test_a_failed_call_is_forgotten_and_so_are_too_many(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, _ = kit
    with guard_of() as guard:
        hook = module.LlmGuardrail(guard=guard)
        data = await hook.async_pre_call_hook(None, None, request("hi"), "completion")
        await hook.async_post_call_failure_hook(data, RuntimeError(), None)
        assert not hook._calls
        monkeypatch.setattr(module, "_OPEN", 2)
        for _ in range(5):
            await hook.async_pre_call_hook(None, None, request("hi"), "completion")
        assert len(hook._calls) == 2


def test_policies_that_a_hook_can_not_carry_out_are_refused(kit: Any) -> None:
    module, _, _ = kit
    for policy in ({"on_block": {"retry": 1}}, {"on_block": "fallback"}):
        with guard_of(**policy) as guard, pytest.raises(ConfigurationError, match="litellm itself"):
            module.LlmGuardrail(guard=guard)
