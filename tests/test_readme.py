"""Every block of the README and of the page on the guard, run as printed."""

import re
import tomllib
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import typer

from llmguard import Guard, Policy
from llmguard.cli.main import app

README = Path("README.md").read_text(encoding="utf-8")
PAGES = [Path("docs", f"{name}.md").read_text(encoding="utf-8") for name in ("guard", "streaming", "clients")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README)
EXPECTED = re.compile(r"^\s*print\(.*\)\s+# (.*)$", re.MULTILINE)


def blocks(kind: str) -> list[str]:
    return [text for name, text in BLOCKS if name == kind]


def test_there_is_no_block_of_a_kind_that_is_not_run() -> None:
    assert {name for name, _ in BLOCKS} == {"console", "python", "yaml"}


@pytest.mark.parametrize(
    "block", [*blocks("python"), *(text for page in PAGES for name, text in BLOCK.findall(page) if name == "python")]
)
def test_python_prints_what_the_comments_say(block: str) -> None:
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - the README is ours
    assert printed.getvalue().splitlines() == EXPECTED.findall(block)
    assert EXPECTED.search(block)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_policies_load(block: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(block, encoding="utf-8")
    with Guard(Policy.load(file)) as guard:
        assert guard.check("Call Initech").blocked


@pytest.mark.parametrize("block", blocks("console"))
def test_commands_name_what_exists(block: str) -> None:
    extras = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    makefile = Path("Makefile").read_text()
    commands = [line.removeprefix("$ ").split("#")[0].strip() for line in block.splitlines() if line.startswith("$ ")]
    assert commands
    for command in commands:
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), command
        elif command.startswith("llmguard "):
            name, *words = command.split()[1:]
            known = {
                option for parameter in typer.main.get_command(app).commands[name].params for option in parameter.opts
            }
            assert {word for word in words if word.startswith("--")} <= known, command
        else:
            assert command.startswith("pip install"), command
            assert all(extra in extras for extra in re.findall(r"\[(\w+)\]", command)), command


def test_links_lead_somewhere() -> None:
    for page in (Path("README.md"), Path("CONTRIBUTING.md"), *Path("docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_example_is_short() -> None:
    (first, *_) = blocks("python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 10
