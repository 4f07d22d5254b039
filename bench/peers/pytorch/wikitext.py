"""The dense model of a recipe in PyTorch, trained with the recipe's own settings; prints its validation loss as JSON.

    python3 wikitext.py --recipe recipes/wikitext.json --tokenizer runs/…/model/tokenizer.json --data data/wikitext-2 --seed 1

Without --tokenizer, tokens are bytes. Prints also the unigram loss of the validation text under the training text's
counts (add-one), which is what a model knows that has learnt nothing but frequencies.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from model import Attention, rotary_tables


class Block(nn.Module):
    def __init__(self, width, ff, heads):
        super().__init__()
        self.norm1 = nn.RMSNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.RMSNorm(width, eps=1e-6)
        self.up = nn.Linear(width, ff, bias=False)
        self.down = nn.Linear(ff, width, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        return x + self.down(F.relu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self, options, vocabulary):
        super().__init__()
        width, heads = options["hiddenSize"], options["numHeads"]
        self.embedding = nn.Embedding(vocabulary, width)
        ff = options["intermediateSize"]
        self.blocks = nn.ModuleList(Block(width, ff, heads) for _ in range(options["numLayers"]))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        cos, sin = rotary_tables(options["contextLength"], width // heads)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                std = math.sqrt(0.1 / module.in_features)
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]])
        return F.linear(self.norm(x), self.embedding.weight)


def read_tokens(path, tokenizer):
    text = Path(path).read_bytes().decode()
    ids = tokenizer.encode(text).ids if tokenizer else list(text.encode())
    return torch.tensor(ids)


@torch.no_grad()
def validation_loss(model, data, context, batch, batches):
    total, count = 0.0, 0
    for start in range(0, min(len(data) - 1, context * batch * batches), context * batch):
        chunk = data[start : start + context * batch + 1]
        full = (len(chunk) - 1) // context * context
        if full == 0:
            break
        logits = model(chunk[:full].view(-1, context)).flatten(0, 1)
        total += F.cross_entropy(logits, chunk[1 : full + 1], reduction="sum").item()
        count += full
    return total / count, count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, metavar="FILE")
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--tokenizer", metavar="FILE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    recipe = json.loads(Path(args.recipe).read_text())
    options, settings = recipe["model"], recipe["train"]
    schedule, steps = settings["schedule"], settings["steps"]
    context, batch = options["contextLength"], settings["batchSize"]
    peak = args.learning_rate or schedule["learningRate"]
    tokenizer = None
    if args.tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(args.tokenizer)
    train = read_tokens(Path(args.data) / "train.txt", tokenizer)
    valid = read_tokens(Path(args.data) / "valid.txt", tokenizer)
    vocabulary = tokenizer.get_vocab_size() if tokenizer else 256

    counts = torch.bincount(train, minlength=vocabulary).double() + 1
    limit = context * batch * settings["evaluation"]["maxBatches"]
    unigram = -(counts / counts.sum()).log()[valid[1 : limit + 1]].mean().item()

    model = Model(options, vocabulary)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings["optimizer"]["weightDecay"]},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ],
        betas=(settings["optimizer"]["beta1"], settings["optimizer"]["beta2"]),
        fused=True,
    )

    def rate(step):
        warmup, low = schedule["warmupSteps"], schedule["finalFraction"]
        if step < warmup:
            return peak * (step + 1) / (warmup + 1)
        progress = min(1, (step - warmup) / max(1, steps - 1 - warmup))
        return peak * (low + (1 - low) * (1 + math.cos(math.pi * progress)) / 2)

    offsets = torch.arange(context + 1)
    start = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        rows = train[torch.randint(len(train) - context, (batch, 1)) + offsets]
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings["clipNorm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start
    nll, tokens = validation_loss(model, valid, context, batch, settings["evaluation"]["maxBatches"])
    result = {
        "peer": "pytorch",
        "recipe": recipe["name"],
        "seed": args.seed,
        "learningRate": peak,
        "parameters": sum(p.numel() for p in parameters),
        "vocabulary": vocabulary,
        "steps": steps,
        "trainSeconds": round(seconds, 1),
        "validationLoss": round(nll, 4),
        "validationTokens": tokens,
        "unigramLoss": round(unigram, 4),
        "torchVersion": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
