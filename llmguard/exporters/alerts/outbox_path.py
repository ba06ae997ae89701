"""Where the outbox of a policy lies unless it says so."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from llmguard.errors import ConfigurationError

_other = re.compile(r"[^A-Za-z0-9._-]+")


def outbox_path(named: str | None, policy: str) -> Path:
    """The file of a policy's outbox.

    Args:
        named: as the policy has it; a relative path counts from the working directory.
        policy: its name. Without a path, each has a file of its own in ``$XDG_STATE_HOME/llmguard``, or
            ``~/.local/state/llmguard`` where that is not set (XDG Base Directory Specification 0.8).

    Raises:
        ConfigurationError: there is no home directory to put it into.
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    try:
        if named:
            return Path(named).expanduser()
        state = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        raise ConfigurationError(
            "nobody knows where the home directory is: say where the outbox of alerts is to lie (alerts: outbox: PATH)"
        ) from None
    plain = _other.sub("-", policy).strip(".-")[:64]
    if plain != policy:  # two names must not share a file
        plain = f"{plain}-{hashlib.sha256(policy.encode('utf-8', 'replace')).hexdigest()[:8]}".lstrip("-")
    return state / "llmguard" / f"{plain}.alerts.sqlite"
