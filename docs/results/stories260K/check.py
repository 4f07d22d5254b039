"""What transformers says of the exported model.

    switchyard export data/stories260K OUT && python docs/results/stories260K/check.py OUT
"""

import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
bos = torch.tensor([[model.config.bos_token_id]])
with torch.no_grad():
    values, ids = torch.topk(model(bos).logits[0, 0], 5)
    text = model.generate(bos, max_new_tokens=60, do_sample=False)[0]
print("transformers", transformers.__version__)
print([(id, round(value, 4)) for id, value in zip(ids.tolist(), values.tolist())])
print(tokenizer.decode(text, skip_special_tokens=True))
