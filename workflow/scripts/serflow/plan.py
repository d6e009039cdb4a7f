"""What the rules ask of the settings: file names, canonical settings, code digests, resources.

Imported by the Snakefile, so nothing here imports pandas or torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serflow.acquisition.source import GB, Remote
from serflow.acquisition.sources import SOURCES, is_open, needs_a_licence
from serflow.config.asr import AsrConfig, Recogniser
from serflow.config.corpora import PUBLISHED, CorpusConfig
from serflow.config.grids import name_of, points_of
from serflow.config.load import hub_folder, is_local
from serflow.config.site import SiteConfig
from serflow.config.study import CONTRAST, StudyConfig
from serflow.config.submission import FINAL
from serflow.digests import canonical, digest
from serflow.errors import UserError
from serflow.invalidation import code_digest, tree_digest

# What the rules of models.smk make.
MADE_MODELS = {
    "results/models/tiny-w2v-bert/model.json",
    "results/models/demo-llama/model.json",
    "results/models/demo-canary/model.nemo",
    "results/models/sonar-eng/model.json",
}
# The English speech encoder; see serflow.nets.sonar_checkpoint.
SONAR = Remote(
    "sonar/spenc.eng.pt",
    ("https://dl.fbaipublicfiles.com/SONAR/spenc.eng.pt",),
    unverified="none is published",
    most=10 * GB,
)


class Plan:
    """The settings of one run, seen from the rules.

    Parameters
    ----------
    site : SiteConfig
    studies : dict of str to StudyConfig
    scripts : Path
        `workflow/scripts`.
    """

    def __init__(self, site: SiteConfig, studies: dict[str, StudyConfig], scripts: Path) -> None:
        self.site = site
        self.studies = dict(studies)
        self.scripts = scripts
        self.corpora: dict[str, CorpusConfig] = {}
        self.asr: dict[str, AsrConfig] = {}
        self._listings: dict[str, str] = {}
        for name, study in list(studies.items()):
            self.corpora.update(study.corpora)
            self.corpora.update(study.sound_corpora())
            self.asr.update(study.asr)
            for contrast in study.contrasts:
                self.studies[f"{name}{CONTRAST}{contrast}"] = study.contrast(contrast)
        self._check_models()
        self._check_corpora()
        for source, kind in PUBLISHED.items():
            self.corpora.setdefault(source, kind(source=source))

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

    def _check_corpora(self) -> None:
        for corpus in self.corpora:
            self._check_path_names(corpus)
        faults = [
            f"  {corpus}: {needs_a_licence(corpus, config.source)}"
            for corpus, config in self.corpora.items()
            if not self.corpus_folder(corpus)
        ]
        if faults:
            raise UserError(
                "config.yaml: these corpora are not downloaded, and `paths` does not say where "
                "they lie:\n" + "\n".join(faults)
            )

    def _check_path_names(self, corpus: str) -> None:
        """Refuse to download what is on the machine under a slightly different name."""
        source = self.corpora[corpus].source
        known = self.site.paths
        if known.get(corpus) or source == "demo":
            return
        strange = [name for name, path in known.items() if path and name not in self.corpora]
        named = [source] if source in strange else []
        named += difflib.get_close_matches(corpus, strange, n=1, cutoff=0.8)
        if named:
            raise UserError(
                f"config.yaml: there is paths.{named[0]}, and none for the corpus '{corpus}' of the "
                f"studies: rename it to '{corpus}' (the keys are the studies' names of corpora), or "
                "take it out"
            )

    def code(self, script: str, *modules: str) -> str:
        """Digest of a rule's script and all that it imports."""
        return code_digest(self.scripts, script, *modules)

    def corpus_folder(self, corpus: str) -> str:
        """Where a corpus lies: the user's own folder, or one made by a rule; '' where neither."""
        own = self.site.paths.get(corpus)
        return own or self._made_folder(corpus)

    def _made_folder(self, corpus: str) -> str:
        source = self.corpora[corpus].source
        if source == "demo":
            return f"results/corpora/{corpus}/source"
        return f"results/corpora/{corpus}/download" if is_open(source) else ""

    def corpus_source(self, corpus: str) -> list[str]:
        """The corpus's folder as a rule's input, where a rule makes it.

        Raises
        ------
        UserError
            Nobody makes it, and nobody says where it lies.
        """
        if self.site.paths.get(corpus):
            return []
        made = self._made_folder(corpus)
        if not made:
            raise UserError(f"corpus {needs_a_licence(corpus, self.corpora[corpus].source)}")
        return [made]

    def download(self, corpus: str) -> str:
        """The settings of a download: where it comes from, and where its archives are kept."""
        source = self.corpora[corpus].source
        return canonical(
            {
                "corpus": corpus,
                "source": asdict(SOURCES[source]),
                "downloads": self.site.downloads,
            }
        )

    def sonar(self) -> str:
        """The settings of the download of SONAR's encoder."""
        return canonical({"remote": asdict(SONAR), "downloads": self.site.downloads})

    def downloads(self, study: str) -> list[str]:
        """What is on record of a study's corpora that a rule downloads."""
        config = self.studies[study]
        return [
            f"results/corpora/{corpus}/download.json"
            for corpus, config in {**config.corpora, **config.sound_corpora()}.items()
            if not self.site.paths.get(corpus) and is_open(config.source)
        ]

    def corpus_listing(self, corpus: str) -> str:
        """Digest over the files of a corpus that no rule makes, taken once a run."""
        if corpus not in self._listings:
            folder = self.corpus_folder(corpus)
            made = self.corpus_source(corpus)
            self._listings[corpus] = "" if made else tree_digest(Path(folder).expanduser())
        return self._listings[corpus]

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

    def asr_names(self, *engines: str) -> str:
        """A pattern that matches the transcriptions by these engines alone."""
        names = [name for name, asr in self.asr.items() if asr.engine in engines]
        return "|".join(names) or "(?!)"

    def transcriber_settings(self, asr: str) -> str:
        """What a transcription job is told; where it runs, and in how many parts, is none of it."""
        apart = {"resources", "shards", "language"}
        return canonical({"name": asr, **self.asr[asr].model_dump(mode="json", exclude=apart)})

    def shards(self, asr: str) -> str:
        """What the division into jobs depends on."""
        wanted = {"shards", "language", "resources"}
        return canonical(self.asr[asr].model_dump(mode="json", include=wanted))

    def shard_outputs(self, folder: str) -> list[str]:
        """What the transcription jobs write, once their shards are there."""
        shards = sorted(Path(folder).glob("*-of-*.parquet"))
        return [str(shard.parent.parent / f"shard-{shard.name}") for shard in shards]

    def hub_models(self) -> dict[str, str]:
        """Folder below results/models -> hub id, for every model that must be fetched."""
        names = [m for s in self.studies.values() for x in s.trained.values() for m in x.models()]
        names += [asr.model for asr in recognisers(self.asr).values()]
        return {hub_folder(m): m for m in names if not is_local(m) and m not in self.site.models}

    def settings(self, study: str, *blocks: str) -> str:
        """Canonical JSON of the study's name and some of its blocks."""
        dump = self.studies[study].model_dump(mode="json", include=set(blocks))
        return canonical({"study": study, **dump})

    def system(self, study: str, name: str) -> Any:
        """The settings of one system, or of one point of a grid."""
        config = self.studies[study]
        return config.trained.get(name) or config.systems[name]

    def fold_inputs(self, wildcards: Any) -> dict[str, str | list[str]]:
        """Input function: the tables that a system's family asks for, of the study's corpora."""
        study = self.studies[wildcards.study]
        system = self.system(wildcards.study, wildcards.system)
        rows = f"results/{wildcards.study}/" + ("final_" if wildcards.fold == FINAL else "")
        inputs: dict[str, str | list[str]] = {
            "utterances": f"{rows}utterances.parquet",
            "folds": f"{rows}folds.parquet",
            "models": [self.model_file(model) for model in system.models()],
        }
        if wildcards.fold == FINAL and system.grid:
            base = f"results/{wildcards.study}/seed-{wildcards.seed}/grids"
            inputs["grid"] = f"{base}/{wildcards.system}.json"
        corpora = [f"results/corpora/{corpus}" for corpus in study.corpora]
        if "audio" in system.inputs:
            inputs["samples"] = [f"{corpus}/audio.i16" for corpus in corpora]
            inputs["index"] = [f"{corpus}/audio.parquet" for corpus in corpora]
        augmentation = getattr(system, "augmentation", None)
        if augmentation and augmentation.corpora():
            sounds = [f"results/corpora/{corpus}" for corpus in augmentation.corpora()]
            inputs["sound_samples"] = [f"{corpus}/audio.i16" for corpus in sounds]
            inputs["sound_index"] = [f"{corpus}/audio.parquet" for corpus in sounds]
            inputs["sound_kinds"] = [f"{corpus}/utterances.parquet" for corpus in sounds]
        if "layer_means" in system.inputs:
            base = f"layer_means/{encoder_key(system.model)}"
            inputs["layer_means"] = [f"{corpus}/{base}.npy" for corpus in corpora]
            inputs["layer_ids"] = [f"{corpus}/{base}.parquet" for corpus in corpora]
        if "functionals" in system.inputs:
            inputs["functionals"] = [f"{corpus}/functionals.parquet" for corpus in corpora]
        if "transcripts" in system.inputs:
            inputs["transcripts"] = self._texts(wildcards.study, wildcards.system)
        if "embeddings" in system.inputs:
            base = f"results/{wildcards.study}/seed-{wildcards.seed}/systems/{system.embeddings}"
            inputs["embeddings"] = [f"{base}/embeddings-{wildcards.fold}.parquet"]
        return inputs

    def embedding_inputs(self, wildcards: Any) -> dict[str, str | list[str]]:
        """Input function: a fold's trained system, and the utterances to embed with it."""
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/systems/{wildcards.system}"
        inputs = {name: self.fold_inputs(wildcards)[name] for name in ("folds", "models")}
        corpora = [f"results/corpora/{name}" for name in self.studies[wildcards.study].corpora]
        return {
            "system": f"{base}/fold-{wildcards.fold}",
            "samples": [f"{corpus}/audio.i16" for corpus in corpora],
            "index": [f"{corpus}/audio.parquet" for corpus in corpora],
            **inputs,
        }

    def encoders(self) -> dict[str, str]:
        """Name of a file of layer means -> the frozen encoder that is heard once for all."""
        return {encoder_key(system.model): system.model for system in self._heard_once()}

    def encoder_on_gpu(self, encoder: str) -> bool:
        """Whether any system on top of an encoder asks for a GPU."""
        return any(
            system.resources == "gpu"
            for system in self._heard_once()
            if encoder_key(system.model) == encoder
        )

    def _heard_once(self) -> list[Any]:
        systems = [x for study in self.studies.values() for x in study.trained.values()]
        return [system for system in systems if "layer_means" in system.inputs]

    def fingerprints(self, wildcards: Any) -> list[str]:
        """Input function: the audio fingerprints that a study's audit compares."""
        study = self.studies[wildcards.study]
        if not study.audit.near_duplicates:
            return []
        return [f"results/corpora/{corpus}/fingerprints.parquet" for corpus in study.corpora]

    def contrasts(self, study: str, file: str) -> list[str]:
        """A file of each of the study's contrasts."""
        return [
            f"results/{study}{CONTRAST}{contrast}/{file}"
            for contrast in self.studies[study].contrasts
        ]

    def fusion_inputs(self, wildcards: Any) -> list[str]:
        """Input function: the posteriors of a fusion's systems, in its order."""
        fusion = self.studies[wildcards.study].fusions[wildcards.fusion]
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/posteriors/{fusion.stage}"
        return [f"{base}/{system}.parquet" for system in fusion.systems]

    def system_settings(self, wildcards: Any) -> str:
        """A system's own block, the class order of its output, and the scale of its attributes."""
        study = self.studies[wildcards.study]
        # Where a system runs does not change what it learns.
        system = self.system(wildcards.study, wildcards.system)
        block = system.model_dump(mode="json", exclude={"resources", "grid"})
        learnt = {"classes": study.classes, "train_only": study.labels.train_only, "scale": None}
        if study.attributes and system.predicts != "categories":
            low, high = study.attributes.scale
            learnt["scale"] = {"names": study.attributes.names, "low": low, "high": high}
        return canonical({"system": block, **learnt})

    def grid_folds(self) -> str:
        """A pattern of the paths, from the study on, of the folds that a grid gives its system."""
        found = []
        for study, config in self.studies.items():
            names = "|".join(name for name, system in config.systems.items() if system.grid)
            if names:
                found.append(f"{re.escape(study)}/seed-[0-9]+/systems/(?:{names})/fold-[0-9]")
        return "|".join(found) or "(?!)"

    def grid_points(self, wildcards: Any) -> list[str]:
        """Input function: the folders of all points and folds of a grid."""
        study = self.studies[wildcards.study]
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/systems"
        points = points_of(wildcards.system, study.systems[wildcards.system])
        return [f"{base}/{point}/fold-{fold}" for point in points for fold in study.folds.names()]

    def grid_settings(self, wildcards: Any) -> str:
        """What chooses a point, and the values of each."""
        grid = self.studies[wildcards.study].systems[wildcards.system].grid
        points = {name_of(wildcards.system, point): point for point in grid.points()}
        how = grid.model_dump(mode="json", include={"choose_on", "objective"})
        return canonical({"points": points, "over": list(grid.over), **how})

    def grid_files(self, study: str) -> list[str]:
        """The scores of the points of every grid and seed."""
        config = self.studies[study]
        return [
            f"results/{study}/seed-{seed}/grids/{name}.json"
            for seed in config.seeds
            for name, system in config.systems.items()
            if system.grid
        ]

    def fold_of_points(self, wildcards: Any) -> list[str]:
        """Input function: the folders of one fold of all points of a grid."""
        folder = f"fold-{wildcards.fold}"
        return [path for path in self.grid_points(wildcards) if Path(path).name == folder]

    def trained_folds(self, wildcards: Any) -> list[str]:
        """Input function: the folders of a system's folds."""
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/systems/{wildcards.system}"
        return [f"{base}/fold-{fold}" for fold in self.studies[wildcards.study].folds.names()]

    def finals(self, study: str) -> list[str]:
        """What a submission is written from: systems trained on all labelled rows, task by task."""
        config = self.studies[study]
        base = f"results/{study}/seed-{config.seeds[0]}/systems"
        tasks = sorted(config.submission.tasks.items())
        return [f"{base}/{system}/fold-{FINAL}" for _, system in tasks]

    def submission(self, study: str) -> str:
        """The settings of a study's submission: its tasks, in the order of `finals`."""
        return canonical({"tasks": sorted(self.studies[study].submission.tasks)})

    def submissions(self) -> list[str]:
        """The files that the studies of this run hand in."""
        return [
            f"results/{study}/submission/results.csv"
            for study in self.site.studies
            if self.studies[study].submission
        ]

    def posteriors(self, study: str, seed: int | str) -> dict[str, str]:
        """Every posteriors table of a study and seed: 'stage/system' -> file."""
        config = self.studies[study]
        base = f"results/{study}/seed-{seed}/posteriors"
        systems = config.predicts("categories")
        names = [f"{stage}/{s}" for stage in ("raw", "rebalanced") for s in systems]
        names += [f"fused/{f}" for f in config.fusions]
        return {name: f"{base}/{name}.parquet" for name in names}

    def all_posteriors(self, study: str) -> list[str]:
        """The posteriors tables of all seeds."""
        seeds = self.studies[study].seeds
        return [path for seed in seeds for path in self.posteriors(study, seed).values()]

    def all_attributes(self, study: str) -> list[str]:
        """The tables of predicted attributes of all seeds."""
        config = self.studies[study]
        names = [f"raw/{system}" for system in config.predicts("attributes")]
        names += [f"fused/{fusion}" for fusion in config.attribute_fusions]
        return [
            f"results/{study}/seed-{seed}/attributes/{name}.parquet"
            for seed in config.seeds
            for name in names
        ]

    def attribute_fusion_inputs(self, wildcards: Any) -> list[str]:
        """Input function: the attributes of a fusion's systems, in its order."""
        fusion = self.studies[wildcards.study].attribute_fusions[wildcards.fusion]
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/attributes/raw"
        return [f"{base}/{system}.parquet" for system in fusion.systems]

    def attribute_fusion_files(self, study: str) -> list[str]:
        """The weights of every fusion of attributes and seed."""
        config = self.studies[study]
        return [
            f"results/{study}/seed-{seed}/attribute_fusions/{fusion}.json"
            for seed in config.seeds
            for fusion in config.attribute_fusions
        ]

    def fusion_files(self, study: str) -> list[str]:
        """The weights of every fusion and seed."""
        config = self.studies[study]
        return [
            f"results/{study}/seed-{seed}/fusions/{fusion}.json"
            for seed in config.seeds
            for fusion in config.fusions
        ]

    def transcripts(self, study: str) -> list[str]:
        """Every transcription of every corpus of a study; empty when it has none."""
        config = self.studies[study]
        return [
            f"results/corpora/{corpus}/transcripts/{asr}.parquet"
            for asr in config.asr
            for corpus in config.corpora
        ]

    def recognised(self, study: str) -> list[str]:
        """The transcriptions that a recogniser makes."""
        mine = recognisers(self.studies[study].asr)
        return [file for file in self.transcripts(study) if Path(file).stem in mine]

    def evaluation(self, study: str) -> str:
        """The settings of a study's evaluation."""
        config = self.studies[study]
        dump = config.model_dump(mode="json", include={"intervals", "paper_values"})
        tried = {
            name: len(system.grid.points())
            for name, system in config.systems.items()
            if system.grid and system.grid.choose_on == "cross_validation"
        }
        # A fusion is no more honest than what it fuses.
        tried |= {
            name: max(tried[system] for system in fusion.systems if system in tried)
            for name, fusion in config.fusions.items()
            if tried.keys() & set(fusion.systems)
        }
        facts = {"study": study, "twins": config.transcript_twins(), "tried": tried}
        return canonical(facts | dump)

    def _texts(self, study: str, system: str) -> list[str]:
        """The transcripts that a system reads."""
        asr = self.studies[study].transcription(system)
        return [file for file in self.transcripts(study) if Path(file).stem == asr]

    def per_corpus(self, pattern: str) -> Callable[[Any], list[str]]:
        """Input function: `pattern` for every corpus of the study."""
        return lambda wildcards: [
            pattern.format(corpus=corpus) for corpus in self.studies[wildcards.study].corpora
        ]


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
