"""Text towers of transformers (RoBERTa, XLM-RoBERTa, mT5, NLLB's M2M100) that open_clip puts beside an image tower.

    tokens [B, L] ──which are no padding──> mask [B, 1, L, L] ──transformer, pooler, projection──> features [B, D]

transformers makes its masks of a fixed device, and so do mT5's tables of relative positions. Both are inputs and
buffers here, so a traced file loads anywhere, and the release of transformers stays a matter of the export.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.hf_model import BaseModelOutput, ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder, MeanPooler
from torch import Tensor, nn
from torch.nn import functional

from tritonclip_server.export.errors import UnsupportedModel, WeightsUnavailable

TYPES = ("roberta", "xlm-roberta", "mt5", "m2m_100")
CONFIG = "config.json"  # of a model on the hub


def text_config(config: dict[str, Any], folders: Sequence[Path]) -> dict[str, Any] | None:
    """open_clip's `text_cfg` with a Hugging Face tower, whose own configuration is there; None for another tower.

    That configuration comes from the first of the folders where one of a tower lies, else from the hub or its cache.
    Raises WeightsUnavailable where it cannot be read and UnsupportedModel for a tower of another type than those above.
    """
    text: dict[str, Any] = config.get("text_cfg", {})
    name = text.get("hf_model_name")
    if not name:
        return None
    from transformers import AutoConfig  # takes seconds, and other models do without

    source = next((str(folder) for folder in folders if _type_in(folder / CONFIG) in TYPES), str(name))
    try:
        found = AutoConfig.from_pretrained(source)
    except Exception as error:  # all that the hub's client raises, and a file that is no JSON
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise WeightsUnavailable(
            f"the configuration of its text tower {name} could not be read from {source} nor from the local hub cache "
            f"({reason}). Give --tokenizer DIR with its {CONFIG} beside the tokenizer's files, or point HF_HOME at "
            "a cache that holds it"
        ) from error
    if found.model_type not in TYPES:
        raise UnsupportedModel(
            f"its text tower is a Hugging Face model of type {found.model_type} ({name}); served are {', '.join(TYPES)}"
        )
    return text | {"hf_model_name": source, "hf_model_pretrained": False}


def _type_in(path: Path) -> str:
    """What a config.json is of; a folder of open_clip's may hold that of another model, or none."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("model_type"))
    except (OSError, ValueError, AttributeError):
        return ""


class HuggingFaceTower(nn.Module):
    """int32 tokens to text features. Takes open_clip's tower over: its weights are cast in place.

    A text's features depend on the tokens that are no padding alone, so texts may be cut behind the last of them.
    """

    ends_early = True

    def __init__(self, tower: HFTextEncoder, dtype: torch.dtype) -> None:
        super().__init__()
        if not isinstance(tower.pooler, MeanPooler | ClsPooler | ClsLastHiddenStatePooler):
            raise UnsupportedModel(f"its text tower pools by {type(tower.pooler).__name__}, which is not served")
        self.dtype = dtype
        self.model_type: str = tower.config.model_type
        self.pad_id: int = tower.config.pad_token_id
        self.context_length: int = tower.context_length
        self.transformer = tower.transformer.to(dtype)
        self.pooler, self.projection = tower.pooler, tower.proj.to(dtype)
        self.vocabulary: int = self.transformer.get_input_embeddings().num_embeddings
        for module in self.transformer.modules():
            if getattr(module, "has_relative_attention_bias", False):
                _keep_positions(module, self.context_length)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: int32 [B, L], ids of the vocabulary, L at most the context. Returns fp32 [B, D] of length 1."""
        seen = tokens != self.pad_id
        padding = torch.zeros_like(seen, dtype=self.dtype).masked_fill(~seen, torch.finfo(self.dtype).min)
        mask = padding[:, None, None, :].expand(-1, -1, tokens.shape[1], -1)
        pooled = self.pooler(self._encode(tokens.long(), mask), seen.long())
        return functional.normalize(self.projection(pooled).float(), dim=-1)

    def _encode(self, tokens: Tensor, mask: Tensor) -> Any:
        """What the transformer gives, as its poolers take it."""
        if self.model_type == "m2m_100":
            return BaseModelOutput(last_hidden_state=self._encode_m2m_100(tokens, mask))
        # Left out, they would be a buffer that is brought to the device of the trace.
        types = {"token_type_ids": torch.zeros_like(tokens)} if "roberta" in self.model_type else {}
        return self.transformer(input_ids=tokens, attention_mask=mask, **types)

    def _encode_m2m_100(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """M2M100Encoder.forward without the device that it brings its positions to."""
        encoder: Any = self.transformer
        places = encoder.embed_positions.create_position_ids_from_input_ids(tokens, self.pad_id)
        x = encoder.embed_tokens(tokens) + functional.embedding(places, encoder.embed_positions.weights)
        for layer in encoder.layers:
            x = layer(x, mask)
        normed: Tensor = encoder.layer_norm(x)
        return normed


def _keep_positions(attention: Any, length: int) -> None:
    """Give mT5's first attention its biases of all places to all as a buffer [1, heads, L, L]."""
    with torch.no_grad():
        bias = attention.compute_bias(length, length).detach()
    attention.register_buffer("position_bias_table", bias, persistent=False)

    def stored(queries: int, keys: int, **_options: Any) -> Tensor:
        table: Tensor = attention.position_bias_table
        return table[:, :, :queries, :keys]

    attention.compute_bias = stored
