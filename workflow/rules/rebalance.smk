# Prior rebalancing: from the effective training prior to the study's target prior.


rule rebalance_posteriors:
    input:
        PLAN.rebalanced_from,
    output:
        "results/{study}/seed-{seed}/posteriors/rebalanced/{system}.parquet",
    log:
        "results/{study}/logs/rebalance_posteriors/{system}-seed-{seed}.log",
    benchmark:
        "results/{study}/benchmarks/rebalance_posteriors.{system}-seed-{seed}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.settings(w.study, "prior"),
        code=PLAN.code("rebalance_posteriors.py"),
    script:
        "../scripts/rebalance_posteriors.py"
