"""Self-attention as the served graphs compute it: nn.MultiheadAttention's numbers by matrix products of two dimensions.

    x [B, L, E] ──[B·L, E] · [E, 3E]──> q, k, v [B, heads, L, E/heads] ──softmax(q kᵀ/√d + mask) v──> [B·L, E] · [E, E]

nn.MultiheadAttention hands its in-projection a transposed view [L, B, E] of a batch-first input. ATen multiplies such a
view row by row, copying the weight each time, unless the weight requires a gradient, and that is up to whoever loads
the file: frozen, or loaded in inference mode as LibTorch does, its in-projection takes many times as long on a CPU.
Two dimensions have one way to be multiplied, whatever the loader and the batch.
"""

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Takes over the weights of an nn.MultiheadAttention, packed and batch-first, for inputs that attend to themselves.

    Attention: softmax(q kᵀ / √d + mask) v (Vaswani et al. 2017), d being the width of a head.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self,
        query: Tensor,
        _key: Tensor,
        _value: Tensor,
        *,
        attn_mask: Tensor | None = None,
        need_weights: bool = False,  # noqa: ARG002 (as open_clip's blocks call it)
    ) -> tuple[Tensor, None]:
        """query: [B, L, E], and key and value the same; attn_mask: [L, L], added. Returns [B, L, E] and no weights."""
        batch, length, width = query.shape
        packed = functional.linear(query.reshape(-1, width), self.in_proj_weight, self.in_proj_bias)
        q, k, v = packed.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask)
        mixed = self.out_proj(attended.transpose(1, 2).reshape(-1, width))
        return mixed.view(batch, length, width), None


def flatten_attention(tower: nn.Module) -> int:
    """Put SelfAttention into every block of a tower that attends to its own input, in place; returns how many."""
    blocks = [module for module in tower.modules() if isinstance(module, ResidualAttentionBlock)]
    chosen = [block for block in blocks if not hasattr(block, "ln_1_kv") and _is_packed(block.attn)]
    for block in chosen:
        block.attn = SelfAttention(block.attn)
    return len(chosen)


def _is_packed(attention: nn.Module) -> bool:
    return (
        isinstance(attention, nn.MultiheadAttention)
        and attention.batch_first
        and attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
    )
