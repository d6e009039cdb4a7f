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
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=PLAN.code("export_posteriors.py"),
    script:
        "../scripts/export_posteriors.py"


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
