"""A stand-in for CoLA that needs no network: minimal pairs from a small grammar, in CoLA's file layout.

Every phenomenon writes pairs of an acceptable and an unacceptable sentence. They differ as little as the contrast
allows, and mostly in both directions ("is" is right as often as "are"), so that counts of words say little about the
label. The label depends on the kinds of words that are combined, which a pretrained encoder knows.

The out-of-domain file shares no noun, verb, name or adjective with the training file and none of its constructions:
the codes in OUT_OF_DOMAIN occur in that file only. Three phenomena ("passive", "adverb_order" and "preposition") are
unseen in training. Training has the other six in another construction (agreement across a prepositional phrase instead
of a relative clause).
"""

import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

SEED = 20190319
Pair = tuple[str, str]  # acceptable, unacceptable
Lexicon = dict[str, list[str]]
Pick = Callable[[str], str]  # returns a word of the given kind that the pair does not have yet
Phenomenon = Callable[[random.Random, Pick], Pair]


class Sentence(NamedTuple):
    """One row. `source` is the code of the phenomenon, `label` 1 for acceptable and 0 for unacceptable."""

    source: str
    label: int
    sentence: str


# Nouns and verbs are regular, as _noun, _ed and _ing spell them; a word that begins with a vowel letter takes "an".
# "intransitive" verbs allow no object; "transitive" (things) and "social" (people) verbs cannot do without one.
TRAIN_WORDS: Lexicon = {
    "context": ["_", "_", "_", "I think that _", "we know that _", "it is true that _"],
    "names": "Mary John Anna Peter Lucy Paul Emma Tom Laura George".split(),
    "he": "boy king uncle monk son grandfather".split(),
    "she": "girl queen aunt nun daughter grandmother".split(),
    "people": "doctor teacher student lawyer farmer driver singer painter nurse neighbor guest artist manager "
    "scientist visitor worker".split(),
    "things": "book lamp chair box key hat picture table bottle basket letter clock mirror boat desk plate phone "
    "umbrella".split(),
    "mass": "water furniture rice money bread soup meat flour".split(),
    "places": "kitchen garden school office library station street park hall cellar".split(),
    "intransitive": "smile laugh arrive sneeze cough yawn listen sigh groan talk stumble".split(),
    "transitive": "repair destroy describe mention damage discover remove inspect receive ignore fetch".split(),
    "social": "admire blame praise defend protect describe help remember thank warn".split(),
    "moods": "happy tired famous angry busy friendly hungry polite sad young".split(),
    "qualities": "old new expensive heavy ugly clean dirty useful broken dusty".split(),
    "sizes": "big small large tiny lovely nice".split(),
    "kinds": "wooden French plastic German metal Chinese".split(),
}
TEST_WORDS: Lexicon = {
    "context": ["_", "_", "_", "everyone heard that _", "it is obvious that _", "you believe that _"],
    "names": "Susan David Alice Robert Helen Frank Carol Martin Julia Edward".split(),
    "he": "prince nephew father brother duke wizard".split(),
    "she": "princess niece mother sister duchess witch".split(),
    "people": "soldier writer sailor engineer pilot dancer judge guard clerk poet tourist author butler captain cousin "
    "customer detective gardener musician officer player president priest professor runner tailor".split(),
    "things": "coin ring cup blanket guitar sword map shirt candle camera pencil jacket ticket radio helmet bag pillow "
    "necklace notebook statue piano".split(),
    "mass": "sugar milk luggage equipment butter".split(),
    "intransitive": "hesitate faint tremble giggle complain appear struggle frown apologize react shiver".split(),
    "transitive": "conceal obtain replace restore acquire locate retrieve overlook".split(),
    "social": "trust respect criticize punish support love hate invite amuse".split(),
    "prepositional": ["look at", "stare at", "gaze at", "glance at", "insist on", "wait for", "object to"],
    "moods": "nervous calm brave lonely clever proud".split(),
}
REFLEXIVES = {"he": "himself", "she": "herself"}


def _noun(noun: str, plural: bool) -> str:
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x")) else "s") * plural


def _ed(verb: str) -> str:
    return verb.removesuffix("e") + "ed"


def _ing(verb: str) -> str:
    return verb.removesuffix("e") + "ing"


def _a(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _coin(rng: random.Random) -> bool:
    return rng.random() < 0.5


def _number(plural: bool, singular_form: str, plural_form: str) -> Pair:
    """Both forms, first the form that agrees with the number."""
    return (plural_form, singular_form) if plural else (singular_form, plural_form)


def _be(rng: random.Random, plural: bool) -> Pair:
    return _number(plural, *rng.choice((("is", "are"), ("was", "were"))))


def _person(rng: random.Random, pick: Pick) -> str:
    kind = rng.choice(("names", "people", "he", "she"))
    return pick(kind) if kind == "names" else f"the {pick(kind)}"


def _pair(frame: str, good: str, bad: str) -> Pair:
    """The frame with its "_" replaced, by the good filler and by the bad filler."""
    return frame.replace("_", good), frame.replace("_", bad)


# In domain.


def _predicate(rng: random.Random, pick: Pick, subject: str, kind: str, plural: bool) -> Pair:
    if rng.random() < 0.25:
        return _pair(f"{subject} _ disappeared", *_number(plural, "has", "have"))
    return _pair(f"{subject} _ {pick('moods' if kind == 'people' else 'qualities')}", *_be(rng, plural))


def agreement(rng: random.Random, pick: Pick) -> Pair:
    """The keys are old. / *The keys is old."""
    kind, plural = rng.choice(("people", "things")), _coin(rng)
    return _predicate(rng, pick, f"the {_noun(pick(kind), plural)}", kind, plural)


def attraction(rng: random.Random, pick: Pick) -> Pair:
    """The key near the boxes is old. / *The key near the boxes are old."""
    kind, plural = rng.choice(("people", "things")), _coin(rng)
    head, attractor = _noun(pick(kind), plural), _noun(pick(rng.choice(("people", "things"))), not plural)
    return _predicate(rng, pick, f"the {head} {rng.choice(('near', 'behind', 'beside'))} the {attractor}", kind, plural)


def determiner(rng: random.Random, pick: Pick) -> Pair:
    """Mary repaired these old lamps. / *Mary repaired this old lamps."""
    person, plural = _person(rng, pick), _coin(rng)
    if rng.random() < 0.3:
        noun = _noun(pick("things"), True) if plural else pick("mass")
        verb = rng.choice(("wanted", "bought", "found", "brought"))
        return _pair(f"{person} {verb} too _ {noun}", *_number(plural, "much", "many"))
    noun = rng.choice(("", pick("qualities") + " ")) + _noun(pick("things"), plural)
    forms = rng.choice((("this", "these"), ("that", "those"), ("every", "many")))
    frame = rng.choice((f"{person} {_ed(pick('transitive'))} _ {noun}", f"_ {noun} had disappeared"))
    return _pair(frame, *_number(plural, *forms))


def existential(rng: random.Random, pick: Pick) -> Pair:
    """There is a lamp in the garden. / *There is every lamp in the garden."""
    plural = _coin(rng)
    noun, location = _noun(pick(rng.choice(("things", "people"))), plural), f"in the {pick('places')}"
    good, bad = _be(rng, plural)
    weak, strong = ("some", "most") if plural else (_a(noun).split()[0], "every")
    if rng.random() < 0.3:
        return _pair(f"there {good} _ {noun} {location}", weak, strong)
    return _pair(rng.choice((f"there _ {weak} {noun} {location}", f"{strong} {noun} _ {location}")), good, bad)


def verb_form(rng: random.Random, pick: Pick) -> Pair:
    """The doctor can smile once again. / *The doctor can smiling once again."""
    verb = pick("intransitive")
    forms = dict.fromkeys(("can", "will", "wants to"), verb)
    forms |= dict.fromkeys(("has", "had"), _ed(verb)) | dict.fromkeys(("is", "was", "kept"), _ing(verb))
    auxiliary = rng.choice(list(forms))
    bad = rng.choice([form for form in forms.values() if form != forms[auxiliary]])
    tail = rng.choice(("once again", f"in the {pick('places')}"))
    return _pair(f"{_person(rng, pick)} {auxiliary} _ {tail}", forms[auxiliary], bad)


def reflexive(rng: random.Random, pick: Pick) -> Pair:
    """The aunt near the king blamed herself. / *The aunt near the king blamed himself."""
    gender, opposite = rng.sample(("he", "she"), 2)
    verb, head, neighbor = pick("social"), pick(gender), pick(opposite)
    good, bad = REFLEXIVES[gender], REFLEXIVES[opposite]
    if rng.random() < 0.2:
        plural = _coin(rng)
        return _pair(f"the {_noun(head, plural)} {_ed(verb)} _", *_number(plural, good, "themselves"))
    small_clause = f"the {neighbor} {rng.choice(('let', 'made'))} the {head} {verb} _"
    simple = f"the {head}{rng.choice(('', f' near the {neighbor}'))} {_ed(verb)} _"
    return _pair(rng.choice((small_clause, simple)), good, bad)


def arguments(rng: random.Random, pick: Pick) -> Pair:
    """The girl repaired the lamp in the hall. / *The girl smiled the lamp in the hall."""
    transitive, intransitive, subject = pick("transitive"), pick("intransitive"), _person(rng, pick)
    start, end = rng.choice(((subject, ""), (f"did {subject}", "?"), (f"{subject} must", "")))
    if start == subject:
        transitive, intransitive = _ed(transitive), _ed(intransitive)
    tail = rng.choice(("once again", f"in the {pick('places')}")) + end
    if _coin(rng):
        return _pair(f"{start} _ the {pick('things')} {tail}", transitive, intransitive)
    return _pair(f"{start} _ {tail}", intransitive, transitive)


def polarity(rng: random.Random, pick: Pick) -> Pair:
    """No student has ever yawned. / *Every student has ever yawned."""
    verb, person, frame = _ed(pick("intransitive")), pick("people"), rng.randrange(4)
    if frame == 0:  # both have the same words; only in the first the negation reaches "ever"
        clause = f"{_noun(pick('people'), True)} {pick('social')}"
        return _pair(f"_ has ever {verb}", f"no {person} who the {clause}", f"the {person} who no {clause}")
    if frame == 1:
        return _pair(f"_ {person} has ever {verb}", "no", rng.choice(("the", "every")))
    start, deed, things = _person(rng, pick), _ed(pick("transitive")), _noun(pick("things"), True)
    if frame == 2:
        return _pair(f"{start} has already {deed} _ {things}", "some", "any")
    return _pair(f"{start} has _ {deed} any {things}", "not", "already")


def filler_gap(rng: random.Random, pick: Pick) -> Pair:
    """What did Mary say that Tom repaired? / *What did Mary smile because Tom repaired?"""
    subject, clause, frame = _person(rng, pick), f"{_person(rng, pick)} {_ed(pick('transitive'))}", rng.randrange(4)
    matrix = f"{subject} {rng.choice(('knows', 'remembers', 'knew'))}"
    if frame == 0:
        return _pair(f"{matrix} _ {clause}", "what", "that")
    if frame == 1:
        return _pair(f"{matrix} _ {clause} the {pick('things')}", "that", "what")
    bridge = rng.choice(("say", "think", "hope")) + " that"
    island = pick("intransitive") + rng.choice((" because", " when", " after"))
    if frame == 2:
        return _pair(f"what did {subject} _ {clause}?", bridge, island)
    return _pair(f"_ {subject} {rng.choice((bridge, island))} {clause} the {pick('things')}?", "did", "what did")


def case(rng: random.Random, pick: Pick) -> Pair:
    """The nurse often admired him. / *The nurse often admired he."""
    subject, object_ = rng.choice((("he", "him"), ("she", "her"), ("they", "them"), ("we", "us")))
    verb, person = f"{rng.choice(('often', 'never', 'always'))} {_ed(pick('social'))}", _person(rng, pick)
    if _coin(rng):
        return _pair(f"_ {verb} {person}", subject, object_)
    return _pair(f"{person} {verb} _", object_, subject)


def word_order(rng: random.Random, pick: Pick) -> Pair:
    """Mary fetched a small wooden box. / *Mary fetched a wooden small box."""
    subject, verb, frame = _person(rng, pick), pick("transitive"), rng.randrange(4)
    auxiliary, size, kind, thing = rng.choice(("will", "can", "must")), pick("sizes"), pick("kinds"), pick("things")
    if frame == 0:
        return _pair(f"what _ {verb}?", f"{auxiliary} {subject}", f"{subject} {auxiliary}")
    if frame == 1:
        return _pair(f"{_person(rng, pick)} knows what _ {verb}", f"{subject} {auxiliary}", f"{auxiliary} {subject}")
    if frame == 2:
        return _pair(f"{subject} {_ed(verb)} the _", f"{size} {thing}", f"{thing} {size}")
    return _pair(f"{subject} {_ed(verb)} a _ {thing}", f"{size} {kind}", f"{kind} {size}")


# Out of domain.


def agreement_clause(rng: random.Random, pick: Pick) -> Pair:
    """The pilot who the dukes trusted is brave. / *The pilot who the dukes trusted are brave."""
    plural = _coin(rng)
    head, neighbor, verb = _noun(pick("people"), plural), f"the {_noun(pick('he'), not plural)}", _ed(pick("social"))
    clause = rng.choice((f"{verb} {neighbor}", f"{neighbor} {verb}"))
    return _pair(f"the {head} who {clause} _ {pick('moods')}", *_be(rng, plural))


def determiner_partitive(rng: random.Random, pick: Pick) -> Pair:
    """The clerk used many of the coins. / *The clerk used much of the coins."""
    plural = _coin(rng)
    noun = _noun(pick("things"), True) if plural else pick("mass")
    start = f"{_person(rng, pick)} {rng.choice(('used', 'ordered'))}"
    if _coin(rng):
        return _pair(f"{start} _ of the {noun}", *_number(plural, "much", "many"))
    return _pair(f"{start} most of _ {noun}", *_number(plural, *rng.choice((("this", "these"), ("that", "those")))))


def verb_form_modal(rng: random.Random, pick: Pick) -> Pair:
    """The duke might faint at night. / *The duke might fainting at night."""
    verb = pick("intransitive")
    start = f"{_person(rng, pick)} {rng.choice(('could', 'should', 'might'))}"
    return _pair(f"{start} _ {rng.choice(('at night', 'during dinner'))}", verb, rng.choice((_ed(verb), _ing(verb))))


def reflexive_embedded(rng: random.Random, pick: Pick) -> Pair:
    """The duke claimed that the witch hated herself. / *The duke claimed that the witch hated himself."""
    gender, opposite = rng.sample(("he", "she"), 2)
    verb, matrix, head = pick("social"), f"the {pick(opposite)}", f"the {pick(gender)}"
    frame = rng.choice((f"{matrix} claimed that {head} {_ed(verb)} _", f"{matrix} expected {head} to {verb} _"))
    return _pair(frame, REFLEXIVES[gender], REFLEXIVES[opposite])


def arguments_infinitive(rng: random.Random, pick: Pick) -> Pair:
    """Susan tried to faint at night. / *Susan tried to conceal at night."""
    transitive, intransitive = pick("transitive"), pick("intransitive")
    start = f"{_person(rng, pick)} {rng.choice(('tried', 'refused', 'decided'))} to"
    tail = rng.choice(("at night", "during dinner"))
    if _coin(rng):
        return _pair(f"{start} _ the {pick('things')} {tail}", transitive, intransitive)
    return _pair(f"{start} _ {tail}", intransitive, transitive)


def polarity_only(rng: random.Random, pick: Pick) -> Pair:
    """Only the pilot ever fainted. / *Even the pilot ever fainted."""
    forms = rng.choice((("only the", "even the"), ("neither", "either")))
    return _pair(f"_ {pick('people')} ever {_ed(pick('intransitive'))}", *forms)


def passive(rng: random.Random, pick: Pick) -> Pair:
    """The map was restored by the duke. / *The map was fainted by the duke."""
    transitive, intransitive = _ed(pick("transitive")), _ed(pick("intransitive"))
    return _pair(f"the {pick('things')} was _ by {_person(rng, pick)}", transitive, intransitive)


def adverb_order(rng: random.Random, pick: Pick) -> Pair:
    """Susan secretly concealed the ring. / *Susan concealed secretly the ring."""
    verb, adverb = _ed(pick("transitive")), rng.choice(("secretly", "suddenly", "rarely", "quietly", "recently"))
    return _pair(f"{_person(rng, pick)} _ the {pick('things')}", f"{adverb} {verb}", f"{verb} {adverb}")


def preposition(rng: random.Random, pick: Pick) -> Pair:
    """The poet stared at the coin. / *The poet stared the coin."""
    verb, small = pick("prepositional").split()
    transitive, person, thing = _ed(pick("transitive")), _person(rng, pick), f"the {pick('things')}"
    if _coin(rng):
        return _pair(f"{person} _ {small} {thing}", _ed(verb), transitive)
    return _pair(f"{person} _ {thing}", transitive, _ed(verb))


def _index(*phenomena: Phenomenon) -> dict[str, Phenomenon]:
    return {phenomenon.__name__: phenomenon for phenomenon in phenomena}


IN_DOMAIN = _index(
    agreement,
    attraction,
    determiner,
    existential,
    verb_form,
    reflexive,
    arguments,
    polarity,
    filler_gap,
    case,
    word_order,
)
OUT_OF_DOMAIN = _index(
    agreement_clause,
    determiner_partitive,
    verb_form_modal,
    reflexive_embedded,
    arguments_infinitive,
    polarity_only,
    passive,
    adverb_order,
    preposition,
)


def _make_pair(rng: random.Random, phenomenon: Phenomenon, words: Lexicon) -> Pair:
    """A pair of whole sentences, with capital and full stop; some declaratives become a clause of a longer sentence."""
    used: list[str] = []

    def pick_unused(kind: str) -> str:
        used.append(rng.choice([word for word in words[kind] if word not in used]))
        return used[-1]

    good, bad = phenomenon(rng, pick_unused)
    if not good.endswith("?"):
        good, bad = _pair(pick_unused("context") + ".", good, bad)
    return good[0].upper() + good[1:], bad[0].upper() + bad[1:]


def generate() -> dict[str, list[Sentence]]:
    """The rows of each file, by file name. No sentence occurs twice, in one file or in two."""
    rng = random.Random(SEED)
    seen: set[str] = set()

    def rows(size: int, phenomena: dict[str, Phenomenon], words: Lexicon) -> list[Sentence]:
        """70% are acceptable: some pairs give both sentences, and the others only the acceptable sentence."""
        acceptable = size * 7 // 10
        codes = list(phenomena)
        sentences: list[Sentence] = []
        for number in range(acceptable):
            code = codes[number % len(codes)]
            pair = _make_pair(rng, phenomena[code], words)
            while not seen.isdisjoint(pair):
                pair = _make_pair(rng, phenomena[code], words)
            seen.update(pair)
            sentences.append(Sentence(code, 1, pair[0]))
            if number < size - acceptable:
                sentences.append(Sentence(code, 0, pair[1]))
        rng.shuffle(sentences)
        return sentences

    return {
        "in_domain_train.tsv": rows(6000, IN_DOMAIN, TRAIN_WORDS),
        "in_domain_dev.tsv": rows(500, IN_DOMAIN, TRAIN_WORDS),
        "out_of_domain_dev.tsv": rows(500, OUT_OF_DOMAIN, TEST_WORDS),
    }


def tsv(sentences: Iterable[Sentence]) -> str:
    """CoLA's layout: source, label, "*" for an unacceptable sentence, sentence; no header."""
    return "".join(f"{row.source}\t{row.label}\t{'' if row.label else '*'}\t{row.sentence}\n" for row in sentences)
