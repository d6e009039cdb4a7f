"""Posteriors that other programs made: their files, and where their tables come in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from serflow.config.families.given import GivenConfig
from serflow.digests import canonical
from serflow.errors import UserError
from serflow.invalidation import file_digest
from serflow.plan.base import Settings


class Given(Settings):
    """See `serflow.plan.Plan`."""

    def _check_given(self) -> None:
        """No rule makes these files, so no job would say that one is missing."""
        for name, study in self.studies.items():
            for system, config in study.systems.items():
                if not isinstance(config, GivenConfig):
                    continue
                for seed in study.seeds:
                    for file in _files(config, seed):
                        if not Path(file).expanduser().is_file():
                            raise UserError(
                                f"studies/{name}.yaml: systems.{system} names {file!r}, but there "
                                "is no such file; relative paths start from the repository"
                            )

    def given_tables(self) -> str:
        """A pattern of the paths, from the study on, of what is made of given files."""
        found = []
        for study, config in self.studies.items():
            names = "|".join(n for n, x in config.systems.items() if isinstance(x, GivenConfig))
            if names:
                tables = "(?:posteriors/raw|given)"
                found.append(rf"{re.escape(study)}/seed-[0-9]+/{tables}/(?:{names})\.")
        return "|".join(found) or "(?!)"

    def given_settings(self, wildcards: Any) -> str:
        """A system's own block, the class order, and digests over what its files hold.

        Of contents, not dates: the files are small, and a fresh clone gives them new dates.
        """
        study = self.studies[wildcards.study]
        config = study.systems[wildcards.system]
        digests = [file_digest(Path(file).expanduser()) for file in _files(config, wildcards.seed)]
        block = config.model_dump(mode="json", exclude={"family", "grid"})
        block |= {"file": config.file_of(wildcards.seed)}
        block |= {"ids": config.ids_of(wildcards.seed) or config.ids}
        return canonical({"given": block, "classes": study.classes, "files": digests})


def _files(config: GivenConfig, seed: int | str) -> list[str]:
    return [file for file in (config.file_of(seed), config.ids_of(seed)) if file]
