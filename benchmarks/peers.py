"""Peers that are measured beside us in the same run, where they are installed."""

from __future__ import annotations

import os
from collections.abc import Callable

_PATTERNS = ("email", "us_ssn", "us_phone", "visa", "mastercard", "amex", "ipv4", "aws_access_key", "github_token")


def litellm_filter() -> Callable[[str], str] | None:
    """LiteLLM's content filter, masking the kinds that the ten findings are of; None when it is not installed."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        from litellm.proxy.guardrails.guardrail_hooks.litellm_content_filter.content_filter import (
            ContentFilterGuardrail,
        )
        from litellm.types.guardrails import ContentFilterAction, ContentFilterPattern
    except ImportError:
        return None
    patterns = [
        ContentFilterPattern(pattern_type="prebuilt", pattern_name=name, action=ContentFilterAction.MASK)
        for name in _PATTERNS
    ]
    guardrail = ContentFilterGuardrail(guardrail_name="peer", patterns=patterns)
    return guardrail._filter_single_text  # type: ignore[no-any-return]  # noqa: SLF001 - its async face adds to it
