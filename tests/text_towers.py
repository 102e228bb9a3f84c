"""Configurations of the text towers that open_clip takes from transformers: small ones, and those of the hub.

open_clip reads them from the hub, which tests cannot reach; here they are written beside a small tokenizer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    M2M100Config,
    MT5Config,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)


def _bert_like(config: Callable[..., PretrainedConfig], **settings: Any) -> PretrainedConfig:
    return config(type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, layer_norm_eps=1e-5, **settings)


def _roberta(
    config: Callable[..., PretrainedConfig], vocabulary: int, width: int, layers: int, places: int = 514
) -> PretrainedConfig:
    return _bert_like(
        config,
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // (64 if width > 64 else 32),
        intermediate_size=4 * width,
        max_position_embeddings=places,
    )


def _mt5(vocabulary: int, width: int, hidden: int, layers: int, heads: int) -> MT5Config:
    return MT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=64 if width > 64 else 32,
        d_ff=hidden,
        num_layers=layers,
        num_decoder_layers=1,  # of which open_clip keeps none
        num_heads=heads,
    )


def _nllb(vocabulary: int, width: int, hidden: int, layers: int, heads: int) -> M2M100Config:
    return M2M100Config(
        vocab_size=vocabulary,
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=hidden,
        decoder_layers=1,  # of which open_clip keeps none
        decoder_attention_heads=heads,
        decoder_ffn_dim=64,
        scale_embedding=True,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )


CONFIGURATIONS: dict[str, PretrainedConfig] = {
    "small/roberta": _roberta(RobertaConfig, 4000, 64, 2),
    "small/xlm-roberta": _roberta(XLMRobertaConfig, 4000, 64, 2),
    "small/mt5": _mt5(4000, 64, 128, 2, 2),
    "small/nllb": _nllb(4000, 64, 128, 2, 2),
    "roberta-base": _roberta(RobertaConfig, 50_265, 768, 12),
    "xlm-roberta-base": _roberta(XLMRobertaConfig, 250_002, 768, 12),
    "xlm-roberta-large": _roberta(XLMRobertaConfig, 250_002, 1024, 24),
    "google/mt5-base": _mt5(250_112, 768, 2048, 12, 12),
    "google/mt5-xl": _mt5(250_112, 2048, 5120, 24, 32),
    "facebook/nllb-200-distilled-600M": _nllb(256_206, 1024, 4096, 12, 16),
    "facebook/nllb-200-distilled-1.3B": _nllb(256_206, 1024, 8192, 24, 16),
}


def write_configuration(name: str, folder: Path) -> None:
    """Write config.json of a tower as the hub has it, at its sizes; padding is that of the tokenizer in the folder."""
    configuration = CONFIGURATIONS[name]
    configuration.pad_token_id = PreTrainedTokenizerFast.from_pretrained(folder).pad_token_id
    configuration.save_pretrained(folder)
