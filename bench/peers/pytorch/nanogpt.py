"""A dense nanoGPT-style character model at Tiny Shakespeare CPU settings; prints its validation loss as JSON.

    python3 nanogpt.py --train train.txt --valid valid.txt --seed 1337

4 layers, 4 heads, width 128, context 64, batch 12, 2000 steps; AdamW, lr 1e-3 falling by a cosine to 1e-4 after 100
steps of warm-up, betas 0.9 and 0.99, weight decay 0.1 on two-dimensional parameters, gradients clipped at norm 1;
no dropout, no biases; LayerNorm, GELU, learned positions, output tied to the embedding. The validation loss is the
mean negative log-likelihood in nats per character over consecutive, non-overlapping windows of all of the
validation text (the last window may be shorter).
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
STEPS, WARMUP, TOP_RATE, LOW_RATE = 2000, 100, 1e-3, 1e-4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.project = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm2 = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, HEADS, -1)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class NanoGPT(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # GPT-2: the two projections into the residual stream are scaled down by the depth.
                residual = name.endswith(("project.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def learning_rate(step):
    if step < WARMUP:
        return TOP_RATE * (step + 1) / (WARMUP + 1)
    progress = (step - WARMUP) / (STEPS - WARMUP)
    return LOW_RATE + 0.5 * (1 + math.cos(math.pi * progress)) * (TOP_RATE - LOW_RATE)


def read_characters(path, option):
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SystemExit(f"nanogpt.py: cannot read {option} {path}: {error.strerror}")
    if len(text) <= CONTEXT:
        raise SystemExit(f"nanogpt.py: {option} {path} has {len(text)} characters; it needs more than {CONTEXT}")
    return text


@torch.no_grad()
def validation_loss(model, data):
    model.eval()
    total, count = 0.0, 0
    for windows in range(0, len(data) - 1, CONTEXT * 64):
        chunk = data[windows : windows + CONTEXT * 64 + 1]
        full = (len(chunk) - 1) // CONTEXT * CONTEXT
        pieces = [(chunk[:full].view(-1, CONTEXT), chunk[1 : full + 1].view(-1, CONTEXT))] if full else []
        if full < len(chunk) - 1:
            pieces.append((chunk[full:-1][None], chunk[full + 1 :][None]))
        for inputs, targets in pieces:
            total += F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="sum").item()
            count += targets.numel()
    return total / count, count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, metavar="FILE")
    parser.add_argument("--valid", required=True, metavar="FILE")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    train_text, valid_text = read_characters(args.train, "--train"), read_characters(args.valid, "--valid")
    alphabet = sorted(set(train_text))
    index = {character: i for i, character in enumerate(alphabet)}
    unknown = sorted(set(valid_text) - set(alphabet))
    if unknown:
        raise SystemExit(f"nanogpt.py: --valid has characters that --train lacks: {unknown[:10]!r}")
    train = torch.tensor([index[c] for c in train_text])
    valid = torch.tensor([index[c] for c in valid_text])

    model = NanoGPT(len(alphabet))
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=TOP_RATE,
        betas=(0.9, 0.99),
        fused=True,
    )
    offsets = torch.arange(CONTEXT + 1)
    start = time.perf_counter()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        batch = train[torch.randint(len(train) - CONTEXT, (BATCH, 1)) + offsets]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start
    nll, characters = validation_loss(model, valid)
    print(
        json.dumps(
            {
                "peer": "nanogpt-pytorch",
                "seed": args.seed,
                "parameters": sum(p.numel() for p in parameters),
                "vocabulary": len(alphabet),
                "steps": STEPS,
                "trainSeconds": round(seconds, 1),
                "validationLoss": round(nll, 4),
                "validationCharacters": characters,
                "torchVersion": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
