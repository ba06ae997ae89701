"""As many open files as the calls of a server need, each of which has two connections."""

from __future__ import annotations

import typer

# Beside the calls' own: clients that wait or keep a connection, probes, libraries.
_BESIDE = 2_000


def more_files(calls: int) -> None:
    """Raises the limit of this process that most systems set low, to 1,024, and says where that can't be done.

    Args:
        calls: at a time.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    kind = resource.RLIMIT_NOFILE
    needed = 2 * calls + _BESIDE
    soft, hard = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(kind, (most, hard))
    except (ValueError, OSError):  # macOS has another limit behind this one
        most = soft
    if most < 2 * calls:
        told = f"{calls} calls at a time need {2 * calls}: raise the limit (ulimit -n), or lower --connections"
        typer.echo(f"llmguard: this process may have {most} open files, and {told}", err=True)
