"""A causal language model as a classifier: how likely each class's word is as the next ones."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from serflow.nets import quantisation
from serflow.nets.adaptation import Adaptation, Lora, adapt, enable_gradient_checkpointing
from serflow.nets.compilation import compile_layers
from serflow.nets.loading import SAFE_WEIGHTS, check_complete, loading


class LabelTokenNet(nn.Module):
    r"""Causal language model whose logits are those of the classes' words.

    The words form a tree of tokens. At every inner node n, of which the root is the end of the
    prompt, the model gives one distribution over the vocabulary; a word's log-probability is

    .. math:: \log p(w) = \sum_i \log p(w_i \mid \mathrm{prompt}, w_{<i})

    and what is left, the probability of saying anything else, is summed over the nodes. Nothing is
    generated. Where words are told apart by their first tokens, the root is the only node.

    Parameters
    ----------
    source : str
        Hub id or local folder.
    labels : sequence of sequence of int
        Token ids of each class's word; none is the beginning of another.
    adaptation : {"lora", "full", "frozen"}
    lora : Lora, optional
    gradient_checkpointing : bool
    dtype : torch.dtype
        Of the model's weights.
    quantised : bool
        Load the model's weights in four bits; not to be trained themselves.
    compile : bool
        Compile the model's layers; see `serflow.nets.compilation`.

    References
    ----------
    THAU-UPM, EmoSPeech 2024, section 3.1: "the label is appended as the first word of the model
    turn".
    """

    def __init__(
        self,
        source: str,
        labels: Sequence[Sequence[int]],
        adaptation: Adaptation = "lora",
        lora: Lora | None = None,
        gradient_checkpointing: bool = False,
        dtype: torch.dtype = torch.float32,
        quantised: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        stored = quantisation.loading_arguments() if quantised else {"dtype": dtype}
        with loading(source, "causal language model"):
            model, info = AutoModelForCausalLM.from_pretrained(source, **stored, **SAFE_WEIGHTS)
        check_complete(source, list(info["missing_keys"]), "causal language model")
        if quantised:
            quantisation.stabilise(model)
        known = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in known
        self._keeps_logits = "logits_to_keep" in known
        self.caches = "past_key_values" in known
        self._positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        model.set_output_embeddings(_ExactHead(model.get_output_embeddings()))
        if gradient_checkpointing and adaptation != "frozen":
            enable_gradient_checkpointing(model)
        self.frozen = adaptation == "frozen"
        self.model = adapt(model, adaptation, lora)
        if compile:
            compile_layers(self.model)
        self._tree(labels)

    def _tree(self, labels: Sequence[Sequence[int]]) -> None:
        """Lay out the words: rows of tokens to read, nodes on them, and the words' ways over nodes.

        All are buffers that are stored: a network with other words is another one.
        """
        nodes = sorted({tuple(label[:depth]) for label in labels for depth in range(len(label))})
        # The longest ways alone are read; the shorter ones lie on them.
        paths = [n for n in nodes if not any(o[: len(n)] == n and o != n for o in nodes)]
        number = {node: i for i, node in enumerate(nodes)}
        row = [next(i for i, path in enumerate(paths) if path[: len(n)] == n) for n in nodes]
        inner = [(number[node[:-1]], node[-1]) for node in nodes if node]
        last = [(number[tuple(label[:-1])], label[-1]) for label in labels]

        def ways(words: Sequence[Sequence[int]], name: str) -> None:
            steps = [[(number[tuple(w[:d])], w[d]) for d in range(len(w))] for w in words]
            size = max(map(len, steps), default=0)
            table = torch.zeros(3, len(words), size, dtype=torch.int64)
            for i, way in enumerate(steps):
                for d, (node, token) in enumerate(way):
                    table[:, i, d] = torch.tensor([node, token, 1])
            self.register_buffer(name, table)

        size = max(map(len, paths))
        padded = torch.tensor([[*path, *[0] * (size - len(path))] for path in paths])
        self.register_buffer("paths", padded.reshape(len(paths), size).long())
        self.register_buffer("path_lengths", torch.tensor([len(path) for path in paths]))
        self.register_buffer("node_rows", torch.tensor(row))
        self.register_buffer("node_depths", torch.tensor([len(node) for node in nodes]))
        self.register_buffer("branches", torch.tensor([*inner, *last]).T.contiguous())
        ways(labels, "label_ways")
        ways(nodes, "node_ways")

    @property
    def room(self) -> int | None:
        """Longest prompt that the model's positions allow, words behind it, if they are limited."""
        return self._positions and self._positions - self.paths.shape[1]

    def train(self, mode: bool = True) -> LabelTokenNet:
        """Set training mode; a frozen model keeps its dropout off."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Log-probabilities of each class's word and, last, of all else.

        A softmax over all columns is the model's own, over its whole vocabulary; one over the
        classes' columns are the posteriors.

        Parameters
        ----------
        inputs : Tensor of int64, shape (batch, tokens)
            Prompts, padded on either side.
        mask : Tensor of bool, shape (batch, tokens)
            True for real tokens; at least one in each row.

        Returns
        -------
        Tensor of float32, shape (batch, n_classes + 1)
        """
        n, (n_paths, size) = len(inputs), self.paths.shape
        rows = torch.cat([inputs.repeat_interleave(n_paths, 0), self.paths.repeat(n, 1)], dim=1)
        ends = torch.arange(size, device=mask.device) < self.path_lengths[:, None]
        real = torch.cat([mask.repeat_interleave(n_paths, 0), ends.repeat(n, 1)], dim=1)
        rows, real = _aligned(rows, real, "right")
        logits = self.run(rows, real, keep=size + 1).logits
        logits = logits.unflatten(0, (n, n_paths))
        # Rows end together, wherever their words do.
        column = size - self.path_lengths[self.node_rows] + self.node_depths
        return self.columns(logits[:, self.node_rows, column])

    def run(
        self,
        rows: Tensor,
        read: Tensor,
        cache: Cache | None = None,
        keep: int = 1,
        use_cache: bool = False,
    ) -> Any:
        """Logits of the last `keep` tokens of `rows`.

        Parameters
        ----------
        rows : Tensor of int64, shape (batch, new)
        read : Tensor of bool, shape (batch, cached + new)
            Which tokens are real, those in the cache included.
        """
        arguments: dict[str, Any] = {"attention_mask": read.long(), "use_cache": use_cache}
        if self._takes_positions:
            # Counting real tokens makes positions independent of the padding.
            positions = (read.long().cumsum(dim=1) - 1).clamp(min=0)
            arguments["position_ids"] = positions[:, -rows.shape[1] :]
        if self._keeps_logits:
            arguments["logits_to_keep"] = keep
        if cache is not None:
            arguments["past_key_values"] = cache
        found = self.model(input_ids=rows, **arguments)
        found.logits = found.logits[:, -keep:]
        return found

    def columns(self, logits: Tensor) -> Tensor:
        """From logits at the nodes, shape (batch, n_nodes, vocabulary), to those of the classes."""
        log_proba = logits.float().log_softmax(dim=-1)
        nodes, tokens, there = self.label_ways
        words = (log_proba[:, nodes, tokens] * there).sum(dim=-1)
        # Whoever is at a node and takes none of its branches says something else.
        leaving = log_proba.clone()
        # A number would be sent to the GPU, and waited for.
        nothing = leaving.new_full(self.branches.shape[1:], -torch.inf)
        leaving[:, self.branches[0], self.branches[1]] = nothing
        nodes, tokens, there = self.node_ways
        arriving = (log_proba[:, nodes, tokens] * there).sum(dim=-1)
        elsewhere = (arriving + leaving.logsumexp(dim=-1)).logsumexp(dim=1, keepdim=True)
        return torch.cat([words, elsewhere], dim=1)


class Scorer:
    """`LabelTokenNet.forward` without gradients, in less time: what prompts share is read once.

    Keys and values of the first tokens, those of the instruction, are kept from batch to batch, so
    the weights must stay as they are. Prompts of models without plain keys and values, and those
    longer than a window of attention, are read in full.

    Parameters
    ----------
    net : LabelTokenNet
    """

    def __init__(self, net: LabelTokenNet) -> None:
        self._net = net
        self._known: tuple[Tensor, Cache] | None = None

    # Every layer has its own place in the cache, and would be compiled by itself.
    @torch.compiler.set_stance("force_eager")
    @torch.no_grad()
    def __call__(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Arguments and result as those of the network."""
        net = self._net
        if not net.caches:
            return net(inputs, mask)
        n, (n_paths, size) = len(inputs), net.paths.shape
        rows, real = _aligned(inputs, mask, "left")
        columns = rows.shape[1] + size
        shared, cache = self._start(rows, real)
        if cache is not None:
            if not _expandable(cache, columns):
                return net(inputs, mask)
            cache.batch_repeat_interleave(n)
        rest, real_rest = _aligned(rows[:, shared:], real[:, shared:], "right")
        read = torch.cat([real[:, :shared], real_rest], dim=1)
        found = net.run(rest, read, cache, use_cache=bool(shared or size))
        logits = found.logits
        if size:
            cache = found.past_key_values
            if not _expandable(cache, columns):
                return net(inputs, mask)
            cache.batch_repeat_interleave(n_paths)
            ends = torch.arange(size, device=mask.device) < net.path_lengths[:, None]
            read = torch.cat([read.repeat_interleave(n_paths, 0), ends.repeat(n, 1)], dim=1)
            deeper = net.run(net.paths.repeat(n, 1), read, cache, keep=size, use_cache=True)
            deeper = deeper.logits.unflatten(0, (n, n_paths))
            below = net.node_depths > 0
            logits = torch.cat(
                [logits, deeper[:, net.node_rows[below], net.node_depths[below] - 1]], dim=1
            )
        return net.columns(logits)

    def _start(self, rows: Tensor, real: Tensor) -> tuple[int, Cache | None]:
        """How many first tokens have been read for all rows, and a copy of what they gave."""
        shared = _shared_tokens(rows, real)
        known = self._known
        if known is None or len(known[0]) > shared or (rows[0, : len(known[0])] != known[0]).any():
            if len(rows) == 1 or not shared:  # nobody to share it with
                return 0, None
            ids = rows[:1, :shared]
            found = self._net.run(ids, torch.ones_like(ids, dtype=torch.bool), use_cache=True)
            known = self._known = (ids[0], found.past_key_values)
        return len(known[0]), copy.deepcopy(known[1])


class _ExactHead(nn.Module):
    """A language model's output layer in float32, whatever the precision of its weights.

    Logits of about 20 in bfloat16 are 0.125 apart: neighbouring classes would get equal posteriors,
    or ones apart by an eighth.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    @property
    def weight(self) -> Tensor:
        return self.linear.weight

    def forward(self, hidden: Tensor) -> Tensor:
        bias = self.linear.bias
        # Flat: of one token a row, torch would multiply by the weight row by row.
        tokens = hidden.flatten(0, -2).float()
        with torch.autocast(hidden.device.type, enabled=False):
            found = nn.functional.linear(
                tokens, self.linear.weight.float(), None if bias is None else bias.float()
            )
        return found.unflatten(0, hidden.shape[:-1])


def _aligned(rows: Tensor, real: Tensor, side: str) -> tuple[Tensor, Tensor]:
    """Move the real tokens of each row together to one side, in their order."""
    padding_first = real.long() if side == "right" else (~real).long()
    order = padding_first.argsort(dim=1, stable=True)
    return rows.gather(1, order), real.gather(1, order)


def _shared_tokens(rows: Tensor, real: Tensor) -> int:
    """Number of first tokens that all rows share; each row keeps one behind them."""
    same = ((rows == rows[:1]) & real).all(dim=0)
    return min(int(same.long().cumprod(dim=0).sum()), int(real.sum(dim=1).min()) - 1)


def _expandable(cache: Any, columns: int) -> bool:
    """Whether a cache holds keys and values of attention alone, which reaches over all columns.

    A window counts the padding between what is shared and what is not.
    """
    return type(cache) is DynamicCache and all(
        type(layer) is DynamicLayer
        or (type(layer) is DynamicSlidingWindowLayer and columns <= layer.sliding_window)
        for layer in cache.layers
    )
