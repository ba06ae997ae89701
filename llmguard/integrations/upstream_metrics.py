"""The figures of model servers that dashboards are made of, picked out of their page and added to ours."""

from __future__ import annotations

import re

#: vLLM, Text Generation Inference, Triton.
_NAMED = re.compile(rb"(?:# (?:HELP|TYPE|UNIT) )?(?:vllm:|vllm_|tgi_|nv_)[\w:]*[ {].*", re.ASCII)


def passed_on(page: bytes) -> bytes:
    """The lines of a page in Prometheus' text format that are about one of those servers' own figures."""
    lines = [line for line in page.split(b"\n") if _NAMED.fullmatch(line.rstrip(b"\r")) is not None]
    return b"".join([line.rstrip(b"\r") + b"\n" for line in lines])
