"""What the rules ask of the settings: where models, corpora and tables are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from serflow.config.load import load, load_study
from serflow.config.site import SiteConfig
from serflow.config.study import StudyConfig
from serflow.errors import UserError
from serflow.plan import Plan

ROOT = Path(__file__).parents[2]
HUB = "facebook/w2v-bert-2.0"


def plan(models=None, paths=None, **changes):
    data = yaml.safe_load((ROOT / "studies/demo.yaml").read_text(encoding="utf-8"))
    data["systems"]["speech"]["model"] = HUB
    for system in ("text", "text_gold"):
        data["systems"][system] |= {"transcripts": next(iter(changes.get("asr", data["asr"])))}
    study = StudyConfig.model_validate({**data, **changes})
    site = SiteConfig(models=models or {}, paths=paths or {})
    return Plan(site, {"demo": study}, ROOT / "workflow/scripts")


def test_a_hub_model_is_fetched_once_into_the_results():
    assert plan().model_file(HUB) == "results/models/hub/facebook--w2v-bert-2.0/model.json"
    assert plan().hub_models() == {"hub/facebook--w2v-bert-2.0": HUB}


def test_what_needs_the_internet_can_be_fetched_before_and_nothing_else_is(tmp_path):
    """SONAR is a rule without wildcards: named as a target, it would be fetched for any study."""
    assert plan().fetched() == ["results/models/hub/facebook--w2v-bert-2.0/model.json"]
    studies = {
        name: load_study(ROOT / f"studies/{name}.yaml")
        for name in ("odyssey2024", "hubert_multilabel")
    }
    site = SiteConfig(paths={"msp_podcast": str(tmp_path), "savee": str(tmp_path)})
    fetched = Plan(site, studies, ROOT / "workflow/scripts").fetched()
    assert "results/models/sonar-eng/model.json" in fetched
    assert "results/models/hub/nvidia--canary-1b/model.json" in fetched
    assert "results/corpora/crema_d/download.json" in fetched
    assert "results/corpora/musan/download.json" in fetched
    assert not [file for file in fetched if "savee" in file or "msp_podcast" in file]


def test_an_air_gapped_site_names_a_folder_and_nothing_is_fetched(tmp_path):
    (tmp_path / "config.json").touch()
    local = plan(models={HUB: str(tmp_path)})
    assert local.model_file(HUB) == str(tmp_path / "config.json")
    assert local.hub_models() == {}


def test_a_nemo_file_and_an_unpacked_folder_are_models_too(tmp_path):
    (tmp_path / "model_config.yaml").touch()
    assert plan().model_file("/data/canary.nemo") == "/data/canary.nemo"
    assert plan().model_file(str(tmp_path)) == str(tmp_path / "model_config.yaml")


def test_a_nemo_file_is_unpacked_by_a_rule_and_a_fetched_one_is_already(tmp_path):
    mine = plan(asr={"c": {"engine": "canary", "model": "results/models/demo-canary/model.nemo"}})
    (folder,) = mine.nemo_archives()
    assert mine.recogniser("c") == f"results/models/{folder}/model.json"
    fetched = plan(asr={"c": {"engine": "canary", "model": "nvidia/canary-1b"}})
    assert fetched.recogniser("c") == "results/models/hub/nvidia--canary-1b/model.json"
    assert fetched.nemo_archives() == {}
    (tmp_path / "any.nemo").touch()
    downloaded = plan(
        models={"nvidia/canary-1b": str(tmp_path)},
        asr={"c": {"engine": "canary", "model": "nvidia/canary-1b"}},
    )
    assert list(downloaded.nemo_archives().values()) == [str(tmp_path / "any.nemo")]


def test_each_text_system_reads_its_own_transcription_and_no_recogniser_makes_the_reference():
    data = yaml.safe_load((ROOT / "studies/demo.yaml").read_text(encoding="utf-8"))
    systems = data["systems"] | {"speech": data["systems"]["speech"] | {"model": HUB}}
    both = plan(systems=systems)  # as the study has them
    read = both.fold_inputs(SimpleNamespace(study="demo", system="text_gold", fold="0"))[
        "transcripts"
    ]
    assert read == ["results/corpora/demo/transcripts/gold.parquet"]
    assert both.recognised("demo") == ["results/corpora/demo/transcripts/demo-canary.parquet"]
    assert both.asr_names("reference") == "gold"
    assert both.asr_names("whisper") == "(?!)"


def test_where_a_recogniser_runs_is_no_part_of_what_it_hears():
    asr = {"engine": "canary", "model": "nvidia/canary-1b"}
    here, there = (plan(asr={"c": asr | {"resources": r}}) for r in ("cpu-small", "gpu-large"))
    assert here.transcriber_settings("c") == there.transcriber_settings("c")


def test_where_a_system_runs_is_no_part_of_what_it_learns():
    """Moving a system from CPU to GPU nodes must not retrain it by itself."""
    wildcards = SimpleNamespace(study="demo", system="speech")
    data = yaml.safe_load((ROOT / "studies/demo.yaml").read_text(encoding="utf-8"))
    moved = {**data["systems"], "speech": {**data["systems"]["speech"], "resources": "gpu-large"}}
    moved["speech"]["model"] = HUB
    assert plan().system_settings(wildcards) == plan(systems=moved).system_settings(wildcards)


def test_a_text_system_waits_for_transcripts_and_a_speech_system_does_not():
    inputs = plan().fold_inputs(SimpleNamespace(study="demo", system="text", fold="0"))
    assert inputs["transcripts"] == ["results/corpora/demo/transcripts/demo-canary.parquet"]
    inputs = plan().fold_inputs(SimpleNamespace(study="demo", system="speech", fold="0"))
    assert "transcripts" not in inputs
    assert inputs["samples"] == ["results/corpora/demo/audio.i16"]


def test_a_backend_waits_for_the_embeddings_of_its_own_fold_and_seed():
    wildcards = SimpleNamespace(study="demo", system="speech_lda", seed="7", fold="2")
    inputs = plan().fold_inputs(wildcards)
    assert inputs["embeddings"] == ["results/demo/seed-7/systems/speech/embeddings-2.parquet"]
    assert "samples" not in inputs
    wildcards.system = "speech"
    inputs = plan().embedding_inputs(wildcards)
    assert inputs["system"] == "results/demo/seed-7/systems/speech/fold-2"
    assert inputs["samples"] == ["results/corpora/demo/audio.i16"]


def test_a_backend_of_a_system_without_embeddings_is_refused():
    data = yaml.safe_load((ROOT / "studies/demo.yaml").read_text(encoding="utf-8"))
    data["systems"]["speech_lda"]["embeddings"] = "text"
    with pytest.raises(ValueError, match=r"'text', which is not one of .* classifiers: speech"):
        StudyConfig.model_validate(data)


def test_every_seed_has_its_own_tables():
    files = plan(seeds=[1, 7]).all_posteriors("demo")
    assert len(files) == len(set(files)) == 2 * 15
    assert sum("/seed-7/" in file for file in files) == 15


def emodb_plan(**paths):
    site, studies = load({"studies": ["emodb"], "paths": paths}, ROOT / "studies")
    return Plan(site, studies, ROOT / "workflow/scripts")


def test_a_contrast_is_a_study_of_its_own_and_the_report_waits_for_it():
    plan = emodb_plan()
    assert plan.contrasts("emodb", "scores.parquet") == [
        "results/emodb.random_5_fold/scores.parquet"
    ]
    assert plan.contrasts("emodb.random_5_fold", "scores.parquet") == []
    own, other = (plan.settings(study, "folds") for study in ("emodb", "emodb.random_5_fold"))
    assert "leave_one_group_out" in own
    assert "stratified_k_fold" in other


def test_a_corpus_with_a_folder_is_not_downloaded_and_the_report_claims_no_download(tmp_path):
    """A download.json of an earlier run would otherwise speak for files that were not read."""
    assert emodb_plan().downloads("emodb") == ["results/corpora/emodb/download.json"]
    own = emodb_plan(emodb=str(tmp_path))
    assert own.downloads("emodb") == []
    assert own.corpus_source("emodb") == []


@pytest.mark.parametrize("key", ["emo_db", "Emodb"])
def test_a_folder_under_a_misspelt_name_is_not_downloaded_over(tmp_path, key):
    """606 MB of CREMA-D came down beside the copy under `paths: {crema-d: ...}`."""
    with pytest.raises(UserError, match=f"paths.{key}, and none for the corpus 'emodb'"):
        emodb_plan(**{key: str(tmp_path)})


def test_folders_of_other_studies_corpora_are_no_misspelling(tmp_path):
    assert emodb_plan(mine=str(tmp_path), ravdess=str(tmp_path)).corpora["emodb"]


@pytest.mark.parametrize("corpus", ["crema_d", "musan", "rirs_noises"])
def test_an_open_corpus_can_be_fetched_before_any_study_names_it(corpus):
    """`make corpora` says so; on a cluster it is the first thing to be done on the login node."""
    assert emodb_plan().corpus_source(corpus) == [f"results/corpora/{corpus}/download"]


def test_a_licensed_corpus_without_a_folder_says_whom_to_ask_and_is_not_planned():
    with pytest.raises(UserError, match=r"IEMOCAP.*sail\.usc\.edu"):
        emodb_plan().corpus_source("iemocap")


NOISY = {"noises": {}, "rirs": {}, "speed": {}}


def augmented(block, paths=None, **changes):
    data = yaml.safe_load((ROOT / "studies/demo.yaml").read_text(encoding="utf-8"))
    speech = data["systems"]["speech"] | {"model": HUB, "augmentation": block}
    systems = data["systems"] | {"speech": speech, "plain": data["systems"]["speech"]}
    systems["plain"]["model"] = HUB
    return plan(systems=systems, paths=paths, **{"asr": data["asr"]} | changes)


def test_noises_and_rooms_are_inputs_of_the_systems_that_ask_for_them_alone():
    """MUSAN is 11 GB: a study without augmentation must not download it."""
    mine = augmented(NOISY)
    inputs = mine.fold_inputs(SimpleNamespace(study="demo", system="speech", fold="0"))
    assert inputs["sound_samples"] == [
        "results/corpora/musan/audio.i16", "results/corpora/rirs_noises/audio.i16"
    ]  # fmt: skip
    assert inputs["sound_kinds"][0] == "results/corpora/musan/utterances.parquet"
    assert inputs["samples"] == ["results/corpora/demo/audio.i16"], "no utterances of the study"
    assert "results/corpora/musan/download.json" in mine.downloads("demo")
    for other, system in ((mine, "plain"), (augmented({"speed": {}}), "speech")):
        inputs = other.fold_inputs(SimpleNamespace(study="demo", system=system, fold="0"))
        assert not [name for name in inputs if name.startswith("sound")]
    assert augmented({"speed": {}}).downloads("demo") == []


def test_augmentation_changes_the_settings_of_its_own_system_alone():
    first, other = augmented(NOISY), augmented(NOISY | {"noises": {"snr_db": [5, 15]}})
    for system, same in (("speech", False), ("plain", True), ("text", True)):
        wildcards = SimpleNamespace(study="demo", system=system)
        assert (first.system_settings(wildcards) == other.system_settings(wildcards)) is same


def test_noises_may_lie_on_the_machine_be_a_part_or_be_ones_own(tmp_path):
    here = augmented(NOISY, paths={"musan": str(tmp_path)})
    assert here.corpus_source("musan") == []
    with pytest.raises(UserError, match=r"paths.musans, and none for the corpus 'musan'"):
        augmented(NOISY, paths={"musans": str(tmp_path)})
    part = {"musan": {"source": "musan", "subset": True}}
    assert augmented(NOISY, sounds=part).corpora["musan"].subset
    assert augmented({"speed": {}}, sounds=part).downloads("demo") == [], "nobody asks for it"
    own = {"cafe": {"source": "table"}}
    with pytest.raises(UserError, match="cafe"):
        augmented({"noises": {"corpus": "cafe"}}, sounds=own)
    mine = augmented({"noises": {"corpus": "cafe"}}, {"cafe": str(tmp_path)}, sounds=own)
    inputs = mine.fold_inputs(SimpleNamespace(study="demo", system="speech", fold="0"))
    assert inputs["sound_samples"] == ["results/corpora/cafe/audio.i16"]


def test_speech_of_the_study_is_never_mixed_in_as_noise():
    """Babble from the study's own corpus would bring test utterances into training."""
    for changes in ({}, {"sounds": {"demo": {"source": "table"}}}):
        with pytest.raises(ValueError, match=r"'demo', which is not one of|name of a corpus"):
            augmented({"noises": {"corpus": "demo"}}, **changes)


@pytest.mark.parametrize(
    "family", ["functionals", "speech_classifier", "text_classifier", "text_functionals"]
)
def test_a_family_is_one_module_with_a_build_function(family):
    source = (ROOT / f"workflow/scripts/serflow/systems/{family}.py").read_text(encoding="utf-8")
    assert "\ndef build(settings: dict[str, Any], context: Context)" in source


def test_a_small_table_lies_where_its_study_says_unless_the_site_says_otherwise(tmp_path):
    corpora = {"labels": {"source": "table", "folder": "docs/examples"}}
    found = [plan(paths=paths, corpora=corpora) for paths in ({}, {"labels": str(tmp_path)})]
    assert [x.corpus_folder("labels") for x in found] == ["docs/examples", str(tmp_path)]
    assert found[0].corpus_source("labels") == [] and found[0].downloads("demo") == []
