"""Tiny random models of the same classes as the papers', as folders that `from_pretrained` reads."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel, WordPiece
from tokenizers.pre_tokenizers import Split, Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    HubertConfig,
    HubertForSequenceClassification,
    HubertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from serflow.nets.sonar import SonarSpeechConfig, SonarSpeechEncoder

WORDS = [
    "you",
    "the",
    "a",
    "we",
    "it",
    "is",
    "was",
    "great",
    "awful",
    "fine",
    "joy",
    "rage",
    "lovely",
    "hate",
    "table",
    "window",
    "day",
]

CONV = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8, 8),
    "conv_stride": (5, 8, 8),
    "conv_kernel": (10, 8, 8),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 8,
}


def w2v_bert(folder: Path, hidden: int = 16, layers: int = 2, bins: int = 20) -> Path:
    """A Wav2Vec2-BERT over stacked filter banks."""
    torch.manual_seed(0)
    config = Wav2Vec2BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        feature_projection_input_dim=2 * bins,
        vocab_size=8,
    )
    Wav2Vec2BertModel(config).save_pretrained(folder)
    SeamlessM4TFeatureExtractor(feature_size=bins, num_mel_bins=bins).save_pretrained(folder)
    return folder


def sonar(folder: Path, bins: int = 20) -> Path:
    """A SONAR speech encoder."""
    torch.manual_seed(0)
    config = SonarSpeechConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        feature_projection_input_dim=2 * bins,
        conv_depthwise_kernel_size=5,
    )
    SonarSpeechEncoder(config).save_pretrained(folder)
    SeamlessM4TFeatureExtractor(feature_size=bins, num_mel_bins=bins).save_pretrained(folder)
    return folder


def whisper(folder: Path, bins: int = 20, seconds: int = 2) -> Path:
    """A whole Whisper, decoder and all, with a window of `seconds` instead of 30."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=bins,
        max_source_positions=50 * seconds,
        max_target_positions=8,
        vocab_size=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=bins, chunk_length=seconds).save_pretrained(folder)
    return folder


def emotion2vec(folder: Path) -> Path:
    """An emotion2vec as FunASR releases it: config.yaml, and tensors under FunASR's names."""
    torch.manual_seed(0)
    hidden, heads, prenet, depth, positions, channels = 18, 3, 1, 1, 2, 8
    tensors: dict[str, torch.Tensor] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = torch.randn(shape) / math.prod(shape[1:]) ** 0.5
        if bias:
            tensors[f"{name}.bias"] = 0.1 * torch.randn(shape[0])

    def norm(name: str, size: int) -> None:
        tensors[f"{name}.weight"] = 1 + 0.1 * torch.randn(size)
        tensors[f"{name}.bias"] = 0.1 * torch.randn(size)

    audio = "modality_encoders.AUDIO."
    convolutions = [(10, 5), *[(3, 2)] * 4, (2, 2), (2, 2)]
    for i, (kernel, _) in enumerate(convolutions):
        name = f"{audio}local_encoder.conv_layers.{i}"
        layer(f"{name}.0", channels, channels if i else 1, kernel, bias=False)
        norm(f"{name}.2.1", channels)
    norm(audio + "project_features.1", channels)
    layer(audio + "project_features.2", hidden, channels)
    for i in range(positions):
        layer(f"{audio}relative_positional_encoder.{i + 1}.0", hidden, hidden // 2, 5)
    tensors[audio + "extra_tokens"] = torch.randn(1, 4, hidden)
    tensors[audio + "alibi_scale"] = 1 + 0.5 * torch.randn(1, 1, heads, 1, 1)
    norm(audio + "context_encoder.norm", hidden)
    blocks = [f"{audio}context_encoder.blocks.{i}" for i in range(prenet)]
    for block in blocks + [f"blocks.{i}" for i in range(depth)]:
        norm(block + ".norm1", hidden)
        layer(block + ".attn.qkv", 3 * hidden, hidden)
        layer(block + ".attn.proj", hidden, hidden)
        norm(block + ".norm2", hidden)
        layer(block + ".mlp.fc1", 2 * hidden, hidden)
        layer(block + ".mlp.fc2", hidden, 2 * hidden)
    layer(audio + "decoder.proj.0", hidden, hidden)  # of the pre-training
    settings = {
        "embed_dim": hidden,
        "num_heads": heads,
        "depth": depth,
        "mlp_ratio": 2.0,
        "norm_eps": 1e-5,
        "encoder_dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "layer_norm_first": False,
        "normalize": True,
        "modalities": {
            "audio": {
                "prenet_depth": prenet,
                "prenet_dropout": 0.1,
                "num_extra_tokens": 4,
                "conv_pos_width": 5 * positions,
                "conv_pos_depth": positions,
                "conv_pos_groups": 2,
                "feature_encoder_spec": "[(8, 10, 5)] + [(8, 3, 2)] * 4 + [(8,2,2)] + [(8,2,2)]",
                "extractor_mode": "layer_norm",
                "use_alibi_encoder": True,
            }
        },
    }
    folder.mkdir(parents=True)
    written = yaml.safe_dump({"model": "Emotion2vec", "model_conf": settings})
    (folder / "config.yaml").write_text(written)
    torch.save({"model": tensors}, folder / "emotion2vec_base.pt")
    return folder


def conv_encoder(folder: Path, kind: str, norm: str) -> Path:
    """A wav2vec2, HuBERT or WavLM over waveforms; `norm` is "group" (base) or "layer" (large)."""
    torch.manual_seed(0)
    config, model = {
        "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
        "hubert": (HubertConfig, HubertModel),
        "wavlm": (WavLMConfig, WavLMModel),
    }[kind]
    model(config(**CONV, feat_extract_norm=norm)).save_pretrained(folder)
    # Base models come with an extractor that normalises, but knows no mask.
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=norm == "layer")
    extractor.save_pretrained(folder)
    return folder


def hubert_classifier(folder: Path) -> Path:
    """A HuBERT large in small, with a head of four classes over a weighted sum of its layers."""
    torch.manual_seed(0)
    config = HubertConfig(
        **CONV,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
        use_weighted_layer_sum=True,
        classifier_proj_size=8,
        num_labels=4,
        layerdrop=0.0,
        initializer_range=0.2,
    )
    model = HubertForSequenceClassification(config)
    # As after training: equal weights would not tell one layer from another.
    torch.nn.init.normal_(model.layer_weights)
    model.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    extractor.save_pretrained(folder)
    return folder


def xls_r(folder: Path) -> Path:
    """A wav2vec2 as XLS-R has it: layer norm everywhere, before attention and feed-forward."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        **CONV, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    extractor.save_pretrained(folder)
    return folder


def llama(folder: Path, bos: bool = True) -> Path:
    """A LLaMA whose tokenizer has no padding token."""
    torch.manual_seed(0)
    _tokenizer(["<s> $A"] if bos else [], bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


# The turns of Gemma; its own template refuses a system turn as well.
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + message['role'] + '\n' + message['content'] | trim }}"
    "{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
TURNS = ["<start_of_turn>", "<end_of_turn>"]


def gemma(folder: Path, words: Sequence[str] = (), hidden: int = 16, layers: int = 2) -> Path:
    """A Gemma with its turns; `words` have a token each, others are spelt letter by letter."""
    torch.manual_seed(0)
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    pieces = ["<bos>", "<eos>", "<unk>", "<pad>", *TURNS, "\n", *WORDS, *words]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    for piece in [*letters, *(f"##{letter}" for letter in letters)]:
        vocabulary.setdefault(piece, len(vocabulary))
    backend = Tokenizer(WordPiece(vocabulary, unk_token="<unk>"))
    # Line ends are tokens, as Gemma's are.
    backend.pre_tokenizer = Split(Regex(r"\n|\w+|[^\w\s]"), "removed", invert=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=TURNS,
        chat_template=GEMMA_TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    config = GemmaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=hidden // 2,
        max_position_embeddings=256,
        pad_token_id=3,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.1,
    )
    GemmaForCausalLM(config).save_pretrained(folder)
    return folder


def roberta(folder: Path) -> Path:
    """A RoBERTa."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(
        ["<s> $A </s>"],
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
    )
    tokenizer.save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=66,
        initializer_range=0.2,  # the usual 0.02 leaves 16 dimensions on a plateau
        pad_token_id=3,
        bos_token_id=0,
        eos_token_id=1,
    )
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


def _tokenizer(template: list[str], **tokens: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<s>", "</s>", "<unk>", "<pad>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    if template:
        tokenizer.post_processor = TemplateProcessing(
            single=template[0], special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **tokens)


def words_in(texts: Sequence[str]) -> list[str]:
    """The words of some texts, each once, in their order."""
    return list(dict.fromkeys(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)))
