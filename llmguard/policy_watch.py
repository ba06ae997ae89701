"""Follows a policy file, and those it extends: a good change is handed over, a broken one is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.policy import Policy

_DEBOUNCE_MS = 400
_STEP_MS = 50
#: File systems drop events (network mounts, full queues), so every so often the files are looked at anyway.
_LOOK_MS = 1_000


def watch(
    path: str | Path,
    on_change: Callable[[Policy], None],
    on_error: Callable[[ConfigurationError], None],
    *,
    current: Policy | None = None,
) -> Watcher:
    """Follow a policy file and the files that it extends.

    Args:
        path: of the policy file.
        on_change: called in the watching thread with a policy that says something else than the one before,
            and with the first good one after a broken one. It may refuse it by a ConfigurationError, which then
            goes to ``on_error``.
        on_error: called in the watching thread, once for each way in which the file is broken.
        current: the policy in force; without it the file is read now. What changed since it was read counts.

    Raises:
        ConfigurationError: there is no ``current``, and the file is broken.
        MissingExtraError: watchfiles is not installed.
    """
    try:
        import watchfiles  # noqa: F401 - found out here, not in the thread
    except ImportError:  # pragma: no cover - the tests have it
        raise MissingExtraError("following a policy file", "watchfiles", "reload") from None
    path = Path(path).absolute()
    return Watcher(path, on_change, on_error, Policy.load(path) if current is None else current)


class Watcher:
    """A daemon thread that follows a policy file until it is closed. Made by `watch`."""

    def __init__(
        self,
        path: Path,
        on_change: Callable[[Policy], None],
        on_error: Callable[[ConfigurationError], None],
        current: Policy,
    ) -> None:
        self._path = path
        self._on_change = on_change
        self._on_error = on_error
        self._hash = current.hash
        self._files = (path, *(file.absolute() for file in current.files))
        self._seen = b""
        self._trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmguard-policy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following: no callback begins after this, and none runs on, unless it is the one that closes."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look()
            folders = sorted({file.parent for file in self._files if file.parent.is_dir()})
            try:
                self._follow(folders)
            except (OSError, RuntimeError) as error:  # the folder is gone, or the system has no watches left
                self._tell(ConfigurationError(f"its folder can't be watched: {error}", source=str(self._path)))
                self._stop.wait(_LOOK_MS / 1000)

    def _follow(self, folders: list[Path]) -> None:
        """Look whenever something happens in one of the folders, as long as these are the right ones.

        Folders, since editors and Kubernetes replace a file by renaming others over it. What counts is
        what the files say, not which of them an event names.
        """
        from watchfiles import watch as events

        for _ in events(
            *folders,
            watch_filter=None,
            recursive=False,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
            raise_interrupt=False,
        ):
            self._look()
            if not {file.parent for file in self._files} <= set(folders):
                return

    def _look(self) -> None:
        seen = _digest(self._files)  # taken before the files are read: what changes meanwhile is seen next time
        if self._stop.is_set() or (seen == self._seen and not self._trouble):
            return
        self._seen = seen
        try:
            policy = Policy.load(self._path)
            self._files = (self._path, *policy.files)
            if self._trouble or policy.hash != self._hash:
                self._on_change(policy)
        except ConfigurationError as error:
            self._tell(error)
        else:
            self._hash = policy.hash
            self._trouble = ""

    def _tell(self, error: ConfigurationError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._on_error(error)


def _digest(files: Iterable[Path]) -> bytes:
    digest = blake2b(digest_size=16)
    for file in files:
        try:
            digest.update(blake2b(file.read_bytes(), digest_size=16).digest())
        except OSError:
            digest.update(b"missing")
    return digest.digest()
