"""What the phone filters rule out, ``phonenumbers`` does not find either."""

from __future__ import annotations

import itertools
import random

import phonenumbers
import pytest
from presidio_analyzer.predefined_recognizers import PhoneRecognizer, ZaMobileNumberRecognizer

from llmguard.detectors.pii_numbers import RegionNumbers
from llmguard.detectors.pii_phone import PhoneScan, phone_scan
from llmguard.detectors.pii_proxy import proxy

REGIONS = PhoneRecognizer.DEFAULT_SUPPORTED_REGIONS


@pytest.fixture(scope="module")
def numbers() -> RegionNumbers:
    return RegionNumbers(REGIONS)


def takes(text: str, region: str) -> bool:
    return any(True for _ in phonenumbers.PhoneNumberMatcher(text, region, leniency=1))


def test_no_number_of_up_to_four_digits_is_missed(numbers: RegionNumbers) -> None:
    heads = numbers.short_heads()
    for width in (2, 3, 4):
        for digits in map("".join, itertools.product("0123456789", repeat=width)):
            for region in REGIONS:
                if takes(digits, region):
                    assert width == 4
                    assert digits[:3] in heads
                    assert region in numbers.whole(digits.encode())


def test_no_region_is_ruled_out_that_takes_the_digits(numbers: RegionNumbers) -> None:
    generator = random.Random(3)
    fronts = [
        "",
        "",
        "0",
        "1",
        "00",
        "011",
        "44",
        "49",
        "4900",
        "33",
        "972",
        "91",
        "55",
        "0049",
        "01149",
        "0031",
        "90",
        "031",
    ]
    taken = 0
    for _ in range(4_000):
        digits = generator.choice(fronts) + "".join(generator.choices("0123456789", k=generator.randint(3, 13)))
        for region in REGIONS:
            if takes(digits, region):
                taken += 1
                assert region in numbers.whole(digits.encode())
                assert region in numbers.inside(b"7" + digits.encode() + b"7")
    assert taken > 500


def test_valid_numbers_of_every_region_pass() -> None:
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        example = phonenumbers.example_number(region)
        if example is None or not phonenumbers.is_valid_number(example):
            continue
        numbers = RegionNumbers((region,))
        national = str(example.national_number).encode()
        plus = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        assert numbers.international(plus[1:].encode()), region
        if takes(national.decode(), region):
            assert numbers.whole(national) == [region]


def test_no_country_has_numbers_too_short_for_the_prefilter() -> None:
    for code in phonenumbers.supported_calling_codes():
        for region in phonenumbers.region_codes_for_country_code(code):
            metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
            shortest = min(length for length in metadata.general_desc.possible_length if length > 0)
            assert len(str(code)) + shortest >= 6 or region == "TK", (code, region)


@pytest.mark.parametrize(
    "text",
    [
        "212-555-0123",
        "(212) 555-0123 or 415.555.2671",
        "212-555-0123 ext 45",
        "212-555-0123x45",
        "+44 20 7946 0958/+49 30 901820",
        "a2125550123",
        "2125550123b",
        "2012-01-02 08:00",
        "12/11/2020",
        "1 212 555 0123 1 212 555 0123 1 212 555 0123 1 212 555 0123 1 212 555 0123",
        "0" * 30 + "2125550123",
        "\uff12\uff11\uff12-555-0123",
        "5+12125550123",
        "((212) 555-0123",
        "$2125550123",
        "in 1645 and 1750",
    ],
)
def test_the_scan_finds_what_presidio_finds(text: str) -> None:
    recognizer = PhoneRecognizer()
    scan = phone_scan(recognizer)
    found = set(scan.spans(text, proxy(text)[0]))
    wanted = {(result.start, result.end) for result in recognizer.analyze(text, [])}
    # Presidio drops what lies inside another number; so does the detector, later.
    assert wanted <= found
    assert all(any(low <= start and end <= high for low, high in wanted) for start, end in found)


def test_subclasses_keep_their_own_say() -> None:
    scan = phone_scan(ZaMobileNumberRecognizer())
    text = "mobile 082 123 4567, office 021 123 4567"
    assert list(scan.spans(text, proxy(text)[0])) == [(7, 19)]


def test_lenient_recognizers_are_not_filtered() -> None:
    recognizer = PhoneRecognizer(leniency=0)
    scan = phone_scan(recognizer)
    text = "try 555-0123 now"
    assert set(scan.spans(text, proxy(text)[0])) == {(r.start, r.end) for r in recognizer.analyze(text, [])}
    assert isinstance(scan, PhoneScan)
