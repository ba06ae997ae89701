"""The policy that a guard goes by: changed as a whole, by hand or when its file changes, and never for a broken one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmguard.checks import Setting
from llmguard.errors import ConfigurationError
from llmguard.loading import Loader
from llmguard.policy import Policy
from llmguard.policy_monitors import PolicyMonitors
from llmguard.telemetry import Telemetry

if TYPE_CHECKING:
    from llmguard.policy_watch import Watcher

# The name under which a guard has always told of its policies.
_log = logging.getLogger("llmguard.guard")


class InForce:
    """One policy at a time.

    Args:
        loader: makes what a policy needs.
        telemetry: is told of changes.
        policy: see `Policy.from_any`.
        watch: follow the policy's file.
        alerts: whether what the policy says about alerts is followed.

    Attributes:
        setting: what checks that begin now run under; those that have begun keep theirs.

    Raises:
        ConfigurationError: the policy is broken, or is to be watched and is no file.
        MissingExtraError: a detector needs a package that is not installed.
    """

    def __init__(
        self,
        loader: Loader,
        telemetry: Telemetry,
        policy: Policy | Mapping[str, Any] | str | Path | None,
        *,
        watch: bool,
        alerts: bool,
    ) -> None:
        self._loader = loader
        self._telemetry = telemetry
        self._changing = threading.Lock()
        self._monitors = PolicyMonitors(wanted=alerts)
        self.setting: Setting = self._loaded(policy)
        self._watcher: Watcher | None = None
        if watch:
            self._watcher = self._watch(policy)

    def change(self, policy: Policy | Mapping[str, Any] | str | Path) -> None:
        """Change to another one.

        Raises:
            ConfigurationError: it is broken; the old one stays in force, and telemetry is told.
        """
        try:
            with self._changing:
                self.setting = self._loaded(policy)
        except ConfigurationError as error:
            self._refuse(error)
            raise
        self._telemetry.reload(self.setting.ref, None)

    def close(self) -> None:
        """End the watch."""
        if self._watcher is not None:
            self._watcher.close()

    def settle(self) -> None:
        """Have the monitors told of all that waits, and end those of the policy."""
        if self._telemetry.monitors is not None:
            self._telemetry.monitors.flush()
        with self._changing:
            self._monitors.settle(())

    def _loaded(self, policy: Policy | Mapping[str, Any] | str | Path | None) -> Setting:
        setting = self._loader.load(Policy.from_any(policy))
        monitors = self._monitors.of(setting.policy)
        try:
            self._telemetry.watch(monitors)
        except ConfigurationError:
            self._monitors.settle(())  # only one that is new is refused
            raise
        self._monitors.settle(monitors)
        return setting

    def _watch(self, policy: object) -> Watcher:
        if not isinstance(policy, (str, Path)):
            raise ConfigurationError("watch=True needs a policy from a file: give its path")
        from llmguard.policy_watch import watch

        return watch(policy, on_change=self._follow, on_error=self._refuse, current=self.setting.policy)

    def _follow(self, policy: Policy) -> None:
        try:
            self.change(policy)
        except ConfigurationError:
            return  # told by `change`; the old policy stays

    def _refuse(self, error: ConfigurationError) -> None:
        ref = self.setting.ref
        _log.warning("policy %r version %r stays in force: %s", ref.name, ref.version, error)
        self._telemetry.reload(ref, error)
