# Late fusion: fitted on dev rows, or cross-fitted over folds; never on the rows that it is scored on.


rule fuse_systems:
    input:
        posteriors=PLAN.fusion_inputs,
        utterances="results/{study}/utterances.parquet",
    output:
        posteriors="results/{study}/seed-{seed}/posteriors/fused/{fusion}.parquet",
        weights="results/{study}/seed-{seed}/fusions/{fusion}.json",
    log:
        "results/{study}/logs/fuse_systems/{fusion}-seed-{seed}.log",
    benchmark:
        "results/{study}/benchmarks/fuse_systems.{fusion}-seed-{seed}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: canonical(
            {
                "name": w.fusion,
                **PLAN.studies[w.study].fusions[w.fusion].model_dump(mode="json"),
            }
        ),
        code=PLAN.code("fuse_systems.py"),
    script:
        "../scripts/fuse_systems.py"


rule fuse_attributes:
    input:
        attributes=PLAN.attribute_fusion_inputs,
        utterances="results/{study}/utterances.parquet",
    output:
        attributes="results/{study}/seed-{seed}/attributes/fused/{fusion}.parquet",
        weights="results/{study}/seed-{seed}/attribute_fusions/{fusion}.json",
    log:
        "results/{study}/logs/fuse_attributes/{fusion}-seed-{seed}.log",
    benchmark:
        "results/{study}/benchmarks/fuse_attributes.{fusion}-seed-{seed}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: canonical(
            {
                "name": w.fusion,
                **PLAN.studies[w.study].attribute_fusions[w.fusion].model_dump(mode="json"),
            }
        ),
        code=PLAN.code("fuse_attributes.py"),
    script:
        "../scripts/fuse_attributes.py"
