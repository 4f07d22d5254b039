"""Makes the fixtures of this folder: small vocabularies, and the ids that the reference implementations give.

    pip install -r test/golden/tokenizers/requirements.txt && python test/golden/tokenizers/make.py

unigram.model, bytes.model: trained here by SentencePiece. vocab.txt: a WordPiece vocabulary. ids.json: for every
vocabulary the ids of the lines of `lines`, as SentencePiece and Hugging Face's tokenizers (Rust) have them.
"""

import io
import json
import pathlib

import sentencepiece
import tokenizers
from tokenizers.implementations import BertWordPieceTokenizer

here = pathlib.Path(__file__).parent

training = """
The quick brown fox jumps over the lazy dog . A dog that jumps is quicker than a fox that does not .
Über den Wolken muss die Freiheit wohl grenzenlos sein , und die Freiheit ist größer als das Glück .
L'été dernier , nous avons mangé des crêpes à l'île d'Oléron ; l'hiver prochain , nous mangerons encore .
Ελληνικά γράμματα και λέξεις , με τόνους : ΟΔΟΣ , οδός , ΟΔΌΣ .
Быстрая лиса прыгает через ленивую собаку , а собака спит .
1 234 567 people paid 12.50 or 13.75 each in 2019 , 2020 and 2021 ; 3 of 4 came again .
""".strip().split("\n")
text = [line for line in training for _ in range(30)]

lines = [
    "", " ", "   ", "a", "  two  spaces  ", "The quick brown fox jumps.", "lazydog jumpsover",
    "Über größer Glück", "ΟΔΟΣ ΟΔΌΣ ΣΑΣ", "ÉTÉ été e\u0301te\u0301", "ﬁnal ﬂight ½ ² ① Ⅻ ㎏ ＡＢＣ ｶﾞ ㍿", "İstanbul ISTANBUL ıi",
    "中文字符 and 漢字\U00020000\U0002b820", "ひらがなカタカナ 한국어", "тест собака", "😀👩‍👩‍👧‍👦 🏳️‍🌈 flags",
    "tab\there\u00a0nbsp\u3000wide\u200bzero\u200d\ufeff", "\u0000\u0001\u007f\u0085\u00ad\ufffd",
    "'s n't don't do not 've 're 'm ' .", "a-b_c/d\\e@f#g$h%i^j&k*l(m)n+o=p[q]r{s}t|u<v>w~x`y", "«quoted» “quotes” … – — ‚low‘",
    "x" * 150, "1,234,567.89 12.50", "\u2581lower\u2581bar \u2581", "naïve café crêpes", "don\u2019t", "A  B\u2028C\u2029D",
    "مرحبا بالعالم", "हिन्दी पाठ", "ไทย", "a\u0301\u0302\u0303b", "\u1e9e ẞ ß", "ǅ ǈ ﬀ",
]


def train(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=model, num_threads=1, minloglevel=2, hard_vocab_limit=False, **options)
    return model.getvalue()


unigram = train(vocab_size=220, model_type="unigram", character_coverage=0.99, pad_id=3)
pairs = train(vocab_size=450, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
              remove_extra_whitespaces=False, split_digits=True, character_coverage=0.98)
pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("abcdefghijklmnopqrstuvwxyz0123456789.,;:'!?-"))]
pieces += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
pieces += ["the", "quick", "##er", "##ing", "jump", "##s", "over", "lazy", "dog", "uber", "grosser", "gluck", "ete", "don", "οδος",
           "οδοσ", "中", "文", "漢", "字", "##字", "\U00020000", "тест", "istanbul", "naive", "cafe", "ß", "«", "»", "…", "–", "$", "@", "+", "~",
           "is", "t", "m", "re", "ve", "s", "not", "do", "n"]
pieces = list(dict.fromkeys(pieces))

(here / "unigram.model").write_bytes(unigram)
(here / "bytes.model").write_bytes(pairs)
(here / "vocab.txt").write_text("".join(piece + "\n" for piece in pieces), encoding="utf-8")

def spm(model):
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return {
        "pieces": processor.get_piece_size(),
        "ids": [processor.encode(line) for line in lines],
        "text": [processor.decode(processor.encode(line)) for line in lines],
    }

bert = BertWordPieceTokenizer(str(here / "vocab.txt"), lowercase=True)
encoded = [bert.encode(line, add_special_tokens=False).ids for line in lines]
result = {
    "versions": {"sentencepiece": sentencepiece.__version__, "tokenizers": tokenizers.__version__},
    "lines": lines,
    "unigram": spm(unigram),
    "bytes": spm(pairs),
    "wordPiece": {"pieces": len(pieces), "ids": encoded, "text": [bert.decode(ids) for ids in encoded]},
}
(here / "ids.json").write_text(json.dumps(result, ensure_ascii=True, separators=(",", ":")) + "\n")
