import copy
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.errors import ConfigurationError, MissingExtraError, VaultError
from llmguard.vault import Vault, VaultScope

KEY = bytes(range(32))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
def scope(request: pytest.FixtureRequest) -> VaultScope:
    return Vault(encryption_key=request.param).scoped("c")


def test_the_same_value_has_the_same_number_and_each_label_counts_for_itself(scope: VaultScope) -> None:
    assert scope.placeholder("EMAIL_ADDRESS", "a@example.com") == "<EMAIL_ADDRESS_1>"
    assert scope.placeholder("EMAIL_ADDRESS", "b@example.com") == "<EMAIL_ADDRESS_2>"
    assert scope.placeholder("EMAIL_ADDRESS", "a@example.com") == "<EMAIL_ADDRESS_1>"
    assert scope.placeholder("PHONE_NUMBER", "a@example.com") == "<PHONE_NUMBER_1>"


def test_restore_puts_the_values_back(scope: VaultScope) -> None:
    scope.placeholder("EMAIL_ADDRESS", "a@example.com")
    scope.placeholder("NAME", "Zoë \ud800")
    assert scope.restore("<NAME_1>, write to <EMAIL_ADDRESS_1>!") == "Zoë \ud800, write to a@example.com!"


def test_another_conversation_never_gets_an_answer(scope: VaultScope) -> None:
    vault = Vault()
    mine, theirs = vault.scoped("mine"), vault.scoped("theirs")
    placeholder = mine.placeholder("EMAIL_ADDRESS", "me@example.com")
    assert theirs.restore(placeholder) == placeholder
    assert theirs.placeholder("EMAIL_ADDRESS", "they@example.com") == placeholder
    assert mine.restore(placeholder) == "me@example.com"
    assert theirs.restore(placeholder) == "they@example.com"


def test_unknown_placeholders_stay(scope: VaultScope) -> None:
    scope.placeholder("A", "x")
    text = "<A_2> <B_1> <A> <A_01> <a_1> A_1 <A_1"
    assert scope.restore(text) == text


def test_one_is_not_found_in_ten(scope: VaultScope) -> None:
    for number in range(1, 13):
        scope.placeholder("A", f"value {number}")
    assert scope.restore("<A_10> <A_1> <A_11> <A_12>") == "value 10 value 1 value 11 value 12"


def test_a_value_that_holds_a_placeholder_is_not_expanded_again(scope: VaultScope) -> None:
    assert scope.placeholder("A", "see <A_2>") == "<A_1>"
    assert scope.placeholder("A", "see <A_1>") == "<A_2>"
    assert scope.restore("<A_1> and <A_2>") == "see <A_2> and see <A_1>"


def test_nothing_is_read_as_a_pattern(scope: VaultScope) -> None:
    placeholder = scope.placeholder(".*[a-z]+(", r"\1 \g<0> .* $& {0} %s")
    assert placeholder == "<A_Z_1>"
    assert scope.restore(f"abc {placeholder} xyz") == r"abc \1 \g<0> .* $& {0} %s xyz"


def test_a_look_alike_is_skipped_when_it_comes_first(scope: VaultScope) -> None:
    assert scope.escape("as in <EMAIL_ADDRESS_3>") == "as in <EMAIL_ADDRESS_3>"
    assert scope.placeholder("EMAIL_ADDRESS", "a@example.com") == "<EMAIL_ADDRESS_4>"
    assert scope.restore("<EMAIL_ADDRESS_3>") == "<EMAIL_ADDRESS_3>"


def test_a_look_alike_is_put_behind_a_placeholder_when_it_comes_second(scope: VaultScope) -> None:
    scope.placeholder("EMAIL_ADDRESS", "a@example.com")
    escaped = scope.escape("as in <EMAIL_ADDRESS_1>, yes <EMAIL_ADDRESS_1>")
    assert escaped == "as in <TEXT_1>, yes <TEXT_1>"
    assert scope.restore(escaped) == "as in <EMAIL_ADDRESS_1>, yes <EMAIL_ADDRESS_1>"


def test_a_look_alike_of_an_escape_is_escaped_too(scope: VaultScope) -> None:
    scope.placeholder("A", "x")
    text = "<A_1> <TEXT_1> <TEXT_2> <A_1>"
    assert scope.escape(text) == "<TEXT_1> <TEXT_2> <TEXT_3> <TEXT_1>"
    assert scope.restore(scope.escape(text)) == text


def test_a_text_cannot_use_the_numbers_up(scope: VaultScope) -> None:
    text = "<A_999999999> <A_1000001> <A_1000000>"
    assert scope.escape(text) == "<TEXT_1> <TEXT_2> <A_1000000>"
    assert scope.placeholder("A", "x") == "<A_1000001>"
    assert scope.restore(scope.escape(text)) == text


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("<AT_12>x"), max_size=30) | st.sampled_from(["<A_1>", "<A_2><TEXT_1>"])))
def test_every_text_of_a_conversation_can_be_told_from_what_was_redacted(texts: list[str]) -> None:
    scope = Vault().scoped("c")
    sent = []
    for number, text in enumerate(texts):
        sent.append(scope.escape(text))
        scope.placeholder("A", f"value {number}")
    assert [scope.restore(text) for text in sent] == texts


def test_what_the_model_wrote_is_not_restored_until_the_user_writes_it(scope: VaultScope) -> None:
    hidden = scope.placeholder("NAME", "Ada", restorable=False)
    assert hidden == "<NAME_1>"
    assert scope.placeholder("NAME", "Ada", restorable=False) == hidden
    assert scope.restore(hidden) == hidden
    assert scope.escape(hidden) == hidden
    shown = scope.placeholder("NAME", "Ada")
    assert shown == "<NAME_2>"
    assert scope.placeholder("NAME", "Ada", restorable=False) == shown
    assert scope.restore(f"{hidden} {shown}") == f"{hidden} Ada"


def test_a_conversation_is_forgotten_when_nobody_uses_it() -> None:
    clock = Clock()
    vault = Vault(ttl=10.0, clock=clock)
    scope = vault.scoped("c")
    scope.placeholder("A", "x")
    clock.now = 9.0
    assert scope.restore("<A_1>") == "x"
    clock.now = 18.0
    assert scope.restore("<A_1>") == "x"
    clock.now = 28.0
    assert scope.restore("<A_1>") == "<A_1>"
    assert len(vault) == 0


def test_purge_drops_what_nobody_asks_for_any_more() -> None:
    clock = Clock()
    vault = Vault(ttl=10.0, clock=clock)
    vault.scoped("old").placeholder("A", "x")
    clock.now = 5.0
    vault.scoped("new").placeholder("A", "y")
    clock.now = 12.0
    vault.purge()
    assert len(vault) == 1
    assert vault.scoped("new").restore("<A_1>") == "y"


def test_an_expired_number_is_not_given_to_another_value() -> None:
    clock = Clock()
    scope = Vault(ttl=10.0, clock=clock).scoped("c")
    scope.placeholder("A", "x")
    scope.placeholder("A", "y")
    clock.now = 10.0
    assert scope.escape("<B_1> <A_2> <A_5>") == "<B_1> <A_2> <A_5>"
    assert scope.placeholder("A", "z") == "<A_6>"
    assert scope.placeholder("B", "z") == "<B_3>"
    assert scope.restore("<A_1> <A_2> <A_6> <B_1>") == "<A_1> <A_2> z <B_1>"


def test_forget_drops_one_conversation_and_its_numbers() -> None:
    vault = Vault()
    mine, theirs = vault.scoped("mine"), vault.scoped("theirs")
    mine.placeholder("A", "x")
    theirs.placeholder("A", "y")
    mine.forget()
    assert mine.restore("<A_1>") == "<A_1>"
    assert theirs.restore("<A_1>") == "y"
    assert mine.placeholder("A", "z") == "<A_1>"
    vault.scoped("never seen").forget()
    assert len(vault) == 2


def test_the_conversation_idle_longest_makes_room() -> None:
    vault = Vault(max_entries=4)
    first, second, third = (vault.scoped(name) for name in "abc")
    first.placeholder("A", "1")
    second.placeholder("A", "2")
    second.placeholder("A", "3")
    first.restore("<A_1>")
    third.placeholder("A", "4")
    third.placeholder("A", "5")
    assert second.restore("<A_1> <A_2>") == "<A_1> <A_2>"
    assert first.restore("<A_1>") == "1"
    assert second.placeholder("A", "6") == "<A_3>"
    assert len(vault) <= 4


def test_a_conversation_that_fills_the_vault_is_refused_and_keeps_what_it_has() -> None:
    vault = Vault(max_entries=2)
    scope = vault.scoped("c")
    scope.placeholder("A", "one")
    scope.placeholder("A", "two")
    with pytest.raises(VaultError, match="max_entries=2") as caught:
        scope.placeholder("A", "three")
    assert "three" not in str(caught.value)
    assert vault.refused == 1
    assert scope.restore("<A_1> <A_2> <A_3>") == "one two <A_3>"
    assert scope.placeholder("A", "two") == "<A_2>"
    # neither skipped nor held: out it goes
    assert scope.escape("<A_1> <A_7> <B_1>") == "<TEXT> <A_7> <TEXT>"


def test_values_are_bounded_by_their_bytes() -> None:
    vault = Vault(max_bytes=10)
    small, large = vault.scoped("small"), vault.scoped("large")
    small.placeholder("A", "éé")
    large.placeholder("A", "123456")
    assert small.restore("<A_1>") == "éé"
    large.placeholder("A", "7")
    assert small.restore("<A_1>") == "<A_1>"
    with pytest.raises(VaultError, match="max_bytes=10"):
        vault.scoped("huge").placeholder("A", "x" * 11)
    assert large.restore("<A_1>") == "123456"


def test_look_alikes_take_room_too() -> None:
    vault = Vault(max_entries=50)
    scope = vault.scoped("c")
    text = "".join(f"<L{number}X_1>" for number in range(100))
    assert scope.escape(text).count("<TEXT>") == 50
    assert len(vault) == 50


def test_no_number_outgrows_a_placeholder() -> None:
    clock = Clock()
    scope = Vault(ttl=10.0, clock=clock).scoped("c")
    scope.escape("<A_1000000>")
    scope._vault._conversations["c"].next_number["A"] = 1_000_000_000
    with pytest.raises(VaultError, match="999999999"):
        scope.placeholder("A", "x")


def test_an_empty_conversation_id_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="conversation id"):
        Vault().scoped("")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_entries": 0}, "max_entries"),
        ({"max_entries": "many"}, "max_entries"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"ttl": "1h"}, "ttl"),
        ({"encryption_key": b"short-key"}, "32 bytes"),
        ({"encryption_key": "x" * 32}, "32 bytes"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        Vault(**options)  # type: ignore[arg-type]
    assert "short-key" not in str(caught.value)


def test_encryption_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(MissingExtraError, match=r"llmguard\[vault\]"):
        Vault(encryption_key=KEY)


def test_no_value_can_be_read_off_an_encrypted_vault() -> None:
    vault = Vault(encryption_key=KEY)
    vault.scoped("c").placeholder("A", "a@example.com")
    vault.scoped("c").placeholder("A", "b@example.com", restorable=False)
    own = vault._conversations["c"]
    held = repr([own.values, own.placeholders, own.hidden, own.next_number])
    assert "example" not in held


def test_nothing_shows_and_nothing_is_pickled_or_copied() -> None:
    vault = Vault(encryption_key=KEY)
    scope = vault.scoped("customer-42")
    scope.placeholder("A", "a@example.com")
    for shown in (repr(vault), str(vault), repr(scope), str(scope)):
        assert "example" not in shown
        assert "customer" not in shown
    for holder in (vault, scope):
        with pytest.raises(TypeError, match="personal data"):
            pickle.dumps(holder)
        with pytest.raises(TypeError, match="personal data"):
            copy.deepcopy(holder)


def test_threads_share_numbers_and_never_get_one_for_two_values() -> None:
    vault = Vault()
    start = threading.Barrier(8)

    def work(worker: int) -> list[tuple[str, str, str]]:
        start.wait()
        scope = vault.scoped(f"conversation {worker % 2}")
        values = [f"value {number % 60} of {worker % 2}" for number in range(worker, 200 + worker)]
        return [(value, placeholder := scope.placeholder("A", value), scope.restore(placeholder)) for value in values]

    with ThreadPoolExecutor(8) as pool:
        found = [each for result in pool.map(work, range(8)) for each in result]
    assert all(value == restored for value, _, restored in found)
    assert len({(value, placeholder) for value, placeholder, _ in found}) == 120
    assert len(vault) == 120


def test_what_is_remembered_of_dropped_conversations_is_bounded() -> None:
    vault = Vault(max_entries=3)
    for number in range(10):
        vault.scoped(f"conversation {number}").placeholder("A", "x")
    assert len(vault._conversations) == len(vault._first_numbers) == 3
