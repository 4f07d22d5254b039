"""Writes corpus.json: small safetensors files, sound and malformed, with the verdict of the reference implementation.

    pip install safetensors==0.8.0 numpy
    python make-corpus.py

A file is kept as its header (text, or base64 where it is not UTF-8), the length that its first eight bytes claim, and
the number of zero bytes after it. Half is made by hand, half by seeded changes of the tokens of sound headers.
"""

import base64
import json
import random
import re
import struct
import tempfile
from pathlib import Path

import safetensors

HERE = Path(__file__).parent


def entry(dtype="F32", shape="[2]", offsets="[0,8]", name="w"):
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


def one(*args, **options):
    return "{" + entry(*args, **options) + "}"


def spans(*pairs):
    return "{" + ",".join(entry("U8", f"[{b - a}]", f"[{a},{b}]", f"t{i}") for i, (a, b) in enumerate(pairs)) + "}"


DTYPES = (
    "BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64 "
    "F8_E4M3FNUZ F8_E5M2FNUZ U4 I4 I128 F128 f32 float32 F33 '' F32\\u0000"
).split(" ")
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "BF16": 16, "C64": 64}


def bits(dtype):
    found = re.search(r"\d+$", dtype)
    return BITS.get(dtype) or (int(found[0]) if found else 32)


def by_hand():
    """Pairs of a header, and the bytes after it or a pair with the length claimed."""
    sound = one()
    for name in DTYPES:
        size = 4 * bits(name) // 8
        yield one(name, "[2,2]", f"[0,{size}]"), size
        if name in BITS:
            yield one(name, "[1]", "[0,1]"), 1
            yield one(name, "[3]", f"[0,{3 * bits(name) // 8}]"), 3 * bits(name) // 8
    yield sound, 8
    yield "{}", 0
    yield "{}", 1
    for data in (0, 7, 9):
        yield sound, data
    for claimed in (0, 1, 3, len(sound) - 1, len(sound) + 1, len(sound) + 9, 100_000_001, 2**31, 2**63, 2**64 - 1):
        yield sound, 8, claimed
    for around in (" {}", "{} ", "\n\t{}\r\n", "{}\0\0\0", "\ufeff{}", "{}{{}}", "{},", "[{}]", "{}x", "/**/{}"):
        yield around.replace("{}", sound).replace("{{}}", "{}"), 8
    for root in ("[]", "17", '"text"', "null", "true", " ", "", "{", "}", '{"w"', '{"w":', '{"w":{', "nul"):
        yield root, 0
    for deep in (100, 127, 128, 200):
        yield "[" * deep, 0
        yield '{"__metadata__":{"a":' + "[" * deep + "]" * deep + "}}", 0
        yield '{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":' + "[" * deep + "]" * deep + "}}", 1
    yield b'{"\xff":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1
    yield b'{"\xc0\xaf":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1
    yield b'{"\xed\xa0\x80":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1
    names = (
        "", " ", "__proto__", "constructor", "toString", "a.b.c", "\\u0000", "\\n", "\\/", "\\\\", '\\"', "é",
        "\\u00e9", "\\ud83d\\ude00", "😀", "\\ud800", "\\ude00\\ud83d", "\\x41", "\\u12", "\\U0041", "a\nb", "a\tb",
        "\x7f", "__metadata__ ", "__Metadata__", "n" * 300,
    )  # fmt: skip
    for name in names:
        yield one("U8", "[1]", "[0,1]", name), 1
    yield '{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1
    yield '{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0077":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1
    for field in ('"dtype":"F32"', '"shape":[2]', '"data_offsets":[0,8]', '"x":1', '"Dtype":"F32"', '"":null'):
        yield one().replace("}}", f",{field}}}}}"), 8
    for field in ('"dtype":"F32",', '"shape":[2],', ',"data_offsets":[0,8]'):
        yield one().replace(field, ""), 8
    for value in ("null", "1", '"F32"', "[]", "{}", '["F32",[2],[0,8]]'):
        yield f'{{"w":{value}}}', 0
    for value in ("4", "null", "[]", '["F32"]'):
        yield one().replace('"F32"', value), 8
    shapes = (
        "[-2]", "[-0]", "[2.0]", "[2.5]", "[NaN]", "[1e308]", "[2e0]", "[02]", "[+2]", '["2"]', "2", "null", "[[2]]",
        "[]", "[0]", "[1,2]", "[2,1,1]", "[2,]", "[,2]", "[ 2 ]", "[9007199254740992]", "[18446744073709551615]",
        "[18446744073709551616]", "[4294967296,4294967296]", "[4611686018427387904,4]", "[0,18446744073709551615]",
        "[0,9007199254740991,9007199254740991]", "[9007199254740991,9007199254740991,0]", "{}", "true",
    )  # fmt: skip
    for shape in shapes:
        yield one(shape=shape), 8
        yield one(shape=shape, offsets="[0,0]"), 0
    for count in (8, 32, 64, 65, 1000):
        yield one("U8", "[" + ",".join("1" * count) + "]", "[0,1]"), 1
    offsets = (
        "[-1,7]", "[0,8.5]", "[0,8e0]", "[0,8.0]", '["0",8]', "[0]", "[]", "[0,8,8]", "8", "[8,0]", "[00,8]", "null",
        "[0,18446744073709551615]", "[0,18446744073709551616]", "[1,9]", "[0,9]", "[0,7]", "[8,8]", "[-0,8]",
    )  # fmt: skip
    for text in offsets:
        yield one(offsets=text), 8
    layouts = (
        [(0, 4), (3, 8)], [(0, 4), (5, 8)], [(1, 4)], [(0, 8), (2, 4)], [(0, 8), (4, 4)], [(0, 8), (9, 9)],
        [(0, 4), (4, 7)], [(4, 8), (0, 4)], [(0, 0), (0, 0), (0, 8)], [(0, 8), (8, 8), (8, 8)], [(0, 4), (0, 4)],
        [(0, 8), (8, 9)], [(0, 0)], [(8, 8)], [(0, 4), (4, 4), (4, 8)],
    )  # fmt: skip
    for layout in layouts:
        yield spans(*layout), 8
    texts = (
        "{}", '{"format":"pt"}', '{"a":1}', '{"a":null}', '{"a":{}}', '{"a":["b"]}', '"a"', "null", "1", "[]",
        '{"a":"1","a":"2"}', '{"__proto__":"p","":""}', '{"a":"\\u0000\\n"}', '{"a":"\\ud800"}', '{"\\ud800":"a"}',
    )  # fmt: skip
    for text in texts:
        yield f'{{"__metadata__":{text}}}', 0
        yield f'{{{entry()},"__metadata__":{text}}}', 8
    yield '{"__metadata__":{},"__metadata__":{}}', 0
    yield '{"__metadata__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1


TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+|[\[\]{},:]')
ATOMS = ["0", "1", "2", "8", "-1", "null", '"U8"', '"F32"', '"shape"', '"w"', "[", "]", "{", "}", ",", ":", "[]", "{}"]


def by_chance(rng, sound):
    """A sound header of which one to three tokens were deleted, doubled, swapped or replaced."""
    header, data = rng.choice(sound)
    tokens = TOKEN.findall(header)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(tokens))
        kind = rng.randrange(5)
        if kind == 0 and len(tokens) > 1:
            del tokens[at]
        elif kind == 1:
            tokens.insert(at, tokens[at])
        elif kind == 2:
            other = rng.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        elif kind == 3:
            tokens[at] = rng.choice(ATOMS)
        elif tokens[at].isdigit():
            tokens[at] = str(int(tokens[at]) + rng.choice([-1, 1, 8]))
    return "".join(tokens), data


def verdict(content):
    try:
        read = dict(safetensors.deserialize(content))
    except Exception as error:
        return {"refused": str(error).replace("Error while deserializing: ", "")[:90]}
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        with safetensors.safe_open(file.name, framework="np") as opened:
            metadata = opened.metadata() or {}
    tensors = {name: [info["dtype"], *info["shape"]] for name, info in read.items()}
    return {"accepted": {"metadata": metadata, "tensors": tensors}}


def main():
    rng = random.Random(24)
    cases = list(by_hand())
    sound = [
        ("{" + entry() + "," + entry("BF16", "[2,2]", "[8,16]", "layer.0") + ',"__metadata__":{"format":"pt"}}', 16),
        ("{" + entry("F16", "[0]", "[0,0]", "empty") + "," + entry("I64", "[]", "[0,8]", "scalar") + "}", 8),
        (spans((0, 4), (4, 5), (5, 8)), 8),
    ]
    cases += [by_chance(rng, sound) for _ in range(350)]
    corpus = []
    seen = set()
    for header, data, *claimed in cases:
        raw = header if isinstance(header, bytes) else header.encode()
        length = claimed[0] if claimed else len(raw)
        if (raw, data, length) in seen:
            continue
        seen.add((raw, data, length))
        content = struct.pack("<Q", length) + raw + bytes(data)
        case = {"base64": base64.b64encode(raw).decode()} if isinstance(header, bytes) else {"header": header}
        if claimed:
            case["claims"] = str(length)
        corpus.append({**case, "data": data, **verdict(content)})
    head = json.dumps({"madeBy": f"safetensors {safetensors.__version__} (Python)", "seed": 24})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in corpus)
    (HERE / "corpus.json").write_text(f'{{"of":{head},"cases":[\n{lines}\n]}}\n')
    accepted = sum("accepted" in case for case in corpus)
    print(f"{len(corpus)} files, {accepted} accepted")


main()
