"""The settings: one typed source, and errors that a tired user can act on."""

from pathlib import Path

import pytest
import yaml

from serflow.config.base import Strict, validated
from serflow.config.folds import FoldsConfig
from serflow.config.load import load, load_study
from serflow.config.schemas import schemas
from serflow.errors import UserError

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "studies" / "demo.yaml"
GOLD = {"engine": "reference"}
PAPER = {"system": "text", "stage": "raw", "metric": "uar", "value": 0.5, "source": "paper"}


class FoldsOnly(Strict):
    """The part of a study that says who is tested."""

    folds: FoldsConfig


def altered(tmp_path, change, source=DEMO, name="altered"):
    data = yaml.safe_load(source.read_text(encoding="utf-8"))
    change(data)
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return tmp_path / f"{name}.yaml"


@pytest.mark.parametrize("study", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_study_is_valid(study):
    assert load_study(study).title


def test_an_unknown_site_key_names_the_nearest_key_and_the_file():
    with pytest.raises(UserError, match=r"config.yaml.*\n.*'studes'; did you mean 'studies'"):
        load({"studes": ["demo"]}, ROOT / "studies")


def test_a_misspelled_hyper_parameter_is_not_silently_ignored(tmp_path):
    def change(data):
        data["systems"]["speech"]["training"]["learning_rte"] = 1

    path = altered(tmp_path, change)
    with pytest.raises(UserError) as error:
        load_study(path)
    assert "systems.speech" in str(error.value)
    assert "'learning_rte'; did you mean 'learning_rate'?" in str(error.value)
    assert str(path) in str(error.value)


def test_an_error_says_what_was_found_under_the_keys_of_the_file(tmp_path):
    """pydantic names its alternatives as if they were keys: folds.random_split.dev.literal['none']."""

    def change(data):
        data["intervals"] = {"unit": "speakers"}
        data["corpora"]["demo"]["sed"] = 3
        data["folds"] = {"protocol": "random_split", "test": 0.2, "dev": "next"}

    with pytest.raises(UserError) as error:
        load_study(altered(tmp_path, change))
    text = str(error.value)
    assert "intervals.unit: Input should be 'utterance' or 'speaker'; found 'speakers'" in text
    assert "corpora.demo: unknown key 'sed'; did you mean 'seed'?" in text
    assert "folds.dev: " in text
    assert "literal[" not in text


def test_an_unknown_study_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'demo'"):
        load({"studies": ["dmo"]}, ROOT / "studies")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("asr"), "reads transcripts, but the study has no 'asr'"),
        (
            lambda d: d["systems"]["text"].pop("transcripts"),
            "the study has several \\(demo-canary, gold\\)",
        ),
        (
            lambda d: d["systems"]["text"].update(transcripts="x"),
            "not one of asr: demo-canary, gold",
        ),
        (lambda d: d["asr"]["demo-canary"].update(language="english"), "language"),
        (lambda d: d["fusions"]["interpolation"]["systems"].append("x"), "unknown system 'x'"),
        (lambda d: d["fusions"]["interpolation"].update(fit_on="test"), "'dev' or 'cross_fit'"),
        (lambda d: d["fusions"]["interpolation"].update(missing="drop"), "'error' or 'prior'"),
        (lambda d: d["systems"].update({"a/b": d["systems"]["text"]}), "pattern"),
        (lambda d: d["prior"].update(target={"angry": 1.0}), "exactly the study's classes"),
        (lambda d: d["classes"].append("sad"), "not unique"),
        (lambda d: d.update(paper_values=[PAPER | {"system": "txt"}]), "no 'txt' at stage 'raw'"),
        (lambda d: d.update(paper_values=[PAPER | {"metric": "F1"}]), "'macro_f1'"),
        # A label that nothing has: the value would stand beside no score, without a word.
        (
            lambda d: d.update(paper_values=[PAPER | {"metric": "recall", "label": "joy"}]),
            "recall of text has label 'joy'; expected",
        ),
        (lambda d: d.update(paper_values=[PAPER | {"metric": "f1"}]), "f1 of text has label ''"),
        (lambda d: d.update(paper_values=[PAPER | {"label": "sad"}]), "uar of text has label"),
        (lambda d: d.update(seeds=[1, 1]), "each once"),
        (lambda d: d.update(seeds=[-1]), "seeds.0"),
        # Found after hours of training otherwise, when the fusion starts.
        (lambda d: d["fusions"]["interpolation"].update(step=0.3), "1 divided by a whole number"),
        (lambda d: d["fusions"]["interpolation"].update(systems=["text", "text"]), "twice"),
    ],
)
def test_a_study_that_does_not_hang_together_is_refused_before_any_job(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        load_study(altered(tmp_path, change))


def test_a_prior_cannot_be_estimated_from_the_confusions_of_no_dev_rows(tmp_path):
    def change(data):
        data["prior"] = {"target": "bbse"}
        for part in ("fusions", "primary", "paper_values", "calibration"):
            data.pop(part, None)
        data["folds"] = {"protocol": "random_split", "test": 0.2}

    with pytest.raises(UserError, match=r"prior.target is 'bbse'.*set folds.dev, or target: em"):
        load_study(altered(tmp_path, change))


GROUPED = {"protocol": "grouped_k_fold", "k": 5}


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        # The groups were drawn, and the classes' shares left to chance without a word.
        (
            {"protocol": "random_split", "test": 0.2, "group": "speaker", "stratify": True},
            "stratify: true cannot be had with group: speaker",
        ),
        (
            GROUPED | {"dev": {"group": "session", "stratify": True}},
            "dev.stratify: true cannot be had with dev.group: session",
        ),
        # Of no dev rows, 300 of each class are none.
        (GROUPED | {"dev_per_class": 300}, "dev_per_class is 300, but there are no dev rows"),
        ({"protocol": "random_split", "test": 0.2, "dev_per_class": 3}, "there are no dev rows"),
        # NumPy and scikit-learn would refuse these in the middle of the run.
        (GROUPED | {"seed": -1}, "seed: .* greater than or equal to 0"),
        (GROUPED | {"seed": 2**32}, "seed: .* less than 4294967296"),
    ],
)
def test_folds_that_contradict_themselves_are_refused(folds, message):
    with pytest.raises(UserError, match=message):
        validated(FoldsOnly, {"folds": folds}, "study")


@pytest.mark.parametrize(
    "folds",
    [
        {"protocol": "official", "dev_per_class": 300},
        GROUPED | {"dev": "next_fold", "dev_per_class": 300},
        GROUPED | {"dev": {"group": "speaker"}, "dev_per_class": 300},
        {"protocol": "random_split", "test": 0.2, "group": "speaker", "dev": {"stratify": True}},
        {"protocol": "random_split", "test": 0.2, "stratify": True, "dev": {"group": "speaker"}},
    ],
)
def test_folds_that_only_look_like_a_contradiction_are_not(folds):
    assert validated(FoldsOnly, {"folds": folds}, "study").folds.protocol == folds["protocol"]


EMODB = ROOT / "studies" / "emodb.yaml"


def test_a_contrast_is_the_study_with_other_folds_and_without_the_papers_values(tmp_path):
    """A published value beside folds that it was not measured on would be a false comparison."""

    def change(data):
        data["contrasts"]["random_5_fold"]["systems"] = ["functionals_svm", "speech_scratch"]
        data["paper_values"] = [PAPER | {"system": "functionals_svm"}]

    study = load_study(altered(tmp_path, change, EMODB))
    contrast = study.contrast("random_5_fold")
    assert contrast.folds.protocol == "stratified_k_fold"
    assert {entry.overlap for entry in contrast.audit.accept} == {"speaker", "sentence"}
    assert contrast.systems == {name: study.systems[name] for name in contrast.systems}
    assert list(contrast.fusions) == ["interpolation"]
    assert contrast.primary == "interpolation"
    assert contrast.paper_values == []
    assert contrast.contrasts == {}
    assert contrast.intervals == study.intervals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"systems": ["svm"]}, "unknown system 'svm'"),
        ({"folds": {"protocol": "k_fold", "k": 1}}, "contrasts.random_5_fold"),
        ({"audit": {"accept": [{"overlap": "speaker", "reason": " "}]}}, "reason"),
        ({"audit": {"accept": [{"overlap": "speakers", "reason": "x"}]}}, "overlap"),
    ],
)
def test_a_contrast_that_does_not_hang_together_is_refused_before_any_job(
    tmp_path, change, message
):
    def alter(data):
        data["contrasts"]["random_5_fold"].update(change)

    with pytest.raises(UserError, match=message):
        load_study(altered(tmp_path, alter, EMODB))


def test_the_best_epoch_is_never_chosen_without_dev_rows(tmp_path):
    def change(data):
        data["folds"] = {"protocol": "stratified_k_fold", "k": 3}
        data["fusions"] = {}
        data["systems"]["text"]["training"]["select"] = "best"

    with pytest.raises(UserError, match="no dev rows"):
        load_study(altered(tmp_path, change))


def test_two_studies_cannot_share_a_name_for_different_transcripts(tmp_path):
    altered(tmp_path, lambda d: None, name="one")
    altered(tmp_path, lambda d: d["asr"]["demo-canary"].update(pnc=True), name="two")
    with pytest.raises(UserError, match="asr 'demo-canary' differently"):
        load({"studies": ["one", "two"]}, tmp_path)


def test_seeds_and_shards_of_the_machine_override_every_study():
    _, studies = load({"studies": ["demo"], "seeds": [3, 4], "shards": 2}, ROOT / "studies")
    assert studies["demo"].seeds == [3, 4]
    assert studies["demo"].asr["demo-canary"].shards == 2


def test_systems_that_differ_in_their_transcripts_alone_are_compared(tmp_path):
    """Another learning rate beside the reference texts would be blamed on the recogniser."""

    def change(data):
        data["asr"]["gold"] = GOLD
        text = data["systems"]["text"]
        data["systems"]["text"] = text | {"transcripts": "demo-canary"}
        data["systems"]["text_gold"] = text | {"transcripts": "gold", "resources": "gpu-large"}
        data["systems"]["text_other"] = text | {"transcripts": "gold", "max_tokens": 9}

    study = load_study(altered(tmp_path, change))
    assert study.transcript_twins() == [("text", "text_gold")]
    assert study.transcription("text_gold") == "gold"
    assert study.transcription("speech") is None


@pytest.mark.parametrize("name", list(schemas()))
def test_schemas_are_not_stale(name):
    shipped = (ROOT / "workflow" / "schemas" / name).read_text(encoding="utf-8")
    assert shipped == schemas()[name], "run `make schemas`"


def test_a_key_that_is_there_twice_is_not_silently_the_last_one(tmp_path):
    (tmp_path / "twice.yaml").write_text("title: a\nclasses: [x, y]\ntitle: b\n", "utf-8")
    with pytest.raises(UserError, match="key 'title' is there twice"):
        load_study(tmp_path / "twice.yaml")


def test_a_tag_in_a_study_makes_no_object(tmp_path):
    (tmp_path / "tag.yaml").write_text("title: !!python/object/apply:os.getcwd []\n", "utf-8")
    with pytest.raises(UserError, match="is not YAML in UTF-8"):
        load_study(tmp_path / "tag.yaml")


def one_study(systems: list[str], study: str = "odyssey2024"):
    paths = {"msp_podcast": "/x", "emospeech2024": "/x"}
    return load({"studies": [study], "systems": systems, "paths": paths}, ROOT / "studies")[1][
        study
    ]


def test_some_systems_of_a_study_run_alone_with_what_is_theirs():
    """A laptop has no use for the fusions, values and challenges of systems that need a GPU."""
    study = one_study(["wav2vec2_bert_lda", "roberta"])
    assert list(study.systems) == ["wav2vec2_bert", "wav2vec2_bert_lda", "roberta"]
    assert not study.fusions
    assert study.primary is None
    assert not study.attribute_fusions
    both = one_study(["sonar_lda", "llama2_70b"])
    assert list(both.fusions) == ["interpolation_70b"]
    assert both.primary is None, "the whole study declares another"
    assert {value.system for value in both.paper_values} == {"llama2_70b", "interpolation_70b"}
    alone = one_study(["text_functionals"], "emospeech2024")
    assert alone.submission is None
    assert one_study(["gemma"], "emospeech2024").submission.tasks["task_1"].system == "gemma"
    handed_in = one_study(["wav2vec2_bert_lda", "llama2_7b"]).submission
    assert list(handed_in.tasks) == ["categories"], (
        "what a fusion needs is there, attributes are not"
    )
    assert handed_in.trained_on == "train"


def test_a_part_of_a_study_does_not_pass_off_another_fusion_as_the_declared_one(tmp_path):
    def declare(data):
        data["fusions"]["all"] = data["fusions"]["mean"] | {"systems": [*data["systems"]][:3]}
        data["primary"] = "all"

    study = load_study(altered(tmp_path, declare))
    systems = study.fusions["mean"].systems
    assert set(systems) < set(study.fusions["all"].systems)
    part = study.only(systems)
    assert len(part.fusions) > 1
    assert part.primary is None
    with pytest.raises(UserError, match="declare the one that the report leads with as 'primary'"):
        load_study(altered(tmp_path, lambda data: data.pop("primary")))


def test_systems_that_no_study_has_or_that_make_no_study_are_named():
    with pytest.raises(UserError, match=r"study odyssey2024 has none of svm; it has wav2vec2_bert"):
        one_study(["svm"])
    with pytest.raises(UserError, match=r"no study has 'robert'; there are .*roberta"):
        one_study(["roberta", "robert"])
    with pytest.raises(UserError, match=r"alone make no study odyssey2024: .*predicts categories"):
        one_study(["llama2_7b_attributes"])


def test_a_system_that_hears_is_refused_where_a_corpus_has_no_audio(tmp_path):
    def change(data):
        data["corpora"]["labels"] = {"source": "table", "audio": None}

    with pytest.raises(UserError, match=r"systems.speech needs audio, and corpora.labels has none"):
        load_study(altered(tmp_path, change))
