# One job per system, fold and seed: train, then write posteriors for the dev and test rows.


def fold_inputs(wildcards):
    """The tables that the system's family asks for, for every corpus of the study."""
    system = PLAN.system(wildcards.study, wildcards.system)
    corpora = list(PLAN.studies[wildcards.study].corpora)
    inputs = {
        "utterances": f"results/{wildcards.study}/utterances.parquet",
        "folds": f"results/{wildcards.study}/folds.parquet",
        "models": [PLAN.model_file(model) for model in system.models()],
    }
    if "audio" in system.inputs:
        inputs["samples"] = [f"results/corpora/{c}/audio.i16" for c in corpora]
        inputs["index"] = [f"results/corpora/{c}/audio.parquet" for c in corpora]
    if "functionals" in system.inputs:
        inputs["functionals"] = [f"results/corpora/{c}/functionals.parquet" for c in corpora]
    if "transcripts" in system.inputs:
        inputs["transcripts"] = PLAN.transcripts(wildcards.study)
    return inputs


def system_settings(wildcards):
    """The system's own block, and the class order of its output."""
    study = PLAN.studies[wildcards.study]
    block = study.systems[wildcards.system].model_dump(mode="json", exclude={"resources"})
    return canonical({"system": block, "classes": study.classes})


rule train_fold:
    input:
        unpack(fold_inputs),
    output:
        "results/{study}/seed-{seed}/systems/{system}/fold-{fold}.parquet",
    params:
        settings=system_settings,
        code=lambda w: PLAN.code(
            "train_fold.py", f"serflow.systems.{PLAN.system(w.study, w.system).family}"
        ),
    log:
        "results/{study}/logs/train_fold/{system}-seed-{seed}-fold-{fold}.log",
    benchmark:
        "results/{study}/benchmarks/train_fold.{system}-seed-{seed}-fold-{fold}.tsv"
    threads: 1
    resources:
        gpu=lambda w: int(PLAN.system(w.study, w.system).resources == "gpu"),
        mem_mb=lambda w, attempt: 16_000 * attempt,
        runtime=lambda w, attempt: 480 * attempt,
    conda:
        "../../envs/train.yaml"
    script:
        "../scripts/train_fold.py"
