"""Alerts for the tests of sinks: plain ones, large ones and hostile ones."""

from __future__ import annotations

from hypothesis import strategies as st

from llmguard.exporters.alerts.notice import Group, Notice

NOW = 1_700_000_000.0
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
#: What receivers may take for a command, a line of their own, a tag, or what no encoder takes.
HOSTILE = (
    *("<!channel>", "<@U1|x>", "a\r\nBcc: x@y.z", "\n.\n", "<script>alert(1)</script>", "[a](http://e.x)"),
    *("\ud800", "\x00\x1b[31m", "\u202egnp.exe", "&lt;!here&gt;", '"}],"x":[{"', "\u2028", "{{DATE(x)}}", "x" * 5000),
    *("\U0001f600" * 1500, "&" * 3000, "", " ", "a,b", "\U000e0001"),
)


def notice(*, ended: float = 0.0, labels: dict[str, str] | None = None, **annotations: str) -> Notice:
    """One alert, with all that a rule says of it."""
    return Notice(
        {"alertname": "Blocks", "severity": "critical", "model": "m-1", **(labels or {})},
        {
            "summary": "more than 5 % of inputs are blocked",
            "policy": "house 7",
            "window": "300 s",
            "value": "0.08",
            "count": "12",
            "trace_id": TRACE,
            "runbook_url": "https://runbooks.example.com/blocks?a=1&b=2",
            **annotations,
        },
        NOW - 60.0,
        ended,
    )


def group(*notices: Notice) -> Group:
    """These, or one, as one message tells them."""
    return Group("g1", {"alertname": "Blocks"}, notices or (notice(),))


def large(count: int) -> Group:
    """Many alerts of which each has as much to tell as may be."""
    words = {f"word_{number}": "häßlich & <gro\u1e9e> \U0001f600 " * 40 for number in range(30)}
    return group(*(notice(labels={"tenant": str(number)}, **words) for number in range(count)))


_texts = st.sampled_from(HOSTILE) | st.text(max_size=60) | st.text(st.characters(), max_size=8)
_pairs = st.dictionaries(_texts, _texts, max_size=4)
_severities = st.sampled_from(["critical", "error", "warning", "info"]) | _texts
_times = st.floats(0.0, 4e9) | st.sampled_from([1e18, float("inf")])


@st.composite
def hostile_notices(draw: st.DrawFn) -> Notice:
    """An alert of which every text is chosen by an enemy."""
    labels = {"alertname": draw(_texts), "severity": draw(_severities), **draw(_pairs)}
    annotations = {"summary": draw(_texts), "runbook_url": draw(_texts), **draw(_pairs)}
    return Notice(labels, annotations, draw(_times), draw(st.just(0.0) | _times))


def hostile_groups(most: int = 4) -> st.SearchStrategy[Group]:
    """Several of them, a few of which come again and again where there are many."""

    def several(notices: list[Notice], count: int) -> Group:
        return Group("\r\n<g>", notices[0].labels, tuple((notices * count)[:count]))

    return st.builds(several, st.lists(hostile_notices(), min_size=1, max_size=3), st.integers(1, most))
