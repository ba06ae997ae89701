"""``llmguard models``: which models there are, what they say of themselves, and models of others made ours."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from llmguard.errors import ConfigurationError
from llmguard.inference.store import bundled, open_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmguard.export.parity import Bound, Parity
    from llmguard.inference.card import Card

app = typer.Typer(name="models", no_args_is_help=True, help="Look at models, fetch them, export and quantise them.")

_Source = Annotated[str, typer.Argument(metavar="NAME|DIR|hf://OWNER/NAME@COMMIT", help="A model.")]
_Texts = Annotated[
    Path | None, typer.Option("--texts", metavar="FILE", help="Texts to find INT8's ranges on, one a line.")
]
_Bits = Annotated[int, typer.Option(min=7, max=8, help="Of INT8's weights; 7 for processors without VNNI.")]
_Mean = Annotated[float, typer.Option(min=0, max=1, help="INT8: most mean difference of a probability.")]
_Agreement = Annotated[float, typer.Option(min=0, max=1, help="INT8: least share of labels that agree.")]


@app.command("list")
def names() -> None:
    """Lists the models in this installation."""
    table = Table("model", "version", "kind", "precisions", "heads")
    for name in bundled():
        card = open_model(name).card
        heads = ", ".join(head.name for head in card.heads)
        table.add_row(card.name, card.version, card.kind, ", ".join(card.graphs) or "—", heads)
    Console(markup=False, highlight=False).print(table)


@app.command()
def info(model: _Source) -> None:
    """Prints a model's card, after its files were checked."""
    typer.echo(open_model(model).card.text(), nl=False)


@app.command()
def verify(model: _Source) -> None:
    """Checks the sha256 of every file that a model's card names."""
    found = open_model(model)
    typer.echo(
        f"{found.path}: {found.card.name!r} version {found.card.version!r}: {len(found.card.files)} files are good"
    )


@app.command()
def pull(
    source: Annotated[str, typer.Argument(metavar="hf://OWNER/NAME@COMMIT[#FOLDER]")],
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that is not there yet.")],
) -> None:
    """Copies a model from the Hugging Face hub into a directory, checked."""
    from llmguard.export.directory import copy

    found = copy(open_model(source), target)
    typer.echo(f"{target}: {found.card.name!r} version {found.card.version!r}")


@app.command()
def export(
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A directory that is not there yet.")],
    detoxify: Annotated[
        str | None, typer.Option(metavar="RELEASE|PATH", help="original, unbiased, multilingual, or a checkpoint.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Configuration and tokenizer of the checkpoint.")
    ] = None,
    hf: Annotated[str | None, typer.Option(metavar="DIR|REPO", help="A sequence or token classifier.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of the repository.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32, fp16, int8; all by default.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Of a window, if fewer than the model allows.")] = None,
    texts: _Texts = None,
    bits: _Bits = 8,
    max_mean: _Mean = 0.02,
    min_agreement: _Agreement = 0.98,
) -> None:
    """Makes a model directory from a PyTorch model, and prints how near it is to the original."""
    from llmguard.export import build, huggingface
    from llmguard.export import detoxify as checkpoints

    if (detoxify is None) == (hf is None):
        raise typer.BadParameter("give one of --detoxify and --hf")
    if detoxify is not None:
        original = checkpoints.load(detoxify, config=str(config) if config else None, max_tokens=max_tokens)
    else:
        original = huggingface.load(str(hf), revision=revision, max_tokens=max_tokens)
    card = build.export(
        original,
        target,
        precisions=precision or ("fp32", "fp16", "int8"),
        bounds=_bounds(max_mean, min_agreement),
        bits=bits,
        report=_print,
        **_calibration(texts),
    )
    _done(target, card)


@app.command()
def quantize(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A model directory with a float32 graph.")],
    texts: _Texts = None,
    bits: _Bits = 8,
    max_mean: _Mean = 0.02,
    min_agreement: _Agreement = 0.98,
    as_json: Annotated[bool, typer.Option("--json", help="Print the parity as JSON.")] = False,
) -> None:
    """Adds an INT8 graph to a model directory, and prints how near it is to the float32 one."""
    from llmguard.export import build

    report = (lambda parity: typer.echo(json.dumps(dataclasses.asdict(parity)))) if as_json else _print
    bounds = _bounds(max_mean, min_agreement)
    card = build.add_int8(open_model(str(model)), bounds=bounds, bits=bits, report=report, **_calibration(texts))
    if not as_json:
        _done(model, card)


def _bounds(mean: float, agreement: float) -> Mapping[str, Bound]:
    from llmguard.export.parity import BOUNDS, Bound

    return {**BOUNDS, "int8": Bound(mean=mean, agreement=agreement)}


def _calibration(path: Path | None) -> dict[str, list[str]]:
    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"can't be read ({type(error).__name__})", source=str(path)) from None
    found = [line for line in lines if line.strip()]
    if not found:
        raise ConfigurationError("holds no text", source=str(path))
    return {"calibration": found}


def _print(parity: Parity) -> None:
    typer.echo(
        f"{parity.precision}: on {parity.texts} texts the probabilities differ by {parity.greatest:.2g} at most and "
        f"{parity.mean:.2g} on average; {parity.agreement:.1%} of the labels agree"
    )


def _done(target: Path, card: Card) -> None:
    sizes = (f"{name} {(target / name).stat().st_size / 1e6:.1f} MB" for name in card.files)
    typer.echo(f"{target}: {card.name!r}: {', '.join(sizes)}")
