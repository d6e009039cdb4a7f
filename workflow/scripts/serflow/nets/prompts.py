"""Prompts of a language model, and the tokens of the words it is to answer with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from serflow.errors import UserError
from serflow.nets.loading import SAFE, loading

TEXT, PROMPT = "{text}", "{prompt}"


class Prompts:
    """A model's tokenizer with a prompt: transcripts to token ids up to where the answer begins.

    Parameters
    ----------
    source : str
        Hub id or local folder.
    prompt : str
        What the model is asked; `{text}` stands for the transcript.
    plain_template : str, optional
        The turns around the prompt, `{prompt}`, where the model has no chat template.

    Raises
    ------
    UserError
        If there is no template.

    References
    ----------
    THAU-UPM, EmoSPeech 2024, section 3.1: "applying a chat template that instructs the model to
    predict the next conversational turn".
    """

    def __init__(self, source: str, prompt: str, plain_template: str | None = None) -> None:
        with loading(source, "tokenizer"):
            self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **SAFE)
        if plain_template is None and self._tokenizer.chat_template is None:
            raise UserError(
                f"the tokenizer of '{source}' has no chat template; use an instruction-tuned model, "
                "or say in the study what stands around the prompt, as "
                '`plain_template: "{prompt}\\nEmotion:"`'
            )
        self._prompt = prompt
        self._plain_template = plain_template
        # The mask hides padding, so any valid id does.
        known = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id)
        self.pad_id = next((token for token in known if token is not None), 0)
        added = self._tokenizer.added_tokens_decoder.values()
        self._special = [token.content for token in added if token.special]

    def save(self, folder: Path) -> None:
        """Write the tokenizer, chat template included, as transformers does."""
        self._tokenizer.save_pretrained(folder)

    def rendered(self, text: str) -> str:
        """The prompt with a transcript in it, as the model reads it.

        A transcript cannot end its turn: recognisers write `<unk>` and the like, which the
        tokenizer would take for its own special tokens.
        """
        for token in self._special:
            text = text.replace(token, " ")
        prompt = self._prompt.replace(TEXT, text)
        if self._plain_template is not None:
            return self._plain_template.replace(PROMPT, prompt)
        turns = [{"role": "user", "content": prompt}]
        return self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )

    def labels(self, words: Mapping[str, str]) -> list[list[int]]:
        """Token ids of each class's word, as they follow a prompt.

        Of one token each where no two words begin alike: the first decides. Else of all tokens.

        Parameters
        ----------
        words : mapping of str to str
            Class -> word.

        Raises
        ------
        UserError
            If a word cannot follow the prompt, or is the beginning of another.
        """
        start = self.rendered("")
        before = self._tokens(start)
        rows = []
        for name, word in words.items():
            whole = self._tokens(start + word)
            if whole[: len(before)] != before or len(whole) == len(before):
                raise UserError(
                    f"the word {word!r} of class {name!r} merges with the end of the prompt, "
                    f"{start[-20:]!r}, or has no token; let the template end without a space and "
                    f'begin the word with one, as `words: {{{name}: " {word.strip()}"}}`'
                )
            rows.append(whole[len(before) :])
        if len({row[0] for row in rows}) == len(rows):
            return [row[:1] for row in rows]
        names = list(words)
        for i, row in enumerate(rows):
            for j, other in enumerate(rows):
                if i != j and other[: len(row)] == row:
                    raise UserError(
                        f"the tokens of {words[names[i]]!r} (class {names[i]!r}) begin those of "
                        f"{words[names[j]]!r} (class {names[j]!r}), so the model cannot tell them "
                        "apart; choose other `words`"
                    )
        return rows

    def __call__(self, texts: list[str], max_tokens: int) -> tuple[list[list[int]], int]:
        """Token ids of the prompt with each transcript, and how many transcripts were cut.

        Parameters
        ----------
        texts : list of str
            Transcripts; an empty one is valid.
        max_tokens : int
            A longer prompt loses the end of its transcript, never of the instruction.

        Raises
        ------
        UserError
            If there is no room for a transcript.
        """
        shortest = len(self._tokens(self.rendered("")))
        if shortest >= max_tokens:
            raise UserError(
                f"the prompt alone has {shortest} tokens, and at most {max_tokens} are allowed (by "
                "max_tokens, or the model's positions): there must be room for a transcript"
            )
        rows = [self._tokens(self.rendered(text)) for text in texts]
        long = [i for i, row in enumerate(rows) if len(row) > max_tokens]
        for i in long:
            rows[i] = self._cut(texts[i], max_tokens)
        return rows, len(long)

    def _cut(self, text: str, max_tokens: int) -> list[int]:
        """Tokens with as many of the transcript's first words as there is room for."""
        fits, too_many = 0, len(text)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if len(self._tokens(self.rendered(text[:middle]))) <= max_tokens:
                fits = middle
            else:
                too_many = middle
        kept = text[:fits]
        if not text[fits].isspace() and len(kept.split()) > 1:  # half a word is another word
            kept = kept.rsplit(maxsplit=1)[0]
        return self._tokens(self.rendered(kept))

    def _tokens(self, rendered: str) -> list[int]:
        # A chat template has written the special tokens already.
        special = self._plain_template is not None
        return self._tokenizer(rendered, add_special_tokens=special, verbose=False)["input_ids"]
