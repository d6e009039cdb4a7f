"""Write the report of a study: the page, and its figures as files of their own."""

from pathlib import Path

from serflow import job
from serflow.digests import digest
from serflow.files import write_text
from serflow.report.figures import draw_all
from serflow.report.headline import headline
from serflow.report.page import render
from serflow.report.provenance import collect
from serflow.report.results import read_results


def main(smk, settings):
    inputs = dict(smk.input.items())
    downloads = inputs.pop("downloads")
    results = read_results(settings["study"], settings["config"], **inputs)
    figures = draw_all(results)
    # Benchmarks and facts of the fits lie beside the tables; they describe jobs that are done.
    root = Path(smk.output.page).parent.parent
    provenance = collect(root, results, digest(smk.params.settings), downloads)
    write_text(smk.output.headline, headline(results).text(smk.output.page))
    for name, figure in figures.items():
        write_text(smk.output[name], figure.file())
    write_text(smk.output.page, render(results, figures, provenance))


if __name__ == "__main__":
    job.run(main, snakemake)
