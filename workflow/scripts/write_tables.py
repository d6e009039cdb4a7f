"""Write the scores of a study as tables for a paper."""

from serflow import job
from serflow.files import write_text
from serflow.report.fold_tables import fold_table
from serflow.report.paper_tables import paper_table
from serflow.tables import SCORES

ONE_FOLD = "This study has one fold, so there is no table of folds.\n"


def main(smk, settings):
    scores = SCORES.read(smk.input.scores)
    table = paper_table(smk.wildcards.study, scores)
    write_text(smk.output.latex, table.latex())
    write_text(smk.output.markdown, table.markdown())
    folds = fold_table(smk.wildcards.study, scores)
    write_text(smk.output.folds, folds.markdown() if folds else ONE_FOLD)
    write_text(smk.output.folds_latex, folds.latex() if folds else f"% {ONE_FOLD}")


if __name__ == "__main__":
    job.run(main, snakemake)
