"""The page: one file, no scripts, nothing fetched; opens offline on a desk or a phone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from serflow.report import (
    attributes,
    fusions,
    grids,
    leakage,
    rebalancing,
    reliability,
    sections,
    significance,
    transcripts,
)
from serflow.report.captions import ESTIMATED
from serflow.report.formats import count, listing, number, percent, without_folders
from serflow.report.headline import headline
from serflow.report.panels import Figure
from serflow.report.provenance import Provenance
from serflow.report.results import Results

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class _Shown:
    """A panel on the page; its SVG is the library's own and needs no escaping."""

    title: str
    svg: Markup


def render(results: Results, figures: Mapping[str, Figure], provenance: Provenance) -> str:
    """The page as HTML.

    Parameters
    ----------
    results : Results
    figures : mapping of str to Figure
        As `figures.draw_all` gives them.
    provenance : Provenance

    Returns
    -------
    str
        The same for the same arguments, byte for byte.
    """
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    shown = {
        name: _panels(figure)
        for name, figure in figures.items()
        if name != "confusions"  # a table on the page, as it is read cell by cell
    }
    curves = {panel.title: panel.svg for panel in shown["interpolation"]}
    rated = attributes.section(results)
    table, sources = sections.scores_table(results)
    return environment.get_template("page.html.j2").render(
        style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
        results=results,
        config=results.config,
        facts=_facts(results),
        headline=headline(results),
        figures=shown,
        no_curve=figures["interpolation"].nothing,
        no_sensitivity=figures["sensitivity"].nothing,
        scores=table,
        sources=sources,
        definitions=sections.definitions(results),
        selection_note=sections.selection_note(results),
        spread_note=sections.spread_note(results),
        recalls=sections.recall_table(results),
        confusions=sections.confusion_tables(results),
        comparisons=sections.comparisons_table(results),
        matrix=significance.matrix(results),
        matrix_note=significance.note(results),
        fold_means=sections.fold_means_table(results),
        reliability=reliability.scores_table(results),
        calibration_note=reliability.calibration_note(results),
        effects=[
            (system, rebalancing.effects_table(results, system)) for system in results.systems
        ],
        fusions=fusions.section(results, curves),
        gaps=fusions.gaps_table(results),
        chance=number(1 / len(results.classes)),
        priors=[(system, sections.priors_table(results, system)) for system in results.systems],
        target=_target(results),
        grids=grids.section(results),
        attributes=rated,
        attribute_panels=_panels(rated.figure) if rated else [],
        asr=transcripts.section(results),
        corpora=sections.corpora_table(results),
        folds=sections.folds_table(results),
        audit=leakage.audit_table(results.audit),
        audit_verdict=leakage.audit_verdict(results.audit),
        contrasts=leakage.contrasts(results),
        contrasts_table=leakage.contrasts_table(results),
        fold_notes=[without_folders(note) for note in results.fold_notes],
        skipped=sections.skipped_table(results),
        n_skipped=len(results.skipped),
        provenance=provenance,
        costs=sections.costs_table(provenance.costs),
        fits=sections.facts_table(provenance.facts, list(results.config.systems)),
        downloads=sections.downloads_table(provenance.downloads),
        digests=sections.digests_table(results),
        settings=settings_text(results),
    )


def _panels(figure: Figure) -> list[_Shown]:
    return [
        _Shown(panel.title, Markup(svg))
        for panel, svg in zip(figure.panels, figure.inline(), strict=True)
    ]


def settings_text(results: Results) -> str:
    """The study's settings as YAML, models that lie on this machine by their last name."""
    tree = _portable(results.config.model_dump(mode="json"))
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=90)


def _portable(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _portable(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_portable(value) for value in tree]
    if isinstance(tree, str) and tree.startswith(("/", "~")):
        return Path(tree).name
    return tree


def _facts(results: Results) -> list[tuple[str, str]]:
    """The line under the title."""
    utterances = results.utterances
    protocol = leakage.protocol_text(results.config.folds, results.folds["fold"].nunique())
    return [
        ("Study", results.study),
        ("Classes", f"{len(results.classes)}: {', '.join(results.classes)}"),
        ("Utterances", count(len(utterances))),
        ("Speakers", count(utterances["speaker"].nunique())),
        ("Systems", listing(results.systems)),
        ("Folds", protocol),
        ("Seed" if len(results.seeds) == 1 else "Seeds", ", ".join(map(str, results.seeds))),
    ]


def _target(results: Results) -> str:
    target = results.config.prior.target
    if isinstance(target, str):
        return ESTIMATED.get(target, target)
    return ", ".join(f"{name} {percent(target[name], 1)}" for name in results.classes)
