# Calibration, where a study has it: fitted on dev rows, or cross-fitted; never on the rows it is applied to.


rule calibrate_posteriors:
    input:
        posteriors="results/{study}/seed-{seed}/posteriors/raw/{system}.parquet",
        utterances="results/{study}/utterances.parquet",
    output:
        posteriors="results/{study}/seed-{seed}/posteriors/calibrated/{system}.parquet",
        fits="results/{study}/seed-{seed}/calibrations/{system}.json",
    log:
        "results/{study}/logs/calibrate_posteriors/{system}-seed-{seed}.log",
    benchmark:
        "results/{study}/benchmarks/calibrate_posteriors.{system}-seed-{seed}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.settings(w.study, "calibration"),
        code=PLAN.code("calibrate_posteriors.py"),
    script:
        "../scripts/calibrate_posteriors.py"
