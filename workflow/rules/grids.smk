# Grids of hyper-parameters: each point is trained as a system of its own, and rows that may choose
# choose; what the chosen one is and predicts becomes that of the system.


rule score_grid:
    input:
        PLAN.grid_points,
    output:
        "results/{study}/seed-{seed}/grids/{system}.json",
    log:
        "results/{study}/logs/score_grid/{system}-seed-{seed}.log",
    benchmark:
        "results/{study}/benchmarks/score_grid.{system}-seed-{seed}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=PLAN.grid_settings,
        code=PLAN.code("score_grid.py"),
    script:
        "../scripts/score_grid.py"


rule take_point:
    input:
        grid="results/{study}/seed-{seed}/grids/{system}.json",
        points=PLAN.fold_of_points,
    output:
        directory("results/{study}/seed-{seed}/systems/{system}/fold-{fold}"),
    log:
        "results/{study}/logs/take_point/{system}-seed-{seed}-fold-{fold}.log",
    benchmark:
        "results/{study}/benchmarks/take_point.{system}-seed-{seed}-fold-{fold}.tsv"
    wildcard_constraints:
        study=f"(?={PLAN.grid_folds()}){STUDY}",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=PLAN.code("take_point.py"),
    script:
        "../scripts/take_point.py"
