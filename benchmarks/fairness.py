"""What a fairness monitor costs a check, against the check itself, and how its scan grows with the text."""

from __future__ import annotations

from benchmarks.guard import POLICY
from benchmarks.texts import CLEAN
from benchmarks.timing import medians, microseconds, row
from llmguard import Guard, TelemetrySettings
from llmguard.detectors.fairness import FairnessMonitor
from llmguard.detectors.fairness_lexicon import bundled
from llmguard.types import Action, Decision, DetectorRun, Finding, Observation, Outcome, PolicyRef, Role, Stage, Text

MENTIONS = CLEAN + " Two women, a gay man and an elderly Muslim asked for it."


def seen(text: str, cohort: dict[str, str]) -> Observation:
    """An answer that was looked at for toxicity and refusals."""
    runs = (DetectorRun("toxicity", "1", Outcome.HIT), DetectorRun("refusal", "1", Outcome.PASS))
    findings = (Finding("TOXICITY", 0.2, detector="toxicity"),)
    policy = PolicyRef("p", "1", "h")
    decision = Decision(Action.ALLOW, (text,), findings, Stage.OUTPUT, policy, runs=runs)
    return Observation(decision, (Text(text, Role.ASSISTANT),), cohort=cohort)


def main() -> bool:
    monitor = FairnessMonitor(window=1 << 60)
    plain, mentions = seen(CLEAN, {}), seen(MENTIONS, {"plan": "free", "region": "eu"})
    long = CLEAN * 100
    with Guard(POLICY, telemetry=TelemetrySettings(enabled=False)) as guard:
        took = medians(
            {
                "check": lambda: guard.check(CLEAN),
                "plain": lambda: monitor.observe(plain),
                "mentions": lambda: monitor.observe(mentions),
                "scan": lambda: bundled().groups_in(CLEAN),
                "long": lambda: bundled().groups_in(long),
            }
        )
    held = row(
        "200 words that mention nobody, four outcomes",
        microseconds(took["plain"]),
        f"{took['plain'] / took['check']:.2f} of a check with six detectors",
        "<= 0.35",
        holds=took["plain"] <= 0.35 * took["check"],
    )
    held &= row(
        "200 words that mention five groups, two cohorts",
        microseconds(took["mentions"]),
        f"{took['mentions'] / took['check']:.2f} of a check with six detectors",
        "<= 1",
        holds=took["mentions"] <= took["check"],
    )
    row("of it the scan for 248 terms, 200 words", microseconds(took["scan"]))
    held &= row(
        "the same over 20,000 words",
        microseconds(took["long"]),
        f"{took['long'] / took['scan']:.0f} times the one over 200",
        "<= 120",
        holds=took["long"] <= 120 * took["scan"],
    )
    return held
