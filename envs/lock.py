"""Pin the newest allowed dependencies: requirements.lock, and the same pins in envs/*.yaml.

`make lock` runs it. It installs pyproject.toml's dependencies into a temporary environment and
records what came. torch's build ("+cpu", "+cu130") is left open: it follows the machine, and torch
itself pins the libraries of its CUDA builds.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What each environment needs, for sites that run `snakemake --software-deployment-method conda`.
ANALYSIS = [
    "jinja2",
    "jiwer",
    "librosa",
    "matplotlib",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "requests",
    "scikit-learn",
    "scipy",
    "soundfile",
    "soxr",
    "tabulate",
    "tqdm",
    "whisper_normalizer",
    "espeakng-loader",
]
ENVIRONMENTS = {
    "analysis": ANALYSIS,
    "train": [
        *ANALYSIS,
        "accelerate",
        "bitsandbytes",
        "huggingface_hub",
        "peft",
        "psutil",
        "torch",
        "transformers",
    ],
    "asr": [
        *ANALYSIS,
        "huggingface_hub",
        "nemo_toolkit[asr]",
        "silero-vad",
        "torch",
        "transformers",
    ],
}


def dependencies() -> list[str]:
    """Direct and development dependencies, as pyproject.toml states them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]


def frozen(requirements: list[str]) -> list[str]:
    """Every package that installing `requirements` brings, as `name==version`."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", *requirements], check=True)
        out = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout
    # A GPU machine's extra libraries are torch's business; see the module's first lines.
    lines = [re.sub(r"\+\w+$", "", line) for line in out.splitlines()]
    return [line for line in lines if not line.startswith(("nvidia-", "triton=="))]


def key(name: str) -> str:
    """A package's normalised name, without extras."""
    return re.sub(r"[-_.]+", "-", name.split("[")[0]).lower()


def environment(names: list[str], lock: list[str]) -> str:
    """A conda environment file with the lock file's pins."""
    pins = {key(line.split("==")[0]): line.split("==")[1] for line in lock}
    lines = [f"      - {name}=={pins[key(name)]}" for name in names]
    head = "channels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n"
    return head + "\n".join(lines) + "\n"


def main() -> None:
    """Write the lock file and the environments."""
    lock = frozen(dependencies())
    (ROOT / "requirements.lock").write_text("\n".join(lock) + "\n", encoding="utf-8")
    for name, packages in ENVIRONMENTS.items():
        (ROOT / "envs" / f"{name}.yaml").write_text(environment(packages, lock), encoding="utf-8")


if __name__ == "__main__":
    main()
