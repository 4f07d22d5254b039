"""Compares what encode.mjs wrote with Hugging Face's tokenizers and with SentencePiece, and writes table.md.

    python docs/results/tokenizers/compare.py OUT
"""

import array
import json
import pathlib
import sys
import unicodedata

import sentencepiece
import tokenizers

out = pathlib.Path(sys.argv[1])
here = pathlib.Path(__file__).parent
ours = json.loads((out / "report.json").read_text())
corpora = ["wikitext-2", "ntrex"]


def read_ids(path):
    flat = array.array("i", path.read_bytes())
    lines, at = [], 0
    while at < len(flat):
        count = flat[at]
        lines.append(flat[at + 1 : at + 1 + count].tolist())
        at += 1 + count
    return lines


def count_different(left, right):
    assert len(left) == len(right)
    return [index for index, (a, b) in enumerate(zip(left, right)) if a != b]


rows = []
for entry in ours:
    name, corpus = entry["tokenizer"], entry["corpus"]
    lines = (out / f"{corpus}.lines").read_bytes().decode().split("\n")
    ids = read_ids(out / f"{name}.{corpus}.ids")
    decoded = [json.loads(line) for line in (out / f"{name}.{corpus}.decoded").read_bytes().decode().split("\n")]
    rust = tokenizers.Tokenizer.from_file(str(out / f"{name}.json"))
    theirs = [encoding.ids for encoding in rust.encode_batch(lines, add_special_tokens=False)]
    back = rust.decode_batch(ids)
    row = {
        **entry,
        "rust_ids": count_different(ids, theirs),
        "rust_text": count_different(decoded, back),
    }
    if name.startswith("spm"):
        spm = sentencepiece.SentencePieceProcessor("data/tokenizers/spm-ende-4k/tokenizer.model")
        spelt = [any(mark in line for mark in ("<unk>", "<s>", "</s>", "<pad>")) for line in lines]
        row["spm_spelt"] = sum(spelt)
        reference = spm.encode(lines)
        row["spm_ids"] = [i for i in count_different(ids, reference) if not spelt[i]]
        # SentencePiece adds up in float32, the others in float64: where two ways to cut are equally likely, either may win.
        scores = [spm.get_score(piece) for piece in range(spm.get_piece_size())]
        total = lambda each: sum(scores[piece] for piece in each)
        row["ties"] = sum(abs(total(ids[i]) - total(reference[i])) < 1e-3 for i in row["spm_ids"])
        unknown = spm.unk_id()
        known = [i for i, each in enumerate(ids) if unknown not in each]
        normal = [spm.normalize(lines[i]).lstrip("\u2581").replace("\u2581", " ") for i in known]
        row["known"] = len(known)
        row["normal"] = [known[i] for i in count_different([decoded[i] for i in known], normal)]
    rows.append(row)
    for key in ("rust_ids", "rust_text", "spm_ids", "normal"):
        for index in row.get(key, [])[:3]:
            print(name, corpus, key, index, ascii(lines[index][:200]), file=sys.stderr)
            if key == "rust_ids":
                print("  ours", rust.decode(ids[index])[:120], "| theirs", rust.decode(theirs[index])[:120], file=sys.stderr)

head = ["tokenizer", "corpus", "lines", "tokens", "lossless lines", "ids ≠ tokenizers (Rust)", "text ≠ tokenizers (Rust)",
        "ids ≠ SentencePiece", "ids ≠ @huggingface/tokenizers", "ours, MB/s", "@huggingface/tokenizers, MB/s"]
table = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
for row in rows:
    library = row["library"]
    table.append("| " + " | ".join([
        row["tokenizer"], row["corpus"], f"{row['lines']:,}", f"{row['tokens']:,}", f"{row['losslessLines']:,}",
        str(len(row["rust_ids"])), str(len(row["rust_text"])),
        "–" if "spm_ids" not in row else f"{len(row['spm_ids'])} of {row['lines'] - row['spm_spelt']:,}",
        f"{library['different']} of {library['lines']:,}",
        f"{row['megabytesPerSecond']:.1f}", f"{library['megabytesPerSecond']:.1f}"]) + " |")
notes = [f"- {row['tokenizer']}, {row['corpus']}: of {row['known']:,} lines without an unknown character, "
         f"{row['known'] - len(row['normal']):,} decode to exactly what SentencePiece normalises them to; "
         f"of {len(row['spm_ids'])} lines with other ids {row['ties']} are ties: both ways to cut have the same score."
         for row in rows if "known" in row]
text = "\n".join([f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}, "
                  f"Python's Unicode {unicodedata.unidata_version}", "", *table, "", *notes, ""])
(out / "table.md").write_text(text, encoding="utf-8")
print(text)
