"""Hugging Face transformers' own Switch block, unmodified, as the peer that loops over experts.

The class is `transformers.models.switch_transformers.modeling_switch_transformers.SwitchTransformersSparseMLP`.
It takes our sizes exactly: ReLU experts of two matrices without bias, a float32 top-1 router, and the raw
probability as gate, so its FLOPs equal the vectorised peer's. `expert_capacity` counts per sequence; set to the
sequence length no token is ever dropped, as in the fastest vectorised variant.
"""

import torch
import torch.nn.functional as F
from torch import nn


class LoopMoE(nn.Module):
    """`[batch, time, width]` -> (`[batch, time, width]`, balance loss)."""

    def __init__(self, width, ff, experts, context):
        super().__init__()
        from transformers import SwitchTransformersConfig
        from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP

        self.experts = experts
        self.block = SwitchTransformersSparseMLP(
            SwitchTransformersConfig(
                d_model=width,
                d_ff=ff,
                num_experts=experts,
                expert_capacity=context,
                dropout_rate=0.0,
                router_jitter_noise=0.0,
                router_bias=False,
                router_dtype="float32",
                dense_act_fn="relu",
            )
        )
        # The block keeps the router's logits to itself; transformers too reads them through a hook.
        self.block.router.register_forward_hook(self._remember)
        self._routed = None

    def _remember(self, module, inputs, output):
        self._routed = output

    def forward(self, x):
        y = self.block(x)
        one_hot, _, logits = self._routed
        self._routed = None
        share = one_hot.view(-1, self.experts).float().mean(dim=0)
        probability = F.softmax(logits.view(-1, self.experts), dim=-1).mean(dim=0)
        return y, self.experts * torch.dot(share, probability)
