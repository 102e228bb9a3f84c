"""The modules that are served, built from an open_clip model.

    pixels [B, 3, S, S] uint8  ──ImageEncoder──>  image_features [B, D] fp32, L2-normalised
    tokens [B, L] int32        ──TextEncoder───>  text_features  [B, D] fp32, L2-normalised
    both                       ──Similarity────>  cosine, logits, probabilities [B, N] fp32
    image_features             ──Head──────────>  logits, probabilities [B, C] fp32, over the labels of a label set
    image_features             ──TrainedHead───>  the same, of a label set that was trained

Their graphs create no tensor of their own: everything is an input, a parameter or a buffer, so one traced file loads on
a CPU and on a GPU alike. `forward` argument names are the tensor names of model_repository/: LibTorch maps by them.
"""

from collections.abc import Sequence

import torch
from open_clip import CoCa
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional

from tritonclip_server.export.attention import flatten_attention
from tritonclip_server.export.errors import UnsupportedModel
from tritonclip_server.export.folding import PIXEL_MAX, fold_pixel_scaling, fold_tower
from tritonclip_server.export.hugging_face import HuggingFaceTower

LENGTHS = (16, 32)  # tokens, start and end included, at which texts are computed, beside the whole context


class ImageEncoder(nn.Module):
    """uint8 RGB pixels to image features. Takes the tower over: its weights are folded and cast in place."""

    gain: Tensor
    shift: Tensor

    def __init__(
        self, tower: nn.Module, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype, fold: bool = True
    ) -> None:
        super().__init__()
        self.dtype = dtype
        if fold:
            fold_tower(tower)
        self.scales_pixels = not (fold and fold_pixel_scaling(tower, mean, std))
        flatten_attention(tower)
        if getattr(tower, "output_tokens", False):
            tower.output_tokens = False  # type: ignore[assignment]  # CoCa's captioning reads them
        self.tower = tower.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Pixel scaling that could not be folded stays in fp32: a few operations, and no rounding of mean and std.
        self.register_buffer("gain", 1.0 / (PIXEL_MAX * torch.tensor(std).view(1, 3, 1, 1)))
        self.register_buffer("shift", -(torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: uint8 [B, 3, S, S], RGB. Returns fp32 [B, D] of length 1."""
        scaled = pixels.float() * self.gain + self.shift if self.scales_pixels else pixels
        features: Tensor = self.tower(scaled.to(self.dtype).contiguous(memory_format=torch.channels_last))
        return functional.normalize(features.float(), dim=-1)


class TextTower(nn.Module):
    """int32 tokens to text features. Takes open_clip's text tower over: its weights are folded and cast in place.

    open_clip's own forward pools with `torch.arange(…, device=…)`, which a trace would bind to one device; this one
    gathers instead and is otherwise the same. It also takes texts that are cut behind their end.
    """

    attn_mask: Tensor | None

    def __init__(self, model: CLIP | CustomTextCLIP | CoCa, dtype: torch.dtype, fold: bool = True) -> None:
        super().__init__()
        tower = _text_tower(model)
        self.dtype = dtype
        self.class_embedding = _in_dtype(getattr(tower, "cls_emb", None), dtype)
        self.masks_padding = self.class_embedding is not None or getattr(tower, "use_pad_mask", False)
        self.masks_class_last = getattr(tower, "correct_cls_mask", False)
        self.pad_id: int = getattr(tower, "pad_id", 0)
        self.pool_type: str = getattr(tower, "text_pool_type", None) or tower.pool_type
        self.eos_id: int = getattr(tower, "text_eos_id", None) or getattr(tower, "eos_id", None) or 0
        if fold:
            fold_tower(tower.transformer)
        if not flatten_attention(tower.transformer) and self.masks_padding:
            raise UnsupportedModel("its text tower masks padding in blocks of another kind than open_clip's plain ones")
        self.transformer = tower.transformer.to(dtype)
        self.token_embedding = tower.token_embedding.to(dtype)
        self.vocabulary: int = self.token_embedding.num_embeddings
        self.positional_embedding = nn.Parameter(tower.positional_embedding.to(dtype))
        self.context_length = len(self.positional_embedding) - (self.class_embedding is not None)
        self.ln_final = tower.ln_final.to(dtype)
        self.register_buffer("attn_mask", None if tower.attn_mask is None else tower.attn_mask.to(dtype))
        self.projection = _as_linear(tower.text_projection).to(dtype)

    @property
    def ends_early(self) -> bool:
        """Whether nothing behind a text's end can reach its features: tokens see those before them, and the end counts.

        Where the mask is not causal, or the features are those of the last place, padding is a part of every text. A
        class embedding stands behind the padding.
        """
        return self.attn_mask is not None and not self.masks_padding and self.pool_type in ("argmax", "eos")

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: int32 [B, L], ids of the vocabulary, L at most the context. Returns fp32 [B, D] of length 1."""
        x = self.token_embedding(tokens)
        if self.class_embedding is not None:
            x = torch.cat([x, self.class_embedding.expand(tokens.shape[0], 1, -1)], dim=1)
        length = x.shape[1]
        x = self.transformer(x + self.positional_embedding[:length], attn_mask=self._mask(tokens, length))
        # The norm is of each place by itself, so it does not matter that CoCa pools before it.
        return functional.normalize(self.projection(self._pool(self.ln_final(x), tokens)).float(), dim=-1)

    def _mask(self, tokens: Tensor, length: int) -> Tensor | None:
        """What is added to the attention of each place to each: [L, L], or [B, 1, L, L] where padding is masked."""
        causal = None if self.attn_mask is None else self.attn_mask[:length, :length]
        if not self.masks_padding:
            return causal
        seen = tokens != self.pad_id
        if self.class_embedding is not None:
            # The published CoCa weights were trained with the class's place at the front of this mask.
            ones = torch.ones_like(seen[:, :1])
            seen = torch.cat([seen, ones] if self.masks_class_last else [ones, seen], dim=1)
        padding = torch.zeros_like(seen, dtype=self.dtype).masked_fill(~seen, float("-inf"))[:, None, None, :]
        return padding.expand(-1, -1, length, -1) if causal is None else causal + padding

    def _pool(self, x: Tensor, tokens: Tensor) -> Tensor:
        if self.pool_type == "first":
            return x[:, 0]
        if self.pool_type == "last" or self.class_embedding is not None:
            return x[:, -1]
        # "argmax": the end-of-text token has the highest id; "eos": the tokenizer's own end-of-sequence id
        ends = tokens if self.pool_type == "argmax" else tokens.eq(self.eos_id).int()
        index = ends.argmax(dim=-1).view(-1, 1, 1).expand(-1, 1, x.shape[-1])
        return x.gather(1, index).squeeze(1)


class TextEncoder(nn.Module):
    """int32 tokens of any ids to text features, each text at the shortest of a few lengths that holds it.

    tokens [B, 77] ──by where they end──> [n, 16], [m, 32], [k, 77] ──TextTower, each──> [B, D], in their order

    A caption has some ten tokens, and what is computed for the padding behind them reaches no feature (`ends_early`).
    On a CPU, which takes time by the token, a text's length is its own, whatever comes with it. A GPU takes as long for
    one text as for thirty, and would take three times as long for three lengths: there a batch has its longest text's.

    An item with an id that no token has gets NaN features, which nobody can take for a vector: an embedding would end
    its whole batch with an error and, on a GPU, the process's use of the device with it.
    """

    bounds: Tensor
    lengths: list[int]

    def __init__(self, model: CLIP | CustomTextCLIP | CoCa, dtype: torch.dtype, fold: bool = True) -> None:
        super().__init__()
        text = getattr(model, "text", None)
        if isinstance(text, HFTextEncoder):
            self.tower: TextTower | HuggingFaceTower = HuggingFaceTower(text, dtype)
            self.ends_by, self.end_id = "padding", self.tower.pad_id
        else:
            self.tower = TextTower(model, dtype, fold)
            self.ends_by, self.end_id = self.tower.pool_type, self.tower.eos_id
        context, self.vocabulary = self.tower.context_length, self.tower.vocabulary
        shorter = [length for length in LENGTHS if length < context] if self.tower.ends_early else []
        self.lengths = [*shorter, context]
        self.register_buffer("bounds", torch.tensor(shorter, dtype=torch.int64))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: int32 [B, L]. Returns fp32 [B, D] of length 1; NaN for an item with an id outside the vocabulary."""
        known = tokens.clamp(0, self.vocabulary - 1)
        features = self.encode(known)
        return features.masked_fill((known != tokens).any(dim=-1, keepdim=True), float("nan"))

    def encode(self, tokens: Tensor) -> Tensor:
        """The same for ids of the vocabulary. This is compiled, not traced: a trace would keep one way alone."""
        group = (self.ends(tokens).unsqueeze(-1) >= self.bounds).sum(dim=-1)
        if tokens.is_cuda:
            return self.at_longest(tokens, group)
        return self.at_each_length(tokens, group)

    def ends(self, tokens: Tensor) -> Tensor:
        """The place behind which nothing of a text counts: [B], from 0."""
        if self.ends_by == "padding":  # the last that is none
            return tokens.shape[-1] - 1 - tokens.ne(self.end_id).int().flip(-1).argmax(dim=-1)
        if self.ends_by == "eos":  # as TextTower pools
            return tokens.eq(self.end_id).int().argmax(dim=-1)
        return tokens.argmax(dim=-1)

    def at_longest(self, tokens: Tensor, group: Tensor) -> Tensor:
        """Features of texts at the length of the longest; group: [B], which of `lengths` each needs."""
        index = int(group.max()) if len(group) > 0 else 0
        features: Tensor = self.tower(tokens[:, : self.lengths[index]])
        return features

    def at_each_length(self, tokens: Tensor, group: Tensor) -> Tensor:
        """The same with each text at its own length."""
        parts, places = [], []
        for index, length in enumerate(self.lengths):
            rows = group.eq(index).nonzero().squeeze(-1)
            if len(rows) == len(tokens):
                features: Tensor = self.tower(tokens[:, :length])
                return features
            if len(rows) > 0:
                parts.append(self.tower(tokens[rows, :length]))
                places.append(rows)
        return torch.cat(parts)[torch.cat(places).argsort()]


class Similarity(nn.Module):
    """Features to scores: the checkpoint's own logit scale (and bias, where it was trained with one).

    logits = scale · cosine + bias; probabilities are a softmax over the texts of each image (CLIP, Radford et al. 2021)
    or, for a model with a bias, an independent sigmoid for each pair (SigLIP, Zhai et al. 2023).
    """

    def __init__(self, logit_scale: float, logit_bias: float | None) -> None:
        super().__init__()
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias

    def forward(self, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """image_features: fp32 [B, D]; text_features: fp32 [N, D]. Returns three fp32 [B, N]."""
        cosine = image_features @ text_features.T
        logits = cosine * self.logit_scale
        if self.logit_bias is None:
            return cosine, logits, logits.softmax(dim=-1)
        logits = logits + self.logit_bias
        return cosine, logits, logits.sigmoid()


class Head(nn.Module):
    """A stored zero-shot classifier: image features against the vectors of its labels, as Similarity scores them."""

    label_features: Tensor

    def __init__(self, label_features: Tensor, logit_scale: float, logit_bias: float | None) -> None:
        super().__init__()
        self.similarity = Similarity(logit_scale, logit_bias)
        self.register_buffer("label_features", label_features)

    def forward(self, image_features: Tensor) -> tuple[Tensor, Tensor]:
        """image_features: fp32 [B, D]. Returns logits and probabilities, each fp32 [B, C]."""
        _, logits, probabilities = self.similarity(image_features, self.label_features)
        return logits, probabilities


class TrainedHead(nn.Module):
    """A trained classifier: logits = (features @ weight.T + bias) / temperature, with a softmax over the labels.

    The temperature is folded into the weights, in fp64. weight: [C, D], bias: [C].
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, temperature: float) -> None:
        super().__init__()
        self.register_buffer("weight", (weight.double() / temperature).float())
        self.register_buffer("bias", (bias.double() / temperature).float())

    def forward(self, image_features: Tensor) -> tuple[Tensor, Tensor]:
        """image_features: fp32 [B, D]. Returns logits and probabilities, each fp32 [B, C]."""
        logits = functional.linear(image_features, self.weight, self.bias)
        return logits, logits.softmax(dim=-1)


def _in_dtype(parameter: Tensor | None, dtype: torch.dtype) -> nn.Parameter | None:
    return None if parameter is None else nn.Parameter(parameter.detach().to(dtype), requires_grad=False)


def _text_tower(model: CLIP | CustomTextCLIP | CoCa) -> CLIP | TextTransformer:
    """The module that holds the text tower's parts; UnsupportedModel where it works in another way than ours."""
    tower = getattr(model, "text", model)
    if not isinstance(tower, CLIP | TextTransformer):
        raise UnsupportedModel(
            f"its text tower is a {type(tower).__name__}; only open_clip's own transformer is served"
        )
    if (getattr(tower, "text_pool_type", None) or tower.pool_type) not in ("first", "last", "argmax", "eos"):
        raise UnsupportedModel("its text tower does not pool to one vector")
    return tower


def _as_linear(projection: nn.Parameter | nn.Linear | None) -> nn.Module:
    """The text projection as a layer: open_clip keeps a bare matrix [width, D], a linear layer, or nothing."""
    if projection is None:
        return nn.Identity()
    if isinstance(projection, nn.Linear):
        return projection
    linear = nn.Linear(projection.shape[0], projection.shape[1], bias=False)
    linear.weight = nn.Parameter(projection.T.contiguous())
    return linear
