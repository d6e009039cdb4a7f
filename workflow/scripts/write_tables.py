"""Write the scores of a study as a table for a paper."""

from serflow import job
from serflow.files import write_text
from serflow.report.paper_tables import paper_table
from serflow.tables import SCORES


def main(smk, settings):
    table = paper_table(smk.wildcards.study, SCORES.read(smk.input.scores))
    write_text(smk.output.latex, table.latex())
    write_text(smk.output.markdown, table.markdown())


if __name__ == "__main__":
    job.run(main, snakemake)
