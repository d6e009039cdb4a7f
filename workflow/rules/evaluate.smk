# Metrics with definitions and intervals; paired comparisons between systems.


rule evaluate_study:
    input:
        posteriors=lambda w: PLAN.all_posteriors(w.study),
        attributes=lambda w: PLAN.all_attributes(w.study),
        utterances="results/{study}/utterances.parquet",
        transcripts=lambda w: PLAN.recognised(w.study),
    output:
        scores="results/{study}/scores.parquet",
        csv="results/{study}/scores.csv",
        comparisons="results/{study}/comparisons.parquet",
    log:
        "results/{study}/logs/evaluate_study.log",
    benchmark:
        "results/{study}/benchmarks/evaluate_study.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.evaluation(w.study),
        code=PLAN.code("evaluate_study.py"),
    script:
        "../scripts/evaluate_study.py"
