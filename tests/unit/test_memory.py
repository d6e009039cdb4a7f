"""Tensors of the CPU, and the memory that they leave."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runs import ROOT
from serflow.training.memory import keep_freed_memory

STEPS = """
import resource, sys
import torch
from serflow.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    torch.ones(10_000_000)  # 40 MB: 9,766 pages
for _ in range(10):
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""


def page_faults(how: str) -> int:
    """Pages that five steps of one large tensor each ask the system for, after ten of them."""
    return int(
        subprocess.run(
            [sys.executable, "-c", STEPS, how], cwd=ROOT / "workflow/scripts", check=True,
            capture_output=True, text=True,
        ).stdout
    )  # fmt: skip


def test_a_step_takes_up_the_memory_that_the_last_one_left():
    """Else the system clears the same pages again at every step, which slowed training by a tenth."""
    if not keep_freed_memory():
        pytest.skip("needs glibc: no other C library can be told")
    kept, given_back = page_faults("kept"), page_faults("given back")
    assert kept < 500
    # Where the system hands out huge pages, there are few to ask for.
    assert 10 * kept < given_back, "and without it, they are asked for again"


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
