# The study's utterances, with its own classes, their folds, and the audit of what these share.


rule select_utterances:
    input:
        PLAN.per_corpus("results/corpora/{corpus}/utterances.parquet"),
    output:
        utterances="results/{study}/utterances.parquet",
        dropped="results/{study}/dropped.json",
    log:
        "results/{study}/logs/select_utterances.log",
    benchmark:
        "results/{study}/benchmarks/select_utterances.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.settings(w.study, "classes", "keep", "labels"),
        code=PLAN.code("select_utterances.py"),
    script:
        "../scripts/select_utterances.py"


rule assign_folds:
    input:
        utterances="results/{study}/utterances.parquet",
    output:
        folds="results/{study}/folds.parquet",
        notes="results/{study}/folds.json",
    log:
        "results/{study}/logs/assign_folds.log",
    benchmark:
        "results/{study}/benchmarks/assign_folds.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.settings(w.study, "folds", "classes", "labels"),
        code=PLAN.code("assign_folds.py"),
    script:
        "../scripts/assign_folds.py"


rule audit_leakage:
    input:
        utterances="results/{study}/utterances.parquet",
        folds="results/{study}/folds.parquet",
        fingerprints=PLAN.fingerprints,
    output:
        findings="results/{study}/audit.parquet",
    log:
        "results/{study}/logs/audit_leakage.log",
    benchmark:
        "results/{study}/benchmarks/audit_leakage.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.settings(w.study, "audit", "intervals", "labels"),
        code=PLAN.code("audit_leakage.py"),
    script:
        "../scripts/audit_leakage.py"
