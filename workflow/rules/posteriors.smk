# The frozen boundary: what the folds of a system predict, in one table. No torch from here on.


rule export_posteriors:
    input:
        PLAN.trained_folds,
    output:
        "results/{study}/seed-{seed}/posteriors/raw/{system}.parquet",
    log:
        "results/{study}/logs/export_posteriors/{system}-seed-{seed}.log",
    benchmark:
        "results/{study}/benchmarks/export_posteriors.{system}-seed-{seed}.tsv"
    wildcard_constraints:
        study=f"(?!{PLAN.given_tables()}){STUDY}",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=PLAN.code("export_posteriors.py"),
    script:
        "../scripts/export_posteriors.py"


# The files of other programs are in `settings` by their contents.
rule import_posteriors:
    input:
        utterances="results/{study}/utterances.parquet",
        folds="results/{study}/folds.parquet",
        # Nothing is scored on folds that leak; how a reason is worded changes no posterior.
        audit=ancient("results/{study}/audit.parquet"),
    output:
        posteriors="results/{study}/seed-{seed}/posteriors/raw/{system}.parquet",
        facts="results/{study}/seed-{seed}/given/{system}.json",
    log:
        "results/{study}/logs/import_posteriors/{system}-seed-{seed}.log",
    benchmark:
        "results/{study}/benchmarks/import_posteriors.{system}-seed-{seed}.tsv"
    wildcard_constraints:
        study=f"(?={PLAN.given_tables()}){STUDY}",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=PLAN.given_settings,
        code=PLAN.code("import_posteriors.py"),
    script:
        "../scripts/import_posteriors.py"


rule export_attributes:
    input:
        PLAN.trained_folds,
    output:
        "results/{study}/seed-{seed}/attributes/raw/{system}.parquet",
    log:
        "results/{study}/logs/export_attributes/{system}-seed-{seed}.log",
    benchmark:
        "results/{study}/benchmarks/export_attributes.{system}-seed-{seed}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=PLAN.code("export_attributes.py"),
    script:
        "../scripts/export_attributes.py"
