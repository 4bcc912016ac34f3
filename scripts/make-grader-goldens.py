"""Makes test/goldens/graders.json and test/goldens/mini-wordnet/: what the reference packages say about pairs of texts.

    python3 -m venv VENV && VENV/bin/pip install -r scripts/requirements-grader-goldens.txt
    VENV/bin/python scripts/make-grader-goldens.py

The texts are written here or drawn from the words here with a seed. The WordNet is a made-up one of a dozen synsets in
WordNet's file format, so that METEOR's third stage is measured without a download.
"""

import json
import random
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import nltk
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.stem.porter import PorterStemmer
from nltk.translate.bleu_score import sentence_bleu
from nltk.translate.gleu_score import sentence_gleu
from nltk.translate.meteor_score import meteor_score
from rapidfuzz import fuzz, utils
from rouge_score.rouge_scorer import RougeScorer

SEED = 20261122
GOLDENS = Path(__file__).resolve().parent.parent / "test" / "goldens"
WORDNET = GOLDENS / "mini-wordnet"

# Part of speech -> synsets; a word may be in several.
SYNSETS = {
    "noun": [["car", "automobile", "motor_car"], ["house", "home"], ["answer", "reply", "response"], ["reply", "retort"],
             ["ox", "bullock"], ["box", "case"], ["Paris", "capital_of_France"]],
    "verb": [["buy", "purchase"], ["answer", "reply"], ["run", "go"], ["start", "begin"]],
    "adj": [["fast", "quick", "rapid(a)"], ["glad", "happy"]],
    "adv": [["fast", "quickly"]],
}
EXCEPTIONS = {"noun": {"oxen": ["ox"]}, "verb": {"ran": ["run"], "bought": ["buy"]}, "adj": {}, "adv": {}}
TYPES = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}

WORDS = """the a quick brown fox jumps over lazy dog cars car automobile house home houses answer reply answered replies
running runs ran happily happy generalizations relational conditional flies skies dying agreed feed hopping falling
controlling rate cease probate formalize electrical goodness adjustable replacement adoption in of on was and red fast
bought purchase begin start oxen ox boxes case über straße naïve café 東京 42 3.14 it's well-known e.g. U.S.A.""".split()

PAIRS = [
    ("fuzzy wuzzy was a bear", "fuzzy wuzzy had no hair"),
    ("fuzzy wuzzy was a bear", "fuzzy wuzzy was a bear"),
    ("", ""),
    ("", "something"),
    ("something", ""),
    ("...", "!?"),
    ("a", "a"),
    ("a", "b"),
    ("The cat sat on the mat.", "the cat is on the mat"),
    ("the the the the the the the", "the cat is on the mat"),
    ("Paris", "The capital of France is Paris, which lies on the Seine."),
    ("The capital of France is Paris, which lies on the Seine.", "Paris"),
    ("it is forty two, I think, but I am not at all sure about it because nobody ever told me", "42"),
    ("yes", "Yes, that is what everybody who was asked about the matter in the last ten years has said."),
    ("New York Mets vs Atlanta Braves", "Atlanta Braves vs New York Mets"),
    ("fuzzy was a bear but not a dog", "fuzzy fuzzy was a bear"),
    ("He bought a fast car", "He will purchase a quick automobile"),
    ("The oxen ran to the houses", "The bullock will go home"),
    ("She is happy with the replies", "She was glad about the responses"),
    ("PARIS is Large", "paris IS large"),
    ("ab_cd-ef", "ab cd ef"),
    ("tab\tand\nnew line", "tab and new line"),
    ("straße ÜBER café", "Strasse über cafe"),
    ("東京 は 日本 の 首都 です", "日本 の 首都 は 東京 です"),
    ("😀 smile 😀😀", "smile 😀"),
    ("abcdefghijklmnopqrstuvwxyz" * 4, "zyxwvutsrqponmlkjihgfedcba" * 3),
    ("x" * 31 + " " + "y" * 33, "x" * 33 + " " + "y" * 31),
    ("the needle is here", "a haystack with many words, and somewhere in it the needle is hidden, so look for it well"),
    ("one two three", "four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"),
    ("a b c d e f g h", "h g f e d c b a"),
    ("Îles d'été", "ILES D'ETE"),
    ("a\u00a0b\u2003c\ufeffd", "a b c d"),
    ("yyyy syzygy toy", "yyy syzygies toys"),
    ("İstanbul", "lying"),  # a character whose lower case is two
    ("İSTANBUL'DA İKİ GÜN", "istanbul'da iki gün"),
    ("ΣΑΣ ΟΔΥΣΣΕΥΣ", "σασ οδυσσευσ"),  # and one that depends on its place
    ("ΣΑΣ ΟΔΥΣΣΕΥΣ", "σας οδυσσευς"),
]

STEMS = WORDS + """caresses ponies ties cats agreed plastered bled motoring sing conflated troubled sized hopping tanned falling
hissing fizzed failing filing enjoy enjoyment spy fly try spied tried valenci hesitanci digitizer conformabli radicalli
differentli vileli analogousli vietnamization predication operator feudalism decisiveness hopefulness callousness formaliti
sensitiviti sensibiliti triplicate formative electriciti hopeful revival allowance inference airliner gyroscopic defensible
irritant adjustment dependent homologou communism activate angulariti homologous effective bowdlerize controll roll
proceed exceed succeed innings outings cannings howe news sky lied died eed ing is as ally logically carefully analogi
apologi by at yes say yyyy""".split()


def write_wordnet():
    WORDNET.mkdir(parents=True, exist_ok=True)
    for part, synsets in SYNSETS.items():
        data, index = "  1 A made-up WordNet for tests, in the format of WordNet's database files.\n", {}
        for words in synsets:
            offset = len(data.encode())
            entry = f"{offset:08d} 03 {TYPES[part]} {len(words):02x} " + " ".join(f"{word} 0" for word in words)
            data += entry + (" 000 00 | made up\n" if part == "verb" else " 000 | made up\n")
            for word in words:
                index.setdefault(word.split("(")[0].lower(), []).append(offset)
        lines = [f"{word} {TYPES[part]} {len(at)} 0 {len(at)} 0 " + " ".join(f"{each:08d}" for each in at) + "  \n"
                 for word, at in sorted(index.items())]
        (WORDNET / f"data.{part}").write_text(data)
        (WORDNET / f"index.{part}").write_text("  1 A made-up WordNet for tests.\n" + "".join(lines))
        exceptions = [f"{form} {' '.join(bases)}\n" for form, bases in EXCEPTIONS[part].items()]
        (WORDNET / f"{part}.exc").write_text("".join(exceptions))


class MiniWordNet(WordNetCorpusReader):
    def map_wn(self, version="wordnet"):
        """Other languages are mapped through WordNet 3.0, which this is not."""


def open_wordnet(folder):
    """The folder as nltk reads it; the two files it wants beside those of this project's reader are made on the fly."""
    whole = Path(tempfile.mkdtemp())
    nltk.data.path.append(str(whole))  # nltk opens no file outside its own folders
    for file in folder.iterdir():
        shutil.copy(file, whole)
    (whole / "lexnames").write_text("".join(f"{i:02d}\tnoun.all\t1\n" for i in range(45)))
    (whole / "cntlist.rev").write_text("")
    return MiniWordNet(str(whole), None)


class NoWordNet:
    def synsets(self, _word):
        return []


def scores(first, second, wordnet):
    hypothesis, reference = first.split(), second.split()
    rouge = RougeScorer([f"rouge{n}" for n in range(1, 6)] + ["rougeL"]).score(second, first)
    return {
        "fuzzy_match": fuzz.WRatio(first, second, processor=utils.default_process) / 100,
        "bleu": float(sentence_bleu([reference], hypothesis)),
        "gleu": sentence_gleu([reference], hypothesis),
        "meteor": meteor_score([reference], hypothesis, wordnet=NoWordNet()),
        "meteor_wordnet": meteor_score([reference], hypothesis, wordnet=wordnet),
        **{f"rouge_{n}": rouge[f"rouge{n}"].fmeasure for n in range(1, 6)},
        "rouge_l": rouge["rougeL"].fmeasure,
    }


def drawn_pairs(count):
    chance = random.Random(SEED)
    for number in range(count):
        first = [chance.choice(WORDS) for _ in range(chance.randint(1, 40))]
        second = list(first)
        for _ in range(chance.randint(0, 12)):
            match chance.randint(0, 3):
                case 0:
                    second.insert(chance.randint(0, len(second)), chance.choice(WORDS))
                case 1 if len(second) > 1:
                    second.pop(chance.randrange(len(second)))
                case 2:
                    second[chance.randrange(len(second))] = chance.choice(WORDS)
                case _:
                    chance.shuffle(second)
        if number % 4 == 0:  # one much longer than the other
            second += [chance.choice(WORDS) for _ in range(chance.randint(20, 120))]
        pair = (" ".join(first), " ".join(second))
        yield pair if number % 2 == 0 else pair[::-1]


def main():
    warnings.simplefilter("ignore")  # BLEU of short texts
    write_wordnet()
    wordnet = open_wordnet(WORDNET)
    stemmer = PorterStemmer()
    pairs = PAIRS + list(drawn_pairs(120))
    goldens = {
        "script": "scripts/make-grader-goldens.py",
        "versions": {name: version(name) for name in ["nltk", "rapidfuzz", "rouge_score"]},
        "seed": SEED,
        "stems": {word: stemmer.stem(word) for word in STEMS},
        "pairs": [{"input": a, "reference": b, "scores": scores(a, b, wordnet)} for a, b in pairs],
    }
    text = json.dumps(goldens, ensure_ascii=False, indent=1)
    (GOLDENS / "graders.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
