"""The base install by itself: a policy without extras works, and what needs one says which."""

import llmguard


@llmguard.detector("shouting", categories=["SHOUT"])
def shouting(text: str):
    if text.isupper():
        yield llmguard.Finding("SHOUT")


guard = llmguard.Guard(
    {"name": "smoke", "version": "1", "rules": [{"detector": "shouting", "action": "block"}]}, detectors=[shouting]
)
assert guard.check("hello").action == "allow"
assert guard.check("HELLO").action == "block"
try:
    llmguard.Guard()
except llmguard.MissingExtraError as error:
    assert "pip install 'llmguard[" in str(error), error
else:
    raise AssertionError("the default preset needs extras that are not installed")
print("smoke: ok")
