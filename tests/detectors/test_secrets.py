"""Secrets are found whole and alone. What looks like a key is put together here, piece by piece."""

from __future__ import annotations

import pickle
import random
import re
import string
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from detect_secrets.settings import transient_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors import secrets_plugins
from llmguard.detectors.growth import check_growth
from llmguard.detectors.secrets import SecretsDetector
from llmguard.detectors.secrets_merge import Candidate
from llmguard.detectors.secrets_shapes import Match, Shape, shipped
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.types import Finding, Text

ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + "234567"
LOWER = string.ascii_lowercase + string.digits
HEX = "0123456789abcdef"
URLSAFE = ALNUM + "_-"
DETECTOR = SecretsDetector()


def draw(size: int, alphabet: str = ALNUM, seed: int = 7) -> str:
    """A random string that starts and ends in a letter and holds a digit, so that no boundary is in doubt."""
    source = random.Random(f"{seed}{size}{alphabet}")
    letters = [c for c in alphabet if c.isalpha()]
    inner = "".join(source.choice(alphabet) for _ in range(size - 3))
    return f"{source.choice(letters)}{inner}{'7' if '7' in alphabet else ''}{source.choice(letters)}"[:size].ljust(
        size, letters[0]
    )


def detect(text: str, detector: SecretsDetector = DETECTOR) -> list[Finding]:
    return list(detector.detect([Text(text)])[0])


def found(text: str, detector: SecretsDetector = DETECTOR) -> list[tuple[str, str]]:
    return [(f.category, text[slice(*f.span)]) for f in detect(text, detector) if f.span]


# The shapes that carry their own mark: category, a secret made with a seed, the least score.
SHAPES: dict[str, tuple[str, Callable[[int], str], float]] = {
    "aws_id": ("AWS_ACCESS_KEY", lambda s: "AK" + "IA" + draw(16, UPPER, s), 0.99),
    "gcp": ("GCP_API_KEY", lambda s: "AI" + "za" + draw(35, URLSAFE, s), 0.95),
    "google_secret": ("GOOGLE_OAUTH", lambda s: "GOC" + "SPX-" + draw(28, URLSAFE, s), 0.95),
    "google_token": ("GOOGLE_OAUTH", lambda s: "ya" + "29." + draw(60, URLSAFE, s), 0.95),
    "azure_secret": ("AZURE_CLIENT_SECRET", lambda s: "abc" + "8Q" + "~" + draw(34, ALNUM, s), 0.95),
    "azure_sas": (
        "AZURE_SAS",
        lambda s: "sv=2022-11-02&ss=b&srt=sco&sp=rwd&si" + "g=" + draw(43, ALNUM, s) + "%3D",
        0.9,
    ),
    "azure_storage": (
        "CONNECTION_STRING",
        lambda s: (
            "DefaultEndpointsProtocol=https;AccountName=acme;Account"
            "Key=" + draw(86, ALNUM, s) + "==;EndpointSuffix=core.windows.net"
        ),
        0.99,
    ),
    "github": ("GITHUB_TOKEN", lambda s: "gh" + "p_" + draw(36, ALNUM, s), 0.99),
    "github_oauth": ("GITHUB_TOKEN", lambda s: "gh" + "o_" + draw(36, ALNUM, s), 0.99),
    "github_server": ("GITHUB_TOKEN", lambda s: "gh" + "s_" + draw(36, ALNUM, s), 0.99),
    "github_pat": ("GITHUB_TOKEN", lambda s: "github" + "_pat_" + draw(22, ALNUM, s) + "_" + draw(59, ALNUM, s), 0.95),
    "gitlab": ("GITLAB_TOKEN", lambda s: "gl" + "pat-" + draw(20, ALNUM, s), 0.99),
    "slack": ("SLACK_TOKEN", lambda s: "xo" + "xb-123456789012-123456789012-" + draw(24, ALNUM, s), 0.99),
    "slack_hook": (
        "SLACK_WEBHOOK",
        lambda s: (
            "https://hooks.slack"
            ".com/services/T" + draw(8, UPPER, s) + "/B" + draw(8, UPPER, s) + "/" + draw(24, ALNUM, s)
        ),
        0.95,
    ),
    "stripe": ("STRIPE_KEY", lambda s: "sk" + "_live_" + draw(24, ALNUM, s), 0.99),
    "openai": ("OPENAI_KEY", lambda s: "s" + "k-" + draw(48, ALNUM, s), 0.95),
    "openai_project": ("OPENAI_KEY", lambda s: "s" + "k-proj-" + draw(60, URLSAFE, s), 0.95),
    "openai_marked": (
        "OPENAI_KEY",
        lambda s: "s" + "k-" + draw(20, ALNUM, s) + "T3Blbk" + "FJ" + draw(20, ALNUM, s),
        0.99,
    ),
    "anthropic": ("ANTHROPIC_KEY", lambda s: "sk-" + "ant-api03-" + draw(93, URLSAFE, s), 0.95),
    "hugging_face": ("HUGGINGFACE_TOKEN", lambda s: "h" + "f_" + draw(34, ALNUM, s), 0.95),
    "jwt": (
        "JWT",
        lambda s: "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0In0." + draw(43, URLSAFE, s),
        0.99,
    ),
    "npm": ("NPM_TOKEN", lambda s: "np" + "m_" + draw(36, ALNUM, s), 0.95),
    "pypi": ("PYPI_TOKEN", lambda s: "py" + "pi-AgEIcHlwaS5vcmc" + draw(90, URLSAFE, s), 0.99),
    "sendgrid": ("SENDGRID_KEY", lambda s: "S" + "G." + draw(22, URLSAFE, s) + "." + draw(43, URLSAFE, s), 0.99),
    "twilio": ("TWILIO_KEY", lambda s: "S" + "K" + draw(32, HEX, s), 0.85),
    "telegram": ("TELEGRAM_TOKEN", lambda s: "123456789" + ":" + draw(35, URLSAFE, s), 0.99),
    "discord": (
        "DISCORD_TOKEN",
        lambda s: "M" + draw(23, ALNUM, s) + "." + draw(6, ALNUM, s) + "." + draw(27, URLSAFE, s),
        0.95,
    ),
    "digital_ocean": ("DIGITALOCEAN_TOKEN", lambda s: "do" + "p_v1_" + draw(64, HEX, s), 0.95),
    "mailchimp": ("MAILCHIMP_KEY", lambda s: draw(32, HEX, s) + "-us" + "12", 0.95),
    "square": ("SQUARE_SECRET", lambda s: "sq0" + "csp-" + draw(43, URLSAFE, s), 0.99),
    "groq": ("VENDOR_TOKEN", lambda s: "gs" + "k_" + draw(52, ALNUM, s), 0.95),
    "vault": ("VENDOR_TOKEN", lambda s: "hv" + "s." + draw(30, ALNUM, s), 0.95),
    "shopify": ("VENDOR_TOKEN", lambda s: "shp" + "at_" + draw(32, HEX, s), 0.95),
    "databricks": ("VENDOR_TOKEN", lambda s: "da" + "pi" + draw(32, HEX, s), 0.95),
    "postgres": (
        "CONNECTION_STRING",
        lambda s: "postgres" + "://bob:" + draw(12, ALNUM, s) + "@db.acme.net:5432/app",
        0.9,
    ),
    "mongodb": (
        "CONNECTION_STRING",
        lambda s: "mongodb" + "+srv://bob:" + draw(12, ALNUM, s) + "@c0.acme.net/?w=1",
        0.9,
    ),
    "redis": ("CONNECTION_STRING", lambda s: "redis" + "://:" + draw(12, ALNUM, s) + "@cache:6379/0", 0.9),
    "amqp": ("CONNECTION_STRING", lambda s: "amqps" + "://bob:" + draw(12, ALNUM, s) + "@mq.acme.net/vhost", 0.9),
    "mysql": ("CONNECTION_STRING", lambda s: "mysql" + "://root:" + draw(12, ALNUM, s) + "@127.0.0.1/app", 0.9),
    "jdbc": (
        "CONNECTION_STRING",
        lambda s: "jdbc" + ":postgresql://db/app?user=bob&pass" + "word=" + draw(12, ALNUM, s),
        0.9,
    ),
    "ado": (
        "CONNECTION_STRING",
        lambda s: "Server=tcp:db,1433;Database=app;User Id=bob;Pass" + "word=" + draw(12, ALNUM, s) + ";Encrypt=True",
        0.9,
    ),
    "private_key": (
        "PRIVATE_KEY",
        lambda s: (
            "-----BEGIN RSA PRIV" + "ATE KEY-----\n" + draw(64, ALNUM, s) + "\n-----END RSA PRIV" + "ATE KEY-----"
        ),
        0.99,
    ),
    "openssh_key": (
        "PRIVATE_KEY",
        lambda s: (
            "-----BEGIN OPENSSH PRIV"
            "ATE KEY-----\r\n" + draw(64, ALNUM, s) + "\r\n-----END OPENSSH PRIV" + "ATE KEY-----"
        ),
        0.99,
    ),
    "pgp_key": (
        "PRIVATE_KEY",
        lambda s: (
            "-----BEGIN PGP PRIV"
            "ATE KEY BLOCK-----\n\n" + draw(64, ALNUM, s) + "\n-----END PGP PRIV" + "ATE KEY BLOCK-----"
        ),
        0.99,
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_found_whole(name: str) -> None:
    category, make, score = SHAPES[name]
    secret = make(1)
    text = f"Use this one: {secret} and tell nobody."

    findings = detect(text)

    assert found(text) == [(category, secret)]
    assert findings[0].score >= score


@pytest.mark.parametrize("name", SHAPES)
def test_no_reason_holds_any_part_of_the_secret(name: str) -> None:
    secret = SHAPES[name][1](2)
    for finding in detect(f"Here: {secret} ."):
        assert all(secret[-10:] not in reason and secret[8:20] not in reason for reason in finding.reasons)


NAMED = [
    ('password = "{}"', "hunter2", "PASSWORD"),
    ("password = '{}'", "hunter2", "PASSWORD"),
    ("password := `{}`", "hunter2", "PASSWORD"),
    ('"password": "{}",', "hunter2", "PASSWORD"),
    (r"{{\"password\": \"{}\"}}", "hunter2", "PASSWORD"),
    ("DB_PASSWORD={}\nDEBUG=1", "hunter2", "PASSWORD"),
    ("username: bob password: {}", "hunter2", "PASSWORD"),
    ('contraseña: "{}"', "hünter2ß", "PASSWORD"),
    ("if (password == '{}') {{", "hunter2", "PASSWORD"),
    ("if ('{}' == my_password) {{", "hunter2pass7", "PASSWORD"),
    ("my password is {}, please keep it", "Tr0ub4dor&3", "PASSWORD"),
    ("mysql --password {} -h db", "s3cretpw1", "PASSWORD"),
    ("curl -u {} https://x.org", "admin:hunter22", "BASIC_AUTH"),
    ("api_key: {}", draw(32, HEX), "API_KEY"),
    ('const apiKey = "{}";', draw(24), "API_KEY"),
    ("SECRET_KEY={}\n", draw(16), "API_KEY"),
    ("https://x.org/?access_token={}&page=2", draw(24), "API_KEY"),
    ("Authorization: Bearer {}", draw(40), "API_KEY"),
    ("The API key for staging is {}.", draw(32), "API_KEY"),
    ("aws_secret_access_key = {}\n", draw(40, ALNUM + "/+"), "AWS_SECRET_KEY"),
    ("aws key = '{}'", draw(40, ALNUM + "/+"), "AWS_SECRET_KEY"),
    ("key for prod: {}", draw(32), "HIGH_ENTROPY"),
    ("the login code <{}> works", draw(24), "HIGH_ENTROPY"),
    ('x = "{}"', draw(40), "HIGH_ENTROPY"),
    ('x = "{}"', draw(36, HEX), "HIGH_ENTROPY"),
    ("//registry.npmjs.org/:_authToken={}", "0a1b2c3d-0a1b-4c3d-8a1b-0a1b2c3d4e5f", "NPM_TOKEN"),
]


@pytest.mark.parametrize(("template", "secret", "category"), NAMED)
def test_a_named_or_random_value_is_found_without_its_quotes(template: str, secret: str, category: str) -> None:
    text = template.format(secret)
    assert found(text) == [(category, secret)]


CLEAN = [
    "",
    "Password: required",
    "The secret: be kind to your keys, and never share a token of your trust.",
    "password = 'xxxxxxxx'",
    "password = '********'",
    'api_key = "<your-key>"',
    'api_key = "your-api-key-here"',
    'token: "{{ vault_token }}"',
    "password = ${DB_PASSWORD}",
    "password = os.environ['PW']",
    "password = get_password()",
    'password = "example"',
    'password = "Please enter your password"',
    "password_file: /run/secrets/database1",
    'secretName: "my-tls-secret-1"',
    "max_tokens = 2048, token: 4096",
    "the token is GPT-2 and the key is 128-bit",
    "commit " + draw(40, HEX),
    "sha256: " + draw(64, HEX),
    f'"{draw(40, HEX)}"',
    "the key digest by sha256 is " + draw(64, HEX),
    'id = "550e8400-e29b-41d4-a716-446655440000"',
    "the key with id 550e8400-e29b-41d4-a716-446655440000",
    "key: lorem-ipsum-dolor-sit-amet-consectetur-2",
    "key file in /usr/local/share/applications/config-2",
    "https://example.com/a/b?c=d and ftp://files.example.com:21/pub",
    "https://user:password@host/",
    "postgres://${USER}:${PASSWORD}@host/db",
    'ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"',
    "gh" + "p_" + "x" * 36,
    "s" + "k-proj-your-api-key-goes-here",
    "task-management-and-risk-management-1",
    "Call me at 555-0100, I live at 10.0.0.1.",
    "Public address 8.8.8.8 is no secret.",
]


@pytest.mark.parametrize("text", CLEAN)
def test_placeholders_digests_and_prose_are_no_findings(text: str) -> None:
    assert found(text) == []


def test_an_unfinished_private_key_goes_to_the_end_of_the_text() -> None:
    block = "-----BEGIN PRIV" + "ATE KEY-----\nMIIEvQIBADANBg"
    assert found("see\n" + block) == [("PRIVATE_KEY", block)]


def test_a_private_key_in_a_service_account_file_is_found_with_its_escaped_line_ends() -> None:
    block = "-----BEGIN PRIV" + "ATE KEY-----\\n" + draw(64) + "\\n-----END PRIV" + "ATE KEY-----"
    text = '{"type": "service_account", "private_key": "' + block + '\\n"}'
    assert ("PRIVATE_KEY", block) in found(text)


def test_a_placeholder_password_with_a_real_user_is_weak() -> None:
    text = "postgres" + "://admin:password@host/db"
    [finding] = detect(text)
    assert finding.score == 0.6


def test_an_enclosing_secret_takes_in_what_it_holds() -> None:
    url = "postgres" + "://bob:gh" + "p_" + draw(36) + "@host/db"
    assert found(f"x {url} y") == [("CONNECTION_STRING", url)]


def test_a_known_shape_stands_over_the_name_of_its_value() -> None:
    secret = "AK" + "IA" + draw(16, UPPER)
    assert found(f'password = "{secret}"') == [("AWS_ACCESS_KEY", secret)]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_offsets_are_right_with_every_line_end(line_end: str) -> None:
    secrets = [SHAPES[name][1](3) for name in ("github", "stripe", "jwt")]
    text = line_end.join(["ünïcode 😀", *(f"x {secret} y" for secret in secrets), "end"])
    assert [value for _, value in found(text)] == secrets


def test_all_of_many_equal_secrets_are_found() -> None:
    secret = SHAPES["github"][1](4)
    text = f"é {secret} " * 500
    assert [value for _, value in found(text)] == [secret] * 500


PLACES = st.lists(
    st.tuples(
        st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\"'`"), max_size=40),
        st.sampled_from(sorted(SHAPES)),
        st.integers(0, 1_000_000),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(PLACES, st.text(max_size=20))
def test_every_inserted_secret_is_found_exactly(places: list[tuple[str, str, int]], rest: str) -> None:
    text = ""
    expected = []
    for noise, name, seed in places:
        secret = SHAPES[name][1](seed)
        # A space and a full stop keep the noise from becoming part of a name or a token.
        text += f"{noise} . "
        expected.append((SHAPES[name][0], (len(text), len(text) + len(secret))))
        text += secret + " . "
    text += rest

    spans = [(f.category, f.span) for f in detect(text)]

    assert [e for e in expected if e not in spans] == []


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_findings_stay_inside_the_text_in_order_and_apart(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    end = 0
    for finding in detect(text):
        assert finding.span is not None
        assert end <= finding.span[0] < finding.span[1] <= len(text)
        assert 0.0 < finding.score <= 1.0
        assert finding.category in DETECTOR.categories
        end = finding.span[1]


# Everything detect-secrets finds, line by line, but for what the filters in docs/detectors/secrets.md take out.
EQUAL = [
    *(f"secret here: {make(5)} ." for _, make, _ in SHAPES.values()),
    *(template.format(secret) for template, secret, _ in NAMED),
    "ibm_api_key = " + draw(44, URLSAFE),
    "cos_secret_access_key: " + draw(48, HEX),
    "softlayer_api_key = " + draw(64, LOWER),
    "https://api.softlayer.com/soap/v3.1/" + draw(64, LOWER),
    "cloudant_password = '" + draw(64, HEX) + "'",
    "https://acct:" + draw(64, HEX) + "@acct.cloudant.com",
    "artifactory: AK" + "C" + draw(20),
    'secret("hunter2x");',
    'private_key "hunter2x";',
    "password => 'hunter2x'",
    "BEGIN EC PRIV" + "ATE KEY",
    "PuTTY-User-Key-" + "File-2: ssh-rsa",
    "glcb" + "t-" + draw(25),
    "GR13" + "48941" + draw(22),
    "http://bob:hunter2@host",
    "host 8.8.8.8 is up",
]


def test_what_detect_secrets_finds_is_found() -> None:
    everything = SecretsDetector(plugins={"deny": []})
    plugins = {name: kind() for name, kind in secrets_plugins.installed().items()}
    finders = set()
    with transient_settings({"plugins_used": [], "filters_used": []}):
        for text in EQUAL:
            covered = {at for f in detect(text, everything) if f.span for at in range(*f.span)}
            start = 0
            for line in text.splitlines(keepends=True):
                for name, plugin in plugins.items():
                    for secret in plugin.analyze_line(filename="f", line=line.rstrip(), line_number=1):
                        # Artifactory's takes the space around the token in, JWT's the full stop behind it.
                        value = secret.secret_value.strip(' ."')
                        at = start + line.index(value)
                        finders.add(name)
                        assert covered.issuperset(range(at, at + len(value))), name
                start += len(line)
    assert finders == set(plugins)


def test_every_installed_plugin_has_a_shape() -> None:
    assert {shape.plugin for shape in shipped() if shape.plugin} == set(secrets_plugins.installed())


def test_plugins_see_small_windows_of_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    ask = secrets_plugins.SecondOpinion.confirms

    def watch(self: secrets_plugins.SecondOpinion, name: str, window: str) -> bool:
        seen.append((name, len(window)))
        return ask(self, name, window)

    monkeypatch.setattr(secrets_plugins.SecondOpinion, "confirms", watch)
    hostile = 'password="' + "password" * 60 + '" ' + "password" * 50 + ' = "hunter2" aws' + " key" * 500
    hostile += " eyJhbGciOiJub25lIn0.eyJhIjoxfQ." + "eyJ" * 2_000
    for _ in range(3):
        hostile += hostile
    detect(hostile)
    assert seen
    assert max(size for name, size in seen if name == "KeywordDetector") < 260
    assert max(size for name, size in seen if name == "JwtTokenDetector") < 60
    assert sum(size for _, size in seen) <= len(hostile)


@pytest.mark.parametrize(
    "unit",
    [
        "password=",
        "eyJ",
        "://a:",
        "-----BEGIN ",
        "sk-",
        "key ",
        "user=b;",
        'password="',
        "aws key ",
        "a.b.c",
        "ghp_",
        "sig=",
    ],
)
def test_questions_asked_grow_with_the_text(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    judge = SecretsDetector._judge

    def count(self: SecretsDetector, order: int, shape: Shape, text: str, match: Match) -> Iterator[Candidate]:
        counts[-1] += 1 + match.end - match.start
        return judge(self, order, shape, text, match)

    monkeypatch.setattr(SecretsDetector, "_judge", count)
    for size in (2_000, 20_000):
        counts.append(0)
        detect((unit * size)[:size])
    # What the questions look at is at most a few times the text, however long it is.
    assert counts[0] <= 12 * 2_000
    assert counts[1] <= 12 * 20_000


def test_plugins_can_be_denied_and_allowed() -> None:
    secret = SHAPES["github"][1](6)
    text = f"{secret} password = 'hunter2'"
    alone = SecretsDetector(plugins=["github_token", "GitHubTokenDetector"])
    without = SecretsDetector(plugins={"deny": ["github_token", "GitHubTokenDetector"]})
    unconfirmed = SecretsDetector(plugins={"deny": ["GitHubTokenDetector"]})
    by_plugin = SecretsDetector(plugins={"allow": ["GitHubTokenDetector"]})

    assert found(text, alone) == [("GITHUB_TOKEN", secret)]
    assert found(text, without) == [("PASSWORD", "hunter2")]
    assert detect(secret, unconfirmed)[0].score == 0.95
    assert found(text, by_plugin) == [("GITHUB_TOKEN", secret)]


def test_public_addresses_are_found_when_asked_for() -> None:
    text = "ping 8.8.8.8 and 10.0.0.1"
    assert found(text, SecretsDetector(plugins=["IPPublicDetector"])) == [("PUBLIC_IP", "8.8.8.8")]


def test_entropy_can_be_off_and_has_limits() -> None:
    text = "key for prod: " + draw(32)
    assert found(text, SecretsDetector(entropy=False)) == []
    assert found(text, SecretsDetector(entropy={"near": 6.0})) == []
    assert found(text, SecretsDetector(entropy={"shortest": 40})) == []
    assert len(found(text, SecretsDetector(entropy={"near": 2.0, "base64": 4.0, "hex": 3.0}))) == 1


def test_allowed_values_are_no_findings() -> None:
    one, two = SHAPES["stripe"][1](1), SHAPES["stripe"][1](2)
    assert found(f"{one} {two}", SecretsDetector(allow_list=[one])) == [("STRIPE_KEY", two)]


def test_own_patterns_are_found_with_their_group() -> None:
    detector = SecretsDetector(
        patterns=[{"id": "acme", "category": "ACME_KEY", "pattern": r"acme:(\d{6})", "score": 0.8}]
    )
    [finding] = detect("é acme:123456!", detector)
    assert (finding.category, finding.score, finding.span, finding.reasons) == ("ACME_KEY", 0.8, (7, 13), ("acme",))
    assert "ACME_KEY" in detector.categories


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"plugins": "AWSKeyDetector"}, "plugins.allow is of type str"),
        ({"plugins": ["AWSKeyDetektor"]}, "did you mean 'AWSKeyDetector'"),
        ({"plugins": {"allow": [], "deny": []}}, "plugins is a list of names"),
        ({"plugins": {"deny": [3]}}, r"plugins.deny\[0\] is of type int"),
        ({"entropy": "yes"}, "entropy is of type str"),
        ({"entropy": {"bas64": 4}}, "did you mean 'base64'"),
        ({"entropy": {"hex": float("nan")}}, "entropy.hex is nan"),
        ({"entropy": {"hex": True}}, "entropy.hex is True"),
        ({"entropy": {"shortest": 2}}, "entropy.shortest is 2"),
        ({"allow_list": "abc"}, "allow_list is of type str"),
        ({"allow_list": [None]}, r"allow_list\[0\]"),
        ({"patterns": "x"}, "patterns is of type str"),
        ({"patterns": ["x"]}, r"patterns\[0\] is of type str"),
        ({"patterns": [{"id": "a", "category": "A"}]}, r"patterns\[0\].pattern is missing"),
        ({"patterns": [{"id": "a", "category": "A", "pattern": "x", "skore": 1}]}, "did you mean 'score'"),
        ({"patterns": [{"id": "a", "category": "acme", "pattern": "x"}]}, "upper case"),
        ({"patterns": [{"id": "a", "category": "A", "pattern": "x", "score": 2}]}, "score is 2"),
        ({"patterns": [{"id": "jwt", "category": "A", "pattern": "x"}]}, "is taken"),
        ({"patterns": [{"id": "a", "category": "A", "pattern": "(?=x)"}]}, "RE2 does not accept"),
        ({"patterns": [{"id": "a", "category": "A", "pattern": "x*"}]}, "matches the empty text"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_what_would_be_right(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        SecretsDetector(**options)  # type: ignore[arg-type]


def test_without_detect_secrets_the_error_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detect_secrets", None)
    with pytest.raises(MissingExtraError, match=r"llmguard\[secrets\]"):
        SecretsDetector()


def test_it_pickles_and_serves_threads() -> None:
    detector = pickle.loads(pickle.dumps(SecretsDetector(allow_list=["hunter2"])))
    texts = [f"{SHAPES[name][1](8)} password='hunter2'" for name in sorted(SHAPES)]
    alone = [detect(text, detector) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: detect(text, detector), texts)) == alone
    assert [list(findings) for findings in detector.detect([Text(text) for text in texts])] == alone
    assert all(
        "hunter2" not in text[slice(*f.span)] for text, fs in zip(texts, alone, strict=True) for f in fs if f.span
    )


def test_the_docs_name_every_category() -> None:
    page = (Path(__file__).parents[2] / "docs" / "detectors" / "secrets.md").read_text(encoding="utf-8")
    table = page.split("## Categories and scores")[1].split("## Options")[0]
    assert set(re.findall(r"\b[A-Z][A-Z0-9_]{2,}\b", table)) == DETECTOR.categories


PROSE = (
    "When the committee met on Tuesday, the members discussed the new library building and how it could serve the "
    "town's children, who don't have many places to read after school. They said: \"We'll look at the costs\" (twice)."
)


@pytest.mark.parametrize("name", SHAPES)
def test_a_key_is_held_back_from_its_first_character_wherever_it_is_cut(name: str) -> None:
    secret = SHAPES[name][1](8)
    text = f"It's this one, {secret}"
    start = text.index(secret)

    for cut in range(start + 1, len(text) + 1):
        assert DETECTOR.settled(text[:cut]) <= start

    check_growth(DETECTOR, text + " and no other.", ["=", "." + draw(30), "@host/db"], cuts=30)


@pytest.mark.parametrize(("template", "secret", "category"), NAMED)
def test_a_named_value_is_held_back_wherever_it_is_cut(template: str, secret: str, category: str) -> None:
    text = "Hi. " + template.format(secret)
    start = text.index(secret)

    for cut in range(start + 1, start + len(secret) + 1):
        assert DETECTOR.settled(text[:cut]) <= start

    check_growth(DETECTOR, text, [secret, "' == password", '";\n', " is " + draw(24)], cuts=40)


@pytest.mark.parametrize("text", [text for text in CLEAN if text])
def test_what_only_looks_like_a_secret_keeps_the_promises_too(text: str) -> None:
    check_growth(DETECTOR, text, [draw(40), "' == password", "@x.org"], cuts=12)


def test_prose_is_held_back_by_a_word_at_most() -> None:
    held = [cut - DETECTOR.settled(PROSE[:cut]) for cut in range(len(PROSE) + 1)]
    assert sum(held) / len(held) < 4
    assert max(held) <= len("discussed ") + 1
    assert DETECTOR.settled(PROSE + " So") >= len(PROSE)


def test_an_unfinished_private_key_is_held_back_from_its_header() -> None:
    block = "-----BEGIN PRIV" + "ATE KEY-----\n" + f"{draw(64)}\n" * 40
    text = "Here it is:\n" + block
    assert DETECTOR.settled(text) == text.index("-")
    assert DETECTOR.settled(text + "-----END PRIV" + "ATE KEY-----\nThat was it, ") > len(text)


def test_prose_is_looked_at_again_for_a_line_at_most() -> None:
    text = f"{PROSE}\n" * 20 + PROSE
    for cut in range(len(text) - len(PROSE), len(text)):
        settled = DETECTOR.settled(text[:cut])
        assert settled - 122 <= DETECTOR.context(text[:cut], settled) <= settled


FRAGMENTS = st.one_of(
    st.text(alphabet="ab1Z-_=:'\"`; \n.é/\u3000", max_size=8),
    st.sampled_from([template.format(secret) for template, secret, _ in NAMED]),
    st.sampled_from(CLEAN + EQUAL),
    st.sampled_from(["password", "key", "token ", "'", '"', " == ", "; ", "://", "bob:", "@", "is ", "pa\u017fsword"]),
    st.tuples(st.sampled_from(sorted(SHAPES)), st.integers(0, 9), st.integers(1, 200)).map(
        lambda made: SHAPES[made[0]][1](made[1])[: made[2]]
    ),
)
OWN = SecretsDetector(
    plugins={"deny": []},
    allow_list=["hunter2"],
    patterns=[
        {"id": "letters", "category": "ACME_KEY", "pattern": r"(?i)acme_([\pL]{3,5})\b"},
        {"id": "line", "category": "ACME_LINE", "pattern": r"(?m)^key: (.*)$"},
        {"id": "posix", "category": "ACME_WORD", "pattern": r"\B-[[:alpha:]\x{e9}]+\b"},
    ],
)


@settings(max_examples=60, deadline=None)
@given(st.lists(FRAGMENTS, max_size=5), st.lists(FRAGMENTS, max_size=4), st.sampled_from([DETECTOR, OWN]))
def test_what_is_settled_stays_whatever_follows(
    fragments: list[str], endings: list[str], detector: SecretsDetector
) -> None:
    check_growth(detector, "".join(fragments), endings)


def test_a_pattern_that_cannot_be_read_leaves_nothing_settled() -> None:
    detector = SecretsDetector(patterns=[{"id": "acme", "category": "ACME_KEY", "pattern": r"acme(?i)[0-9a-f]{6}"}])
    assert (detector.settled("a line of prose. "), detector.context("a line of prose. ", 7)) == (0, 0)
    check_growth(detector, "an acme012DEF and acme0")
