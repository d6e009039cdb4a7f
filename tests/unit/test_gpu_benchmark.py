"""The GPU benchmark runs from end to end where there is no GPU, and its encoders are of full size."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from benchmarks import gpu, published_models
from serflow.nets.convolution import Strided, use_products

# Trained, parameters, two of the batch, two rates, FLOP/s, utilisation, waiting, peak, hours, loss.
COLUMNS = 12


def test_its_tiny_form_fills_every_row_with_finite_numbers(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpu.main("--tiny", "--steps", "2", "--epochs", "1")
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[3:]}
    assert list(rows) == list(gpu.SYSTEMS)
    for name, row in rows.items():
        found = [float(number) for number in re.findall(r"\d+\.?\d*", row.removeprefix(name))]
        assert len(found) == COLUMNS, row
        assert all(math.isfinite(number) for number in found)
        assert "nan" not in row
        assert "inf" not in row


def test_the_backward_pass_of_a_grouped_convolution_counts_twice_its_forward_pass():
    convolution = torch.nn.Conv1d(16, 16, 8, groups=4)
    inputs = torch.randn(1, 16, 20, requires_grad=True)
    with gpu.counter() as forward:
        output = convolution(inputs).sum()
    with gpu.counter() as backward:
        output.backward()
    assert forward.get_total_flops() == 2 * 16 * 4 * 8 * 13
    assert backward.get_total_flops() == 2 * forward.get_total_flops()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (10, 5)])
def test_serflows_own_convolution_counts_as_torchs(kernel, stride):
    theirs = torch.nn.Conv1d(6, 8, kernel, stride=stride)
    ours = copy.deepcopy(theirs)
    use_products(ours)
    assert isinstance(ours, Strided)
    counts = []
    for convolution in (ours, theirs):
        inputs = torch.randn(2, 6, 41, requires_grad=True)
        with gpu.counter() as counted:
            convolution(inputs).sum().backward()
        counts.append(counted.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert "needs a GPU" in line


def test_an_unknown_system_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        gpu.main("wavlm")
    assert "hubert_full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("w2v-bert-2.0", 580_493_120), ("hubert-large", 315_438_720), ("xls-r-300m", 315_438_720)],
)
def test_the_encoders_are_of_the_published_sizes(name, parameters):
    with torch.device("meta"):
        encoder = AutoModel.from_config(published_models.ENCODERS[name])
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-70b", 68_976_648_192),
        ("gemma-1.1-2b", 2_506_172_416),
    ],
)
def test_the_language_models_are_of_the_published_sizes(name, parameters):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(published_models.LANGUAGE_MODELS[name])
    model.tie_weights()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
