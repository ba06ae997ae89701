import base64
import doctest
import hashlib
import hmac
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.errors import ConfigurationError, DetectorError, MissingExtraError, VaultError
from llmguard.redaction import Redaction, Vault, decrypt, redact
from llmguard.types import Action, Finding

KEY = bytes(range(32))
TEXT = "Ada <ada@example.com>, card 4111 1111 1111 1111."


def finding(category: str, part: str, text: str = TEXT, score: float = 1.0, action: Action = Action.REDACT) -> Finding:
    start = text.index(part)
    return Finding(category, score, (start, start + len(part)), action=action)


NAME = finding("PERSON", "Ada")
EMAIL = finding("EMAIL_ADDRESS", "ada@example.com")
CARD = finding("CREDIT_CARD", "4111 1111 1111 1111")
DIGEST = hmac.new(KEY, b"ada@example.com", hashlib.sha256).hexdigest()[:16]


@pytest.mark.parametrize(
    ("redaction", "cleared"),
    [
        (Redaction("remove"), " <>, card ."),
        (Redaction("mask"), "*** <***************>, card *******************."),
        (Redaction("mask", keep_last=4), "**a <***********.com>, card ***************1111."),
        (Redaction("mask", keep_last=4, mask_char="•"), "••a <•••••••••••.com>, card •••••••••••••••1111."),
        (Redaction("placeholder"), "<PERSON> <<EMAIL_ADDRESS>>, card <CREDIT_CARD>."),
    ],
)
def test_each_method_without_a_vault(redaction: Redaction, cleared: str) -> None:
    assert redact(TEXT, [CARD, NAME, EMAIL], redaction) == cleared


def test_a_hash_is_keyed_and_can_be_computed_again() -> None:
    hashed = redact(TEXT, [EMAIL], Redaction("hash", key=KEY))
    assert hashed == f"Ada <<EMAIL_ADDRESS:hmac-sha256:{DIGEST}>>, card 4111 1111 1111 1111."
    assert redact(TEXT, [EMAIL], Redaction("hash", key=KEY[::-1])) != hashed


def test_an_encrypted_value_never_looks_the_same_and_comes_back() -> None:
    redaction = Redaction("encrypt", key=KEY)
    first, second = (redact(TEXT, [EMAIL, CARD], redaction) for _ in range(2))
    assert first != second
    assert first.startswith("Ada <<EMAIL_ADDRESS:enc:")
    assert "example" not in first
    assert decrypt(first, KEY) == decrypt(second, KEY) == TEXT


def test_an_encrypted_value_is_bound_to_its_category_and_key() -> None:
    sealed = redact(TEXT, [EMAIL], Redaction("encrypt", key=KEY))
    with pytest.raises(VaultError, match="none of the 1 "):
        decrypt(sealed, KEY[::-1])
    with pytest.raises(VaultError, match="none of the 1 "):
        decrypt(sealed.replace("EMAIL_ADDRESS", "PERSON"), KEY)
    odd = "<A:enc:" + "A" * 41 + ">"
    assert decrypt(odd + sealed, KEY) == odd + TEXT
    assert decrypt("nothing <A:enc:short>", KEY) == "nothing <A:enc:short>"


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=())))
def test_any_value_comes_back_from_encryption(value: str) -> None:
    whole = [Finding("A", action=Action.REDACT)]
    assert decrypt(redact(value, whole, Redaction("encrypt", key=KEY)), KEY) == value


def test_only_findings_to_be_redacted_are() -> None:
    others = [finding("PERSON", "Ada", action=action) for action in Action if action is not Action.REDACT]
    assert redact(TEXT, others, Redaction("remove")) == TEXT
    assert redact(TEXT, [*others, EMAIL], Redaction("remove")) == TEXT.replace("ada@example.com", "")


def test_a_stronger_finding_beside_it_hides_nothing() -> None:
    blocked = finding("SECRET", "example.com>, card", action=Action.BLOCK)
    assert redact(TEXT, [EMAIL, blocked], Redaction("remove")) == TEXT.replace("ada@example.com", "")


def test_a_finding_about_the_whole_text_takes_all_of_it() -> None:
    whole = Finding("SECRET", 0.9, None, action=Action.REDACT)
    assert redact(TEXT, [whole, EMAIL], Redaction()) == "<EMAIL_ADDRESS>"
    assert redact(TEXT, [whole], Redaction("mask", keep_last=3)) == "*" * (len(TEXT) - 3) + "11."
    assert redact("", [whole], Redaction()) == ""


def test_a_mask_keeps_nothing_of_what_it_covers_for_others() -> None:
    text = "key 123456789"
    low, high = finding("A", "12345", text, 0.5), finding("B", "456789", text, 0.9)
    assert redact(text, [low, high], Redaction("mask", keep_last=2)) == "key *********"
    assert redact(text, [high], Redaction("mask", keep_last=2)) == "key 123****89"


def test_each_finding_may_be_redacted_its_own_way() -> None:
    ways = {EMAIL: Redaction("mask"), CARD: Redaction("remove"), NAME: Redaction()}
    cleared = "<PERSON> <***************>, card ."
    assert redact(TEXT, list(ways), ways) == cleared
    assert redact(TEXT, list(ways), ways.__getitem__) == cleared
    with pytest.raises(KeyError):
        redact(TEXT, [EMAIL], {CARD: Redaction()})


def test_the_same_value_has_the_same_number() -> None:
    text = "a@b.c d@e.f a@b.c"
    found = [Finding("EMAIL_ADDRESS", 1.0, (at, at + 5), action=Action.REDACT) for at in (12, 0, 6)]
    vault = Vault()
    assert redact(text, found, vault=vault, scope="c") == "<EMAIL_ADDRESS_1> <EMAIL_ADDRESS_2> <EMAIL_ADDRESS_1>"
    assert redact("d@e.f", [found[1]], vault=vault, scope="c") == "<EMAIL_ADDRESS_2>"


def test_a_look_alike_in_the_text_is_not_restored_to_the_value() -> None:
    vault = Vault()
    text = "mail ada@example.com, as in <EMAIL_ADDRESS_1>"
    first = redact(text, [finding("EMAIL_ADDRESS", "ada@example.com", text)], vault=vault, scope="c")
    assert first == "mail <EMAIL_ADDRESS_2>, as in <EMAIL_ADDRESS_1>"
    assert vault.restore("c", first) == text
    second = redact("say <EMAIL_ADDRESS_2>", [], vault=vault, scope="c")
    assert second == "say <TEXT_1>"
    assert vault.restore("c", second) == "say <EMAIL_ADDRESS_2>"


def test_a_look_alike_that_arises_where_something_was_removed_is_none() -> None:
    vault = Vault()
    redact(TEXT, [EMAIL], vault=vault, scope="c")
    text = "<EMAIL_xxADDRESS_1>"
    forged = redact(text, [finding("A", "xx", text)], Redaction("remove"), vault, "c")
    assert vault.restore("c", forged) == "<EMAIL_ADDRESS_1>"


def test_what_the_model_wrote_stays_redacted_and_the_users_own_comes_back() -> None:
    vault = Vault()
    redact(TEXT, [EMAIL], vault=vault, scope="c")
    answer = "I wrote to <EMAIL_ADDRESS_1>, not to eve@example.com; see ada@example.com"
    found = [finding("EMAIL_ADDRESS", part, answer) for part in ("eve@example.com", "ada@example.com")]
    cleared = redact(answer, found, vault=vault, scope="c", restorable=False)
    assert cleared == "I wrote to <EMAIL_ADDRESS_1>, not to <EMAIL_ADDRESS_2>; see <EMAIL_ADDRESS_1>"
    assert vault.restore("c", cleared) == "I wrote to ada@example.com, not to <EMAIL_ADDRESS_2>; see ada@example.com"


def test_a_full_vault_redacts_for_good() -> None:
    vault = Vault(max_entries=1)
    cleared = redact(TEXT, [EMAIL, CARD, NAME], vault=vault, scope="c")
    assert cleared == "<PERSON_1> <<EMAIL_ADDRESS>>, card <CREDIT_CARD>."
    assert vault.refused == 2
    assert vault.restore("c", cleared) == "Ada <<EMAIL_ADDRESS>>, card <CREDIT_CARD>."


def test_a_vault_needs_to_know_whose_text_it_is() -> None:
    with pytest.raises(ConfigurationError, match="conversation id"):
        redact(TEXT, [], vault=Vault())


@pytest.mark.parametrize("span", [(-1, 3), (0, len(TEXT) + 1), (3, 1)])
def test_a_span_outside_the_text_is_an_error(span: tuple[int, int]) -> None:
    with pytest.raises(DetectorError, match="outside the text") as caught:
        redact(TEXT, [Finding("A", 1.0, span, "pii", action=Action.REDACT)])
    assert "Ada" not in str(caught.value)


alphabet = st.characters(exclude_categories=()) | st.sampled_from("<>_AET12")
pieces = st.text(alphabet, max_size=8) | st.sampled_from(
    [
        "<EMAIL_ADDRESS_1>",
        "<EMAIL_ADDRESS_2>",
        "<TEXT_1>",
        "<TEXT_2>",
        "<EMAIL_ADDRESS_",
        "1>",
        "<A_1>",
        "<A_999999999>",
    ]
)


@st.composite
def texts_with_findings(draw: st.DrawFn) -> tuple[str, list[Finding]]:
    text = "".join(draw(st.lists(pieces, max_size=8)))
    index = st.integers(0, len(text))
    span = st.tuples(index, index).map(lambda ends: (min(ends), max(ends)))
    category = st.sampled_from(["EMAIL_ADDRESS", "A", "text", "<EMAIL_ADDRESS_1>"])
    score = st.sampled_from([0.1, 0.5, 1.0])
    action = st.sampled_from([Action.REDACT, Action.REDACT, Action.FLAG, Action.BLOCK])
    found = st.builds(Finding, category, score, st.none() | span | span | span, action=action)
    return text, draw(st.lists(found, max_size=6))


@settings(deadline=None)
@given(st.lists(texts_with_findings(), max_size=5), st.sampled_from([None, KEY]))
def test_redaction_round_trips(exchange: list[tuple[str, list[Finding]]], key: bytes | None) -> None:
    vault = Vault(encryption_key=key)
    sent = []
    for number, (text, found) in enumerate(exchange):
        sent.append(redact(text, found, vault=vault, scope="c"))
        # the model's own findings in between change nothing
        redact(text, found, vault=vault, scope="c", restorable=False)
        assert vault.restore("c", sent[number]) == text
    assert [vault.restore("c", cleared) for cleared in sent] == [text for text, _ in exchange]
    assert [vault.restore("d", cleared) for cleared in sent] == sent


@settings(deadline=None)
@given(texts_with_findings(), st.sampled_from(["mask", "remove", "placeholder", "hash"]), st.randoms())
def test_no_redacted_code_point_gets_through(
    exchange: tuple[str, list[Finding]], method: str, chance: random.Random
) -> None:
    text, found = exchange
    # every place gets a private-use character of its own, so that whatever gets through can be told
    marked = "".join(chr(0xE000 + at) for at in range(len(text)))
    key = KEY if method == "hash" else None
    redaction = Redaction.parse({"method": method, "key": key})
    cleared = redact(marked, found, redaction)
    spans = [each.span or (0, len(text)) for each in found if each.action is Action.REDACT]
    kept = [char for at, char in enumerate(marked) if not any(start <= at < end for start, end in spans)]
    assert [char for char in cleared if char >= "\ue000"] == kept
    chance.shuffle(found)
    assert redact(marked, found, redaction) == cleared


def test_a_hundred_thousand_findings_round_trip() -> None:
    text = "".join(f"{number:05d} <A_{number}> " for number in range(100_000))
    found, at = [], 0
    for number in range(100_000):
        found.append(Finding("A", 1.0, (at, at + 5), action=Action.REDACT))
        at += len(f"{number:05d} <A_{number}> ")
    vault = Vault(max_entries=300_000)
    cleared = redact(text, found, vault=vault, scope="c")
    assert "99999 " not in cleared
    assert vault.restore("c", cleared) == text


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("placeholder", Redaction()),
        ("mask", Redaction("mask")),
        ({"method": "mask", "keep_last": 4, "mask_char": "#"}, Redaction("mask", 4, "#")),
        ({"method": "hash", "key_env": "MY_KEY"}, Redaction("hash", key_env="MY_KEY")),
        ({"method": "encrypt", "key": KEY}, Redaction("encrypt", key=KEY)),
        (Redaction("remove"), Redaction("remove")),
    ],
)
def test_what_a_policy_may_say(value: object, parsed: Redaction) -> None:
    assert Redaction.parse(value) == parsed  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("masks", "did you mean 'mask'"),
        ({"method": "hsh"}, "did you mean 'hash'"),
        ({"method": None}, "unknown method None"),
        ({"method": "mask", "keep": 4}, "did you mean 'keep_last'"),
        ({"method": "mask", "keep_last": -1}, "keep_last must be a whole number from 0, not -1"),
        ({"method": "mask", "keep_last": True}, "keep_last"),
        ({"method": "mask", "keep_last": "4"}, "keep_last"),
        ({"method": "mask", "mask_char": "**"}, "mask_char must be one"),
        ({"method": "mask", "mask_char": "\n"}, "mask_char must be one"),
        ({"method": "mask", "mask_char": "<"}, "mask_char must not be <"),
        ({"method": "mask", "key_env": "X"}, "'mask' has no key_env: it is for hash and encrypt"),
        ({"method": "hash", "keep_last": 4}, "'hash' has no keep_last: it is for mask"),
        ({"method": "hash", "key": "a secret in a file"}, "key must be bytes"),
        ({"method": "hash", "key_env": 5}, "key_env must be"),
        ({1: 2}, "unknown option 1"),
        (["mask"], "not list"),
    ],
)
def test_what_a_policy_may_not_say(value: object, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        Redaction.parse(value)  # type: ignore[arg-type]
    assert "secret in a file" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "variable", "value", "said"),
    [
        ("hash", "LLMGUARD_HASH_KEY", "", "set the environment variable LLMGUARD_HASH_KEY"),
        ("hash", "LLMGUARD_HASH_KEY", "too-short", "at least 16 bytes"),
        ("encrypt", "LLMGUARD_ENCRYPTION_KEY", "", "set the environment variable LLMGUARD_ENCRYPTION_KEY"),
        ("encrypt", "LLMGUARD_ENCRYPTION_KEY", "not!base64", "LLMGUARD_ENCRYPTION_KEY is not base64"),
        ("encrypt", "LLMGUARD_ENCRYPTION_KEY", "äöü", "LLMGUARD_ENCRYPTION_KEY is not base64"),
        ("encrypt", "LLMGUARD_ENCRYPTION_KEY", "c2hvcnQ=", "must be 32 bytes, not 5"),
    ],
)
def test_a_key_that_is_missing_or_wrong_shows_before_the_first_request(
    monkeypatch: pytest.MonkeyPatch, method: str, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    redaction = Redaction.parse(method)
    with pytest.raises(ConfigurationError, match=said) as caught:
        redaction.ready()
    assert "too-short" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=said):
        redact(TEXT, [EMAIL], redaction)


@pytest.mark.parametrize("method", ["hash", "encrypt"])
def test_an_empty_key_is_not_looked_up_elsewhere(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setenv("LLMGUARD_HASH_KEY", "sixteen bytes or more")
    monkeypatch.setenv("LLMGUARD_ENCRYPTION_KEY", base64.b64encode(KEY).decode())
    with pytest.raises(ConfigurationError, match="bytes"):
        redact(TEXT, [EMAIL], Redaction.parse({"method": method, "key": b""}))


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMGUARD_HASH_KEY", "sixteen bytes or more")
    monkeypatch.setenv("LLMGUARD_ENCRYPTION_KEY", base64.b64encode(KEY).decode() + "\n")
    monkeypatch.setenv("OTHER", base64.urlsafe_b64encode(KEY[::-1]).decode())
    assert Redaction("hash").ready() == Redaction("hash", key=b"sixteen bytes or more")
    assert Redaction("mask").ready() == Redaction("mask")
    sealed = redact(TEXT, [EMAIL], Redaction("encrypt").ready())
    assert decrypt(sealed) == decrypt(redact(TEXT, [EMAIL], Redaction("encrypt"))) == TEXT
    other = redact(TEXT, [EMAIL], Redaction("encrypt", key_env="OTHER"))
    assert decrypt(other, KEY[::-1]) == TEXT


def test_encrypting_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(MissingExtraError, match=r"llmguard\[vault\]"):
        Redaction("encrypt", key=KEY).ready()


def test_a_redaction_shows_no_key() -> None:
    assert "key=" not in repr(Redaction("hash", key=b"sixteen bytes or more"))


def test_the_page_about_redaction_says_what_happens() -> None:
    page = Path(__file__).parent.parent / "docs" / "redaction.md"
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 10
    assert result.failed == 0
