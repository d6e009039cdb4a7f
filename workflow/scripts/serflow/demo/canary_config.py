"""The configurations of NVIDIA's Canaries at a small size: prompts and tokenizers as released.

canary-1b
    Prompt format "canary"; special tokens, and a SentencePiece model for each language, in one
    aggregate.
canary-1b-flash
    Prompt format "canary2", an aggregate again; so is canary-180m-flash.
canary-1b-v2
    Prompt format "canary2"; one SentencePiece model for all languages and the special tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import sentencepiece
from omegaconf import DictConfig, OmegaConf

from serflow.asr.canary import prompt_slots
from serflow.audio import SAMPLE_RATE

Style = Literal["canary-1b", "canary-1b-flash", "canary-1b-v2"]

LANGUAGES = ("en", "de", "es", "fr")
# The released flash models have a token for every language of ISO 639-1, and speak four of them
# (NeMo, scripts/speech_recognition/canary/build_canary_2_special_tokenizer.py).
UNSPOKEN = ("et",)
COMMON = (
    "<|nospeech|>",
    "<pad>",
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|pnc|>",
    "<|nopnc|>",
)
TASKS = ("<|translate|>", "<|transcribe|>")
CONTEXT = (
    "<|startofcontext|>",
    "<|itn|>",
    "<|noitn|>",
    "<|timestamp|>",
    "<|notimestamp|>",
    "<|diarize|>",
    "<|nodiarize|>",
    "<|emo:undefined|>",
    "<|emo:neutral|>",
    "<|emo:angry|>",
    "<|emo:happy|>",
    "<|emo:sad|>",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz '"
PIECES = 64  # of a language's tokenizer
CLASSES = "nemo.collections.common.tokenizers.canary_tokenizer"

SIZE, LAYERS, HEADS, CHANNELS, MELS = 64, 2, 4, 24, 40


def configuration(style: Style, texts: Sequence[str], folder: Path) -> DictConfig:
    """A Canary's configuration at a small size, without dropout.

    Parameters
    ----------
    style : {"canary-1b", "canary-1b-flash", "canary-1b-v2"}
    texts : sequence of str
        What the tokenizers are trained on.
    folder : path
        Where the tokenizers' files go; a model copies them when it is saved.
    """
    prompt_format = "canary" if style == "canary-1b" else "canary2"
    modules = "nemo.collections.asr.modules"
    no_dropout = {"ffn_dropout": 0.0, "attn_score_dropout": 0.0, "attn_layer_dropout": 0.0}
    slots = prompt_slots(prompt_format, "en", pnc=False)
    if prompt_format == "canary2":
        slots |= {"decodercontext": "", "emotion": "<|emo:undefined|>"}
    return OmegaConf.create(
        {
            "prompt_format": prompt_format,
            "prompt_defaults": [{"role": "user", "slots": slots}],
            "sample_rate": SAMPLE_RATE,
            "label_smoothing": 0.0,
            "use_loss_mask_for_prompt": True,
            "tokenizer": _tokenizers(style, texts, folder),
            "model_defaults": {
                "asr_enc_hidden": SIZE,
                "lm_enc_hidden": SIZE,
                "lm_dec_hidden": SIZE,
            },
            "preprocessor": {
                "_target_": f"{modules}.AudioToMelSpectrogramPreprocessor",
                "sample_rate": SAMPLE_RATE,
                "normalize": "per_feature",
                "window_size": 0.025,
                "window_stride": 0.01,
                "window": "hann",
                "features": MELS,
                "n_fft": 512,
                "log": True,
                "frame_splicing": 1,
                "dither": 0.0,
                "pad_to": 0,
                "pad_value": 0.0,
            },
            "spec_augment": None,
            "encoder": {
                "_target_": f"{modules}.ConformerEncoder",
                "feat_in": MELS,
                "feat_out": -1,
                "n_layers": LAYERS,
                "d_model": SIZE,
                "subsampling": "dw_striding",
                "subsampling_factor": 8,
                "subsampling_conv_channels": CHANNELS,
                "causal_downsampling": False,
                "ff_expansion_factor": 4,
                "self_attention_model": "rel_pos",
                "n_heads": HEADS,
                "att_context_size": [-1, -1],
                "xscaling": False,
                "untie_biases": True,
                "pos_emb_max_len": 5000,
                "conv_kernel_size": 9,
                "conv_norm_type": "batch_norm",
                "dropout": 0.0,
                "dropout_pre_encoder": 0.0,
                "dropout_emb": 0.0,
                "dropout_att": 0.0,
            },
            "transf_encoder": {
                "_target_": f"{modules}.transformer.transformer_encoders.TransformerEncoder",
                "num_layers": 0,
                "hidden_size": SIZE,
                "inner_size": 4 * SIZE,
                "num_attention_heads": HEADS,
                "mask_future": False,
                "pre_ln": True,
                "pre_ln_final_layer_norm": True,
                **no_dropout,
            },
            "transf_decoder": {
                "_target_": f"{modules}.transformer.get_nemo_transformer",
                "model_name": None,
                "pretrained": False,
                "encoder": None,
                "pre_ln_final_layer_norm": True,
                "config_dict": {
                    "max_sequence_length": 128,
                    "num_token_types": 0,
                    "embedding_dropout": 0.0,
                    "learn_positional_encodings": False,
                    "hidden_size": SIZE,
                    "inner_size": 4 * SIZE,
                    "num_layers": 1,
                    "num_attention_heads": HEADS,
                    "hidden_act": "relu",
                    "pre_ln": True,
                    "vocab_size": None,
                    **no_dropout,
                },
            },
            "head": {
                "_target_": "nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier",
                "num_layers": 1,
                "activation": "relu",
                "log_softmax": True,
                "hidden_size": SIZE,
                "num_classes": None,
                "dropout": 0.0,
                "use_transformer_init": True,
            },
            "decoding": {  # as released
                "strategy": "beam",
                "return_best_hypothesis": True,
                "beam": {"beam_size": 1, "len_pen": 0.0, "max_generation_delta": 50},
            },
            "loss": {
                "_target_": (
                    "nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss"
                ),
                "label_smoothing": 0.0,
                "pad_id": None,
            },
            "optim": {"name": "adamw", "lr": 1e-3},
        }
    )


def _tokenizers(style: Style, texts: Sequence[str], folder: Path) -> dict[str, Any]:
    lines = [*texts, LETTERS]
    if style == "canary-1b-v2":
        special = _special(CONTEXT, LANGUAGES)
        pieces = _train_pieces(folder / "all", lines, PIECES + len(special), "bpe", special)
        return {**pieces, "custom_tokenizer": {"_target_": f"{CLASSES}.CanaryBPETokenizer"}}
    if style == "canary-1b-flash":
        special = _special(CONTEXT, LANGUAGES + UNSPOKEN)
    else:
        special = _special(TASKS, LANGUAGES)
    prompts = _train_pieces(folder / "special", special, len(special) + 2, "unigram", special)
    english = _train_pieces(folder / "english", lines, PIECES, "bpe")
    return {
        "dir": None,
        "type": "agg",
        # One set of pieces, but a range of ids for each language.
        "langs": {"spl_tokens": prompts, **{name: dict(english) for name in LANGUAGES}},
        "custom_tokenizer": {"_target_": f"{CLASSES}.CanaryTokenizer", "tokenizers": None},
    }


def _special(own: Sequence[str], languages: Sequence[str]) -> tuple[str, ...]:
    return (*COMMON, *own, *(f"<|{language}|>" for language in languages))


def _train_pieces(
    folder: Path, lines: Sequence[str], size: int, kind: str, symbols: Sequence[str] = ()
) -> dict[str, str]:
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=size,
        model_type=kind,
        user_defined_symbols=list(symbols),
        character_coverage=1.0,
        hard_vocab_limit=False,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",  # the default table adds 240 kB
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    names = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
    (folder / "vocab.txt").write_text("\n".join(names), encoding="utf-8")
    return {"dir": str(folder), "type": "bpe"}
