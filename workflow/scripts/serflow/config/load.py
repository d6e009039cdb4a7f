"""Load `config.yaml` and the studies that it names, and check that they agree."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from serflow.config.asr import Recogniser
from serflow.config.base import validated
from serflow.config.site import SiteConfig
from serflow.config.study import StudyConfig
from serflow.errors import UserError


class _UniqueKeys(yaml.CSafeLoader):
    """YAML in which a repeated key is an error; plain YAML keeps the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # the parent's own error says more
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key '{key.value}' is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises
    ------
    UserError
        It is not YAML, or has a key twice.
    """
    try:
        # A safe loader: no tag of the file makes an object.
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (yaml.YAMLError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{path} is not YAML in UTF-8: {error}") from None


def load_study(path: Path) -> StudyConfig:
    """Read one study file."""
    study = validated(StudyConfig, read_yaml(path), str(path))
    # A part of a study may lack the fusion that the whole one declares.
    if study.primary is None and len(study.fusions) > 1:
        raise UserError(
            f"{path}: the study has several fusions: declare the one that the report leads with as "
            f"'primary' ({', '.join(study.fusions)})"
        )
    return study


def load(config: dict[str, Any], folder: Path) -> tuple[SiteConfig, dict[str, StudyConfig]]:
    """Validate the machine's settings and load the studies that they name.

    Parameters
    ----------
    config : dict
        `config.yaml` as Snakemake hands it over, command-line values merged in.
    folder : Path
        Where the study files lie.

    Raises
    ------
    UserError
        For unknown keys, unknown studies, and studies that give one corpus or one transcription
        two meanings: those results are shared between studies.
    """
    site = validated(SiteConfig, config, "config.yaml")
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    studies = {}
    for name in site.studies:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(known)}"
            raise UserError(f"config.yaml: studies: there is no {folder / name}.yaml; {hint}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name in ("corpora", "models"):
            raise UserError(
                f"config.yaml: studies: {name!r} cannot name a study, as it becomes a folder of "
                "results: use letters, digits, _ and -, and neither 'corpora' nor 'models'"
            )
        study = load_study(known[name])
        if site.systems is not None:
            study = _only(study, site.systems, name)
        overrides: dict[str, Any] = {}
        if site.seeds is not None:
            overrides["seeds"] = site.seeds
        if site.shards is not None:
            overrides["asr"] = {
                name: asr.model_copy(update={"shards": site.shards})
                if isinstance(asr, Recogniser)
                else asr
                for name, asr in study.asr.items()
            }
        studies[name] = study.model_copy(update=overrides)
    _check_systems(site, studies)
    _check_shared(studies)
    return site, studies


def _only(study: StudyConfig, systems: list[str], name: str) -> StudyConfig:
    wanted = [system for system in systems if system in study.systems]
    if not wanted:
        raise UserError(
            f"config.yaml: systems: the study {name} has none of {', '.join(systems)}; "
            f"it has {', '.join(study.systems)}"
        )
    try:
        return study.only(wanted)
    except ValidationError as error:
        fault = error.errors()[0]["msg"]
        raise UserError(
            f"config.yaml: systems: {', '.join(wanted)} alone make no study {name}: {fault}"
        ) from None


def _check_systems(site: SiteConfig, studies: dict[str, StudyConfig]) -> None:
    known = list(dict.fromkeys(name for study in studies.values() for name in study.systems))
    for name in site.systems or []:
        if name not in known:
            raise UserError(
                f"config.yaml: systems: no study has {name!r}; there are {', '.join(known)}"
            )


def _check_shared(studies: dict[str, StudyConfig]) -> None:
    seen: dict[tuple[str, str], tuple[str, Any]] = {}
    for study_name, study in studies.items():
        shared = [("corpus", name, block) for name, block in study.corpora.items()]
        shared += [("corpus", name, block) for name, block in study.sound_corpora().items()]
        shared += [("asr", name, block) for name, block in study.asr.items()]
        for kind, name, block in shared:
            first_study, first = seen.setdefault((kind, name), (study_name, block))
            if first != block:
                raise UserError(
                    f"studies {first_study} and {study_name} describe {kind} '{name}' differently; "
                    "its results are shared, so give one of them another name"
                )


def is_local(model: str) -> bool:
    """Whether a model's name is a path rather than a hub id ('owner/name')."""
    return model.startswith(("/", "./", "../", "~", "results/")) or model.endswith(".nemo")


def hub_folder(model: str) -> str:
    """Folder below `results/models` that holds a fetched hub model."""
    return "hub/" + model.replace("/", "--")
