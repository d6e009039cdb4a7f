"""The text network: a transformers sequence classifier with pooling that no padding can fool."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from serflow.nets import quantisation
from serflow.nets.adaptation import Adaptation, Lora, adapt, enable_gradient_checkpointing
from serflow.nets.compilation import compile_layers
from serflow.nets.loading import SAFE, SAFE_WEIGHTS, check_complete, loading


class TextNet(nn.Module):
    """Language model and classification head.

    Causal models (LLaMA, Gemma, ...) classify at the last token. transformers finds it by comparing
    ids with the padding id, which goes wrong when the padding token is the end-of-sequence token
    (TalTech section 3.2) and a text holds it; here the attention mask tells.

    Parameters
    ----------
    source : str
        Hub id or local folder.
    n_outputs : int
        Classes and attributes together.
    adaptation : {"full", "lora", "frozen"}
        Of the language model; the head is always trained.
    lora : Lora, optional
    gradient_checkpointing : bool
    dtype : torch.dtype
        Of the language model's weights; the head of a causal model stays in float32.
    quantised : bool
        Load the language model's weights in four bits; not to be trained themselves.
    compile : bool
        Compile the model's layers; see `serflow.nets.compilation`.

    References
    ----------
    TalTech, Odyssey 2024, section 3.2: "a linear layer using the last token".
    """

    def __init__(
        self,
        source: str,
        n_outputs: int,
        adaptation: Adaptation = "full",
        lora: Lora | None = None,
        gradient_checkpointing: bool = False,
        dtype: torch.dtype = torch.float32,
        quantised: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        stored = quantisation.loading_arguments() if quantised else {"dtype": dtype}
        with loading(source, "language model"):
            model, info = AutoModelForSequenceClassification.from_pretrained(
                source,
                num_labels=n_outputs,
                ignore_mismatched_sizes=True,
                **stored,
                **SAFE_WEIGHTS,
            )
        self._prefix = model.base_model_prefix
        missing = [name for name in info["missing_keys"] if name.startswith(f"{self._prefix}.")]
        check_complete(source, [n for n in missing if ".pooler." not in n], "language model")
        if quantised:
            quantisation.stabilise(model)
        # Nothing is generated, so keys and values of earlier tokens need not be kept.
        model.config.use_cache = False
        if gradient_checkpointing and adaptation != "frozen":
            enable_gradient_checkpointing(model)
        self.causal = hasattr(model, "score")
        if self.causal:
            model.score.float()
        setattr(model, self._prefix, adapt(getattr(model, self._prefix), adaptation, lora))
        for head in (getattr(model, name, None) for name in quantisation.HEADS):
            if head is not None:
                head.requires_grad_(True)
        if compile:
            compile_layers(model)
        self.frozen = adaptation == "frozen"
        self.model = model

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that the model's positions allow, if they are limited."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        # RoBERTa's position ids start behind the padding id.
        offset = (self.model.config.pad_token_id or 0) + 1 if "roberta" in self._prefix else 0
        return positions - offset if positions else None

    def train(self, mode: bool = True) -> TextNet:
        """Set training mode; a frozen language model keeps its dropout off."""
        super().train(mode)
        if self.frozen:
            getattr(self.model, self._prefix).eval()
        return self

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Outputs, shape (batch, n_outputs).

        Parameters
        ----------
        inputs : Tensor of int64, shape (batch, tokens)
            Padded on the right; causal models take either side.
        mask : Tensor of bool, shape (batch, tokens)
            True for real tokens; at least one in each row.
        """
        attention = mask.long()
        if not self.causal:
            return self.model(input_ids=inputs, attention_mask=attention).logits
        # Counting real tokens makes positions independent of the padding side.
        positions = (attention.cumsum(dim=1) - 1).clamp(min=0)
        hidden = getattr(self.model, self._prefix)(
            input_ids=inputs, attention_mask=attention, position_ids=positions
        ).last_hidden_state
        last = (attention * torch.arange(1, inputs.shape[1] + 1, device=mask.device)).argmax(dim=1)
        rows = torch.arange(len(inputs), device=inputs.device)
        return self.model.score(hidden[rows, last].float())


class Tokens:
    """A model's tokenizer: texts to ids, special tokens included, never empty.

    Parameters
    ----------
    source : str
        Hub id or local folder.
    max_tokens : int
        Longer texts lose their end.
    """

    def __init__(self, source: str, max_tokens: int) -> None:
        with loading(source, "tokenizer"):
            self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **SAFE)
        self.max_tokens = max_tokens
        tokenizer = self._tokenizer
        # LLaMA has no padding token: "we set it to be the same as EOS token" (section 3.2). The mask
        # hides padding, so any valid id does.
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
        self.pad_id = next((token for token in known if token is not None), 0)

    def save(self, folder: Path) -> None:
        """Write the tokenizer as transformers does."""
        self._tokenizer.save_pretrained(folder)

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text; an empty text of a tokenizer without special tokens is one pad."""
        if not texts:
            return []
        ids = self._tokenizer(
            texts, truncation=True, max_length=self.max_tokens, padding=False, verbose=False
        )["input_ids"]
        return [row or [self.pad_id] for row in ids]
