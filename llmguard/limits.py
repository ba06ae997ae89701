"""What a run is bound by: until when its answer is of use, and on whose behalf it is made.

The pipeline says it around every detector that runs on a worker; the batching of models reads it. Detectors
need not know that there is such a thing.
"""

from __future__ import annotations

from contextvars import ContextVar

deadline: ContextVar[float | None] = ContextVar("llmguard_deadline", default=None)
"""When the answer must be there, in ``time.monotonic`` seconds; None when nobody waits for long."""

tenant: ContextVar[str] = ContextVar("llmguard_tenant", default="")
"""Whose texts these are: tenants take turns at a model that many want."""
