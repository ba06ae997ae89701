"""Two monitors beside a guard: one tells when inputs change, the other when groups are treated unalike. No network.

pip install 'llmguard[standard,drift]'
python examples/monitors.py
"""

from __future__ import annotations

from llmguard import Guard
from llmguard.detectors.drift import DriftMonitor
from llmguard.detectors.fairness import FairnessMonitor

# A rule that was meant well, and hits one group of askers alone.
POLICY = {
    "name": "bank",
    "version": "1",
    "rules": [{"detector": "keywords", "stage": "input", "action": "block"}],
    "detectors": {"keywords": {"deny": ["refugees"]}},
}
PEOPLE = ("refugees", "Americans", "Mexicans", "Canadians")


def main() -> None:
    """Asks the same questions for a while, then longer ones, and prints what the monitors say."""
    drift = DriftMonitor(reference=1000, window=1024, features=["length"])
    fairness = FairnessMonitor(window=1000)
    with Guard(POLICY, monitors=[drift, fairness]) as guard:
        for number in range(2000):
            with guard.cohort(plan="free" if number % 3 else "pro"):
                text = f"Which papers do {PEOPLE[number % 4]} need to open account {number % 50}?"
                if number >= 1500:  # a new client sends the page that the question was asked on
                    text += " I was reading about fees, cards and branches." * (1 + number % 5)
                guard.check(text)
    # Monitors are told a moment after the check; the guard's end waits for them.

    print("Alerts:")
    for alert in (*drift.alerts(), *fairness.alerts()):
        print(f"  {alert.monitor}: {alert.summary}")

    print("\nHow far the last window is from the first 1,000 checks:")
    for feature, statistics in drift.scores().items():
        print(f"  {feature}: " + ", ".join(f"{name} {value:.2f}" for name, value in statistics.items()))

    print("\nBlocked, by group, in the last full window:")
    for one in fairness.report().disparities:
        if one.outcome == "block":
            low, high = one.difference_interval
            print(f"  {one.name:22} {one.difference:+.2f} [{low:+.2f}, {high:+.2f}]{' notable' if one.notable else ''}")


if __name__ == "__main__":
    main()
