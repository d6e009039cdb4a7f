"""Where models lie, are fetched to, and are unpacked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from serflow.acquisition.source import GB, Remote
from serflow.config.asr import AsrConfig, Recogniser
from serflow.config.load import hub_folder, is_local
from serflow.digests import canonical, digest
from serflow.errors import UserError
from serflow.plan.base import Settings

SONAR_FILE = "results/models/sonar-eng/model.json"
# What the rules of models.smk make.
MADE_MODELS = {
    "results/models/tiny-w2v-bert/model.json",
    "results/models/demo-llama/model.json",
    "results/models/demo-canary/model.nemo",
    SONAR_FILE,
}
# The English speech encoder; see serflow.nets.sonar_checkpoint.
SONAR = Remote(
    "sonar/spenc.eng.pt",
    ("https://dl.fbaipublicfiles.com/SONAR/spenc.eng.pt",),
    unverified="none is published",
    most=10 * GB,
)


class Models(Settings):
    """See `serflow.plan.Plan`."""

    def _check_models(self) -> None:
        """Snakemake says nothing of a missing input while its job's output is still there."""
        for name, study in self.studies.items():
            used = {f"systems.{s}": m for s, x in study.trained.items() for m in x.models()}
            used |= {f"asr.{n}": x.model for n, x in recognisers(study.asr).items()}
            for where, model in used.items():
                file = self.model_file(model)
                made = file in MADE_MODELS or file.startswith("results/models/hub/")
                if not made and not Path(file).is_file():
                    raise UserError(
                        f"studies/{name}.yaml: {where}.model is {model!r}, but there is no {file}; "
                        "correct it, or name the model's folder under 'models:' in config.yaml"
                    )

    def model_file(self, model: str) -> str:
        """The file that stands for a model as a rule's input; its folder holds the weights."""
        path = self.site.models.get(model, model)
        if path.startswith("~"):
            path = str(Path(path).expanduser())
        if model not in self.site.models and not is_local(model):
            return f"results/models/{hub_folder(model)}/model.json"
        if path.endswith(".nemo"):
            return path
        archives = sorted(Path(path).expanduser().glob("*.nemo"))
        for name in ("model.json", "config.json", "model_config.yaml"):
            if path.startswith("results/") or (Path(path).expanduser() / name).is_file():
                return f"{path.rstrip('/')}/{name}"
        return str(archives[0]) if len(archives) == 1 else f"{path.rstrip('/')}/config.json"

    def recogniser(self, asr: str) -> str:
        """The file that stands for an unpacked recogniser, as a rule's input."""
        file = self.model_file(self.asr[asr].model)
        return f"results/models/{nemo_folder(file)}/model.json" if _is_nemo(file) else file

    def nemo_archives(self) -> dict[str, str]:
        """Folder below results/models -> `.nemo` file that a rule unpacks there."""
        files = [self.model_file(asr.model) for asr in recognisers(self.asr).values()]
        return {nemo_folder(file): file for file in files if _is_nemo(file)}

    def hub_models(self) -> dict[str, str]:
        """Folder below results/models -> hub id, for every model that must be fetched."""
        names = [m for s in self.studies.values() for x in s.trained.values() for m in x.models()]
        names += [asr.model for asr in recognisers(self.asr).values()]
        return {hub_folder(m): m for m in names if not is_local(m) and m not in self.site.models}

    def sonar(self) -> str:
        """The settings of the download of SONAR's encoder."""
        return canonical({"remote": asdict(SONAR), "downloads": self.site.downloads})

    def encoders(self) -> dict[str, str]:
        """Name of a file of layer means -> the frozen encoder that is heard once for all."""
        return {encoder_key(system.model): system.model for system in self._heard_once()}

    def on_top_of(self, encoder: str) -> list[Any]:
        """The systems on top of an encoder that is heard once for all."""
        return [x for x in self._heard_once() if encoder_key(x.model) == encoder]

    def _heard_once(self) -> list[Any]:
        systems = [x for study in self.studies.values() for x in study.trained.values()]
        return [system for system in systems if "layer_means" in system.inputs]


def encoder_key(model: str) -> str:
    """A file name for a model's name."""
    return f"{Path(model).name}-{digest(model)[:8]}"


def recognisers(asr: dict[str, AsrConfig]) -> dict[str, Recogniser]:
    """Those that need a model and hear audio."""
    return {name: config for name, config in asr.items() if isinstance(config, Recogniser)}


def nemo_folder(file: str) -> str:
    """Folder below `results/models` that a `.nemo` file is unpacked in."""
    return f"nemo/{Path(file).stem}-{digest(file)[:8]}"


def _is_nemo(file: str) -> bool:
    return file.endswith(".nemo")
