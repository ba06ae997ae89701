"""``llmguard eval --fairness`` as a user meets it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmguard.cli.main import app

# A detector that is unfair to one group: it knows a word of abuse, and takes "gay" for one.
UNFAIR = ("--detector", "keywords", "--options", json.dumps({"deny": ["vile", "gay"]}))


def run(*arguments: object) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["eval", "--fairness", *map(str, arguments)])


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def madlibs(tmp_path: Path) -> Path:
    terms = ("gay", "straight", "lesbian", "bisexual")
    nice = [{"text": f"Ada is a nice {term}", "label": 0, "labels": {"who": term}} for term in terms]
    vile = [{"text": f"Ada is a vile {term}", "label": 1, "labels": {"who": term}} for term in terms]
    return write(tmp_path / "madlibs.jsonl", *nice, *vile)


def test_figures_by_term_and_group_and_flips(madlibs: Path) -> None:
    result = run(*UNFAIR, "--data", madlibs, "--minimum", 1, "--group-by", "who", "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["texts"], said["positives"], said["judge"]) == (8, 4, {"keywords": "1"})
    assert said["files"] == [str(madlibs)]
    # All four vile texts score 1, and of the nice ones the gay one: 3 of 4 pairs right, and one tie.
    assert said["auc"] == 0.875
    gay, straight = said["terms"]["gay"], said["terms"]["straight"]
    aucs = {"subgroup_auc": 0.5, "bpsn_auc": 0.5, "bnsp_auc": 1.0}
    assert gay == {"texts": 2, "positives": 1} | aucs | {f"{name}_interval": None for name in aucs}
    assert said["auc_interval"][0] < 0.875 < said["auc_interval"][1]
    assert (straight["subgroup_auc"], straight["bpsn_auc"]) == (1.0, 1.0)
    assert straight["bnsp_auc"] == pytest.approx(1 - 0.5 / 3)
    assert said["groups"]["orientation.gay"] == said["groups"]["who=gay"] == gay
    assert said["worst"]["bpsn_auc"] == {"term": "gay", "auc": 0.5, "interval": None}
    flips = said["flips_by_term"]
    assert flips["gay"]["flip_rate"] == pytest.approx(0.5)
    assert flips["gay"]["mean_difference"] == pytest.approx(0.5)
    assert flips["straight"]["mean_difference"] < 0
    assert 0 < said["flips"]["flip_rate"] < 0.5
    assert said["flips"]["texts"] == 8


def test_a_table_on_stdout_and_a_bar_on_stderr(madlibs: Path) -> None:
    result = run(*UNFAIR, "--data", madlibs, "--minimum", 1)
    assert result.exit_code == 0
    for words in (
        "keywords 1 on 8 texts, 4 positive, AUC 0.875, interval 0.",
        "BPSN",
        "orientation.gay",
        "worst BPSN AUC: 0.500 (gay)",
        "flip",
        "per term",
    ):
        assert words in result.stdout
    assert "100%" in result.stderr or "/" in result.stderr
    few = run(*UNFAIR, "--data", madlibs, "--swaps", 0)
    assert "per term" not in few.stdout
    assert "No text could be swapped." in few.stdout


def test_a_policy_judges_by_its_actions(madlibs: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "name: unfair\nversion: '7'\nrules:\n  - {detector: keywords, stage: output, action: flag}\n"
        "detectors:\n  keywords: {deny: [gay, vile]}\n"
    )
    arguments = ("--policy", policy, "--data", madlibs, "--minimum", 1, "--json")
    said = json.loads(run(*arguments, "--role", "assistant").stdout)
    assert said["judge"] == {"unfair": "7"}
    assert said["worst"]["bpsn_auc"] == {"term": "gay", "auc": 0.5, "interval": None}
    assert said["flips_by_term"]["gay"]["flip_rate"] == pytest.approx(0.5)
    assert json.loads(run(*arguments).stdout)["flips"]["flip_rate"] == 0, "the rule is for another stage"


def test_in_context_and_other_terms(tmp_path: Path) -> None:
    data = write(
        tmp_path / "texts.jsonl",
        {"text": "black coffee is vile", "label": 1},
        {"text": "black people", "label": 0},
        {"text": "a Martian", "label": 0},
    )
    plain = json.loads(run(*UNFAIR, "--data", data, "--minimum", 1, "--json").stdout)
    strict = json.loads(run(*UNFAIR, "--data", data, "--minimum", 1, "--in-context", "--json").stdout)
    assert (plain["terms"]["black"]["texts"], strict["terms"]["black"]["texts"]) == (2, 1)
    terms = tmp_path / "terms.yaml"
    terms.write_text(
        "sources: {own: {title: t, licence: l, url: u}}\n"
        "dimensions: {planet: {mars: {own: {noun: [Martian]}}, venus: {own: {noun: [Venusian]}}}}\n"
    )
    own = json.loads(run(*UNFAIR, "--data", data, "--minimum", 1, "--lexicon", terms, "--json").stdout)
    assert list(own["terms"]) == ["Martian"]
    assert own["flips"]["swaps"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--detector"),
        (("--policy", "nonsense"), "nonsense"),
        (("--policy", "default", "--threshold", "0.9"), "--threshold"),
        (("--policy", "default", "--alias", "A=B"), "--alias"),
        (("--policy", "default", "--options", "{}"), "--options"),
        (("--policy", "default", "--role", "system"), "--role"),
        ((*UNFAIR, "--categories", "DENY"), "is neither found nor labelled"),
        ((*UNFAIR, "--group-by", "whom"), "did you mean 'who'"),
        ((*UNFAIR, "--lexicon", "none.yaml"), "none.yaml"),
        ((*UNFAIR, "--swaps", "-1"), "--swaps"),
        ((*UNFAIR, "--threshold", "2"), "outside [0, 1]"),
        ((*UNFAIR, "--batch-size", "0"), "--batch-size"),
    ],
)
def test_wrong_use_is_told(madlibs: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("--data", madlibs, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_texts_of_other_kinds_or_about_nobody_are_told(tmp_path: Path) -> None:
    spans = write(tmp_path / "spans.jsonl", {"text": "a gay man", "spans": []})
    assert "texts with a label, not on spans" in " ".join(run(*UNFAIR, "--data", spans).stderr.split())
    nobody = write(tmp_path / "nobody.jsonl", {"text": "the weather", "label": 0})
    assert "no text mentions a group of people" in " ".join(run(*UNFAIR, "--data", nobody).stderr.split())


@pytest.mark.skipif("LLMGUARD_DATA" not in os.environ, reason="LLMGUARD_DATA names no data directory")
def test_every_sentence_of_madlibs_is_of_a_term(tmp_path: Path) -> None:
    data = Path(os.environ["LLMGUARD_DATA"], "dev/toxicity/madlibs_4000.jsonl.gz")
    said = json.loads(run("--detector", "injection_rules", "--data", data, "--swaps", 0, "--json").stdout)
    assert len(said["terms"]) >= 50
    assert sum(term["texts"] for term in said["terms"].values()) >= 0.98 * said["texts"]
