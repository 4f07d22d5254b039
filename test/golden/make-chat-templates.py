"""Writes chat-templates.json: what transformers' apply_chat_template makes of conversations, by templates of the usual kinds.

    pip install -r requirements-chat.txt && python make-chat-templates.py
"""

import json
import sys
from pathlib import Path

import jinja2
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent

# One of each kind that checkpoints have, written for this test: role markers (ChatML), [INST] with a system message folded
# into the first turn and alternation enforced, headers with a default system message, turns named otherwise than the roles,
# and one that uses loops, filters, macros, namespaces and whitespace control together.
TEMPLATES = {
    "markers": """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    "instructions": """{%- if messages[0]['role'] == 'system' -%}
    {%- set system_message = messages[0]['content'] | trim + '\\n\\n' -%}
    {%- set messages = messages[1:] -%}
{%- else -%}
    {%- set system_message = '' -%}
{%- endif -%}
{{ bos_token }}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif -%}
    {%- if message['role'] == 'user' -%}
        {%- set content = system_message + message['content'] if loop.index0 == 0 else message['content'] -%}
        {{ ' [INST] ' + content | trim + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' -%}
        {{ ' ' + message['content'] | trim + eos_token }}
    {%- else -%}
        {{ raise_exception('Only user and assistant roles are supported!') }}
    {%- endif -%}
{%- endfor -%}
""",
    "headers": """{{- bos_token }}
{%- if messages[0].role != "system" %}
    {{- "<|start|>system<|end|>\\n\\nBe brief." + eos_token }}
{%- endif %}
{%- for message in messages %}
    {{- "<|start|>" ~ message.role ~ "<|end|>\\n\\n" ~ (message.content | trim) ~ eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start|>assistant<|end|>\\n\\n" }}
{%- endif %}
""",
    "turns": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
""",
    "everything": """{%- macro shout(text) -%}
{{ text | upper | replace('A', '4') }}!
{%- endmacro -%}
{#- A comment that says nothing -#}
{%- set state = namespace(users=0, last='') -%}
{%- for message in messages if message.content != '' -%}
    {%- if message.role in ['user', 'tool'] -%}
        {%- set state.users = state.users + 1 -%}
        {{ '\\n' if not loop.first }}#{{ loop.index }}/{{ loop.length }} {{ shout(message.role) }} {{ message.content.strip() | tojson }}
    {%- elif message.role == 'assistant' and enable_thinking is defined and enable_thinking -%}
        <think>{{ message['content'].split('|')[0] }}</think>{{ message['content'].split('|')[-1] }}
    {%- else -%}
        [{{ message.role | title }}: {{ message.content | length }} {{ 'letter' if message.content | length == 1 else 'letters' }}]
    {%- endif -%}
    {%- set state.last = message.role -%}
{%- endfor -%}
{{ '\\nusers: %d' | string if false else '\\nusers: ' ~ state.users }}, last: {{ state.last }}{{ eos_token if not add_generation_prompt else '' }}
""",
}

CONVERSATIONS = {
    "one": [{"role": "user", "content": "Hello there"}],
    "system": [{"role": "system", "content": "  Answer in verse. "}, {"role": "user", "content": "Why?\n"}],
    "several": [
        {"role": "user", "content": "1 < 2 & \"quoted\" 'too' 😀"},
        {"role": "assistant", "content": "because|yes — naïve 日本語"},
        {"role": "user", "content": "a"},
    ],
    "twice": [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}],
}


def main() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    cases = []
    for template, source in TEMPLATES.items():
        for conversation, messages in CONVERSATIONS.items():
            for add in (True, False):
                variables = {"enable_thinking": True} if conversation == "several" and add else {}
                case = {"template": template, "conversation": conversation, "addGenerationPrompt": add, "variables": variables}
                try:
                    case["text"] = tokenizer.apply_chat_template(
                        messages, chat_template=source, tokenize=False, add_generation_prompt=add, **variables
                    )
                except jinja2.exceptions.TemplateError as error:
                    case["error"] = str(error)
                cases.append(case)
    written = {
        "versions": {
            "python": sys.version.split()[0],
            "transformers": transformers.__version__,
            "jinja2": jinja2.__version__,
        },
        "tokens": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        "templates": TEMPLATES,
        "conversations": CONVERSATIONS,
        "cases": cases,
    }
    (HERE / "chat-templates.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")


main()
