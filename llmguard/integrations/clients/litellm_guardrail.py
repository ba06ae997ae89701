"""A guardrail for litellm's proxy: named in its configuration, it guards what passes there.

::

    guardrails:
      - guardrail_name: llmguard
        litellm_params:
          guardrail: llmguard.integrations.clients.litellm_guardrail.LlmGuardrail
          mode: [pre_call, post_call]
          default_on: true
          policy: policy.yaml

Follows https://docs.litellm.ai/docs/proxy/guardrails/custom_guardrail. With both modes, values that were taken out of a
request come back in its answer.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple, NoReturn

from litellm.integrations.custom_guardrail import CustomGuardrail

from llmguard.dialects import strict
from llmguard.errors import Blocked, ConfigurationError, DialectError
from llmguard.guard import Guard
from llmguard.integrations.clients import conduct
from llmguard.integrations.clients.json_view import merged, view
from llmguard.integrations.clients.litellm import BESIDE, DIALECTS, speaking, way_of
from llmguard.integrations.clients.value_events import AsyncEvents
from llmguard.integrations.exchange import Exchange
from llmguard.types import Decision
from llmguard.waiting import adrive

_KINDS = {name: name for name in DIALECTS} | {f"a{name}": name for name in DIALECTS} | {"embeddings": "embedding"}
_TOKEN = "llmguard_call"  # noqa: S105 - the name of a key
_TEXTS = frozenset({"messages", "prompt", "input", "instructions", "tools", "functions", "suffix", "response_format"})
_PROXY = frozenset({"proxy_server_request", "secret_fields", "guardrails", "provider_config", "model_info"})
#: Calls whose answers are waited for; the oldest are given up beyond it.
_OPEN = 10_000


class _Open(NamedTuple):
    """A call between its request and its answer."""

    kind: str
    exchange: Exchange
    stack: ExitStack


class LlmGuardrail(CustomGuardrail):  # type: ignore[misc, unused-ignore]
    """Guards the calls of litellm's proxy.

    Args:
        policy: path of the policy; by default the preset ``default``.
        guard: a guard in place of a policy.
        unmatched: what happens to calls in no format that is read: ``refuse`` or ``pass``.
        options: litellm's own.

    Raises:
        ConfigurationError: the policy is broken, or it retries or falls back, which a hook of the proxy can't.
    """

    def __init__(
        self,
        policy: str | None = None,
        *,
        guard: Guard | None = None,
        unmatched: Literal["refuse", "pass"] = "refuse",
        **options: Any,
    ) -> None:
        if unmatched not in ("refuse", "pass"):
            raise ConfigurationError(f"unmatched must be 'refuse' or 'pass', not {unmatched!r}")
        self._guard = guard if guard is not None else Guard(policy)
        if self._guard.policy.falls_back or self._guard.policy.retries:
            raise ConfigurationError(
                "in litellm's proxy a policy can raise or reply: litellm itself retries and falls back"
            )
        self._unmatched = unmatched
        self._calls: OrderedDict[str, _Open] = OrderedDict()
        super().__init__(**options)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> Any:
        """The request as it may go on, or the policy's reply."""
        kind = _KINDS.get(call_type)
        if kind is None:
            if self._unmatched == "refuse":
                _refuse(f"calls of type {call_type!r} are not guarded")
            return data
        if speaking(data.get("fallbacks")) or data.get("prompt_variables") or data.get("extra_body"):
            _refuse("fallbacks with messages of their own, prompt_variables and extra_body are not guarded")
        body = {key: value for key, value in data.items() if _is_of_the_call(key, value)}
        call = self._opened(kind)
        try:
            sent = view(body)
            cleared = await adrive(call.exchange.request(sent))
        except (DialectError, TypeError) as error:
            call.stack.close()
            _refuse(str(error))
        except BaseException:
            call.stack.close()
            raise
        if cleared.blocked is not None:
            call.stack.close()
            return self._reply(kind, cleared.blocked)
        if cleared.data is not sent:
            data.update(merged(body, call.exchange.sent, strict.parse(cleared.data, surrogates=True)))
        self._keep(data, call)
        return data

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: Any, response: Any) -> Any:
        """The answer as it may go to the caller."""
        call = self._found(data, response)
        if call is None:
            return response
        with call.stack:
            way = way_of(call.kind, self._guard, None, streams=False)
            try:
                before = view(way.read(response))
                cleared = await adrive(call.exchange.response(before))
            except (DialectError, TypeError) as error:
                _refuse(f"the answer can't be read: {error}", 502)
            if cleared.blocked is not None:
                reply = self._reply(call.kind, cleared.blocked)
                return way.build(way.dialect.refusal(call.exchange.asked, reply, call.exchange.sent))
            if cleared.data is before:
                return response
            old, new = [strict.parse(one, surrogates=True) for one in (before, cleared.data)]
            return way.build(merged(response, old, new))

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """The events of a streamed answer as they may go to the caller."""
        call = self._found(request_data, None)
        if call is None:
            async for event in response:
                yield event
            return
        with call.stack:
            way = way_of(call.kind, self._guard, None, streams=True)
            try:
                async with AsyncEvents(conduct.answered(way, call.exchange), lambda _: response) as events:
                    async for event in events:
                        yield event
            except Blocked as blocked:
                _refuse(str(blocked), 400)

    async def async_post_call_failure_hook(
        self, request_data: dict[str, Any], original_exception: Exception, user_api_key_dict: Any, *_: Any, **__: Any
    ) -> None:
        """The call failed: nothing of it is kept."""
        call = self._taken(request_data)
        if call is not None:
            call.stack.close()

    def _opened(self, kind: str) -> _Open:
        stack = ExitStack()
        checks = stack.enter_context(self._guard.call_scope())
        return _Open(kind, Exchange(DIALECTS[kind], {}, checks, self._guard.vault), stack)

    def _keep(self, data: dict[str, Any], call: _Open) -> None:
        # A name of our own: those that callers can choose would let one have another's values restored.
        token = secrets.token_hex(16)
        data["metadata"] = {**(data.get("metadata") or {}), _TOKEN: token}
        self._calls[token] = call
        while len(self._calls) > _OPEN:
            self._calls.popitem(last=False)[1].stack.close()

    def _taken(self, data: dict[str, Any]) -> _Open | None:
        for key in ("metadata", "litellm_metadata"):
            told = data.get(key)
            token = told.get(_TOKEN) if isinstance(told, dict) else None
            if isinstance(token, str) and token in self._calls:
                return self._calls.pop(token)
        return None

    def _found(self, data: dict[str, Any], response: Any) -> _Open | None:
        """The call that an answer belongs to; one of its own where the request was not looked at here."""
        call = self._taken(data)
        if call is not None:
            return call
        kind = "completion" if "messages" in data else "responses" if "input" in data else "text_completion"
        words = {"EmbeddingResponse": "embedding", "ModerationCreateResponse": "moderation"}
        return self._opened(words.get(type(response).__name__, kind))

    def _reply(self, kind: str, decision: Decision) -> str:
        reply = self._guard.policy.reply
        if reply is None or kind not in ("completion", "text_completion", "responses"):
            _refuse(str(Blocked(decision)))
        return reply


def _is_of_the_call(key: str, value: Any) -> bool:
    """Whether a member of the proxy's data was in the request, and not put there by the proxy for itself."""
    if key in _TEXTS:
        return True
    if key in BESIDE or key in _PROXY or key.startswith(("litellm_", "user_api_key")):
        return False
    return value is None or isinstance(value, (str, int, float, bool, list, tuple, dict))


def _refuse(problem: str, status: int = 400) -> NoReturn:
    """An error of HTTP, as the proxy's own guardrails raise it."""
    try:
        from fastapi import HTTPException
    except ImportError:
        raise ConfigurationError(problem) from None
    raise HTTPException(status, {"error": {"message": problem, "type": "content_filter", "code": "content_filter"}})
