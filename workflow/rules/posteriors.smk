# The frozen boundary: the folds of a system in one table. No torch from here on.


rule export_posteriors:
    input:
        lambda w: [
            f"results/{w.study}/seed-{w.seed}/systems/{w.system}/fold-{fold}.parquet"
            for fold in PLAN.studies[w.study].folds.names()
        ],
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
