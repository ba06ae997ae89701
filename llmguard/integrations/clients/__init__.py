"""Clients of models, guarded: one file a package, found by the module of the client's class."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from llmguard.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from llmguard.guard import Guard

C = TypeVar("C")

#: The file for each package.
_FILES = {
    "openai": "stainless",
    "anthropic": "stainless",
    "ollama": "ollama",
    "google": "genai",
    "httpx": "http_client",
    "httpx2": "http_client",
    "huggingface_hub": "huggingface",
    "litellm": "litellm",
    "llama_cpp": "llama_cpp",
    "langchain_core": "langchain",
    "agents": "openai_agents",
    "pydantic_ai": "pydantic_ai",
    "tritonclient": "triton",
    "vllm": "vllm",
}


def wrap(client: C, guard: Guard, **options: Any) -> C:
    """See `Guard.wrap`."""
    package = _package(client)
    name = _FILES.get(package, "callables" if callable(client) and not isinstance(client, type) else None)
    if name is None:
        raise ConfigurationError(
            f"{package or type(client).__name__!r} is no client that llmguard knows{nearest(package, _FILES)}: guard "
            "the function that calls it (@guard), or put the proxy in front of the server (llmguard serve)"
        )
    made: C = importlib.import_module(f"llmguard.integrations.clients.{name}").wrap(client, guard, **options)
    return made


def _package(client: object) -> str:
    """The package of the client: of its class or the nearest of those that it derives from, or of the module itself."""
    if isinstance(client, ModuleType):
        return client.__name__.partition(".")[0]
    packages = [kind.__module__.partition(".")[0] for kind in type(client).__mro__]
    return next((package for package in packages if package in _FILES), packages[0])
