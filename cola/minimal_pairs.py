"""A stand-in for CoLA that needs no network: minimal pairs from a small grammar, in CoLA's own file layout.

Every phenomenon writes pairs of an acceptable and an unacceptable sentence that differ as little as the contrast
allows, and mostly in both directions ("is" is right as often as "are"), so that counting words says little about the
label. What is right depends on what kind of words stand together, which a pretrained encoder brings along.

The out-of-domain file shares no noun, verb, name or adjective with the training file and none of its constructions:
all codes in OUT_OF_DOMAIN occur in that file only. Five of them carry a training phenomenon over to a new
construction (agreement across a relative clause instead of a prepositional phrase); the others are new phenomena.
"""

import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

SEED = 20190319
Pair = tuple[str, str]  # acceptable, unacceptable
Pick = Callable[[str], str]  # a word of the given kind, never one that the pair already holds
Phenomenon = Callable[[random.Random, Pick], Pair]
Lexicon = dict[str, list[str]]


class Sentence(NamedTuple):
    """One row. `source` is the code of the phenomenon, `label` 1 for acceptable and 0 for unacceptable."""

    source: str
    label: int
    sentence: str


# Nouns take a regular plural, verbs are regular (_s, _ed and _ing spell the forms), and "an" stands before a vowel
# letter. "intransitive" verbs allow no object, "transitive" and "social" ones cannot do without.
TRAIN_WORDS: Lexicon = {
    "he": "boy king uncle monk son grandfather".split(),
    "she": "girl queen aunt nun daughter grandmother".split(),
    "people": "doctor teacher student lawyer farmer driver singer painter nurse neighbor guest artist manager scientist "
    "baker banker dentist director editor hunter mayor plumber reporter senator visitor worker".split(),
    "names": "Mary John Anna Peter Lucy Paul Emma Tom Laura George Sarah James Linda Henry Kate Simon".split(),
    "things": "book lamp chair box key hat picture table bottle basket letter clock mirror boat desk plate spoon phone "
    "computer bicycle car umbrella sofa carpet drawer toy ladder hammer wallet flag".split(),
    "mass": "water furniture rice money bread soup meat flour".split(),
    "places": "kitchen garden school office library station street park hall cellar".split(),
    "intransitive": "smile laugh arrive sneeze cough disappear yawn listen sigh blink groan talk stumble".split(),
    "transitive": "repair destroy describe mention damage discover purchase remove inspect receive lift display need "
    "ignore fetch".split(),
    "social": "admire blame praise defend protect describe help remember thank follow visit warn".split(),
    "irregular": [
        "take took taken",
        "break broke broken",
        "hide hid hidden",
        "steal stole stolen",
        "forget forgot forgotten",
        "shake shook shaken",
    ],
    "moods": "happy tired famous angry busy friendly hungry polite sad young".split(),
    "qualities": "old new expensive heavy ugly clean dirty useful broken dusty".split(),
    "sizes": "big small large tiny long lovely".split(),
    "kinds": "wooden French plastic German metal Chinese".split(),
    "degrees": "tall young short strong kind rich smart".split(),
}
OTHER_WORDS: Lexicon = {
    "he": "prince nephew father brother duke wizard".split(),
    "she": "princess niece mother sister duchess witch".split(),
    "people": "soldier writer sailor engineer pilot dancer judge guard clerk poet tourist author butler captain cousin "
    "customer detective gardener musician officer player president priest professor runner tailor".split(),
    "names": "Susan David Alice Robert Helen Frank Carol Martin Julia Edward".split(),
    "things": "coin ring cup blanket guitar sword map shirt candle camera pencil jacket ticket radio helmet bag pillow "
    "knot necklace notebook statue piano".split(),
    "mass": "sugar milk luggage equipment butter".split(),
    "places": "castle hotel forest church museum harbor".split(),
    "intransitive": "hesitate faint tremble giggle complain appear struggle frown apologize react shiver".split(),
    "transitive": "examine replace obtain conceal restore reject acquire demand seize".split(),
    "social": "trust respect criticize punish support love hate invite greet".split(),
    "irregular": ["choose chose chosen", "throw threw thrown", "tear tore torn", "see saw seen", "draw drew drawn"],
    "moods": "nervous calm brave lonely clever proud".split(),
    "qualities": "cheap strange beautiful thick modern".split(),
    "sizes": "huge little narrow".split(),
    "kinds": "golden Spanish leather Italian".split(),
    "degrees": "old weak fast quick slow".split(),
    "to": "decided agreed promised hoped pretended refused".split(),
    "ing": "avoided enjoyed finished considered kept practiced".split(),
    "particle": ["picked up", "turned down", "wrote down", "put away", "figured out", "handed over", "called off"],
    "preposition": ["looked at", "relied on", "waited for", "dealt with", "stared at", "paid for", "asked for"],
}


def _s(word: str) -> str:
    """The plural of a noun, the third person of a verb."""
    return word + ("es" if word.endswith(("s", "sh", "ch", "x")) else "s")


def _ed(verb: str) -> str:
    return verb.removesuffix("e") + "ed"


def _ing(verb: str) -> str:
    return verb.removesuffix("e") + "ing"


def _a(phrase: str) -> str:
    return ("an " if phrase[0].lower() in "aeiou" else "a ") + phrase


def _number(plural: bool, singular_form: str, plural_form: str) -> Pair:
    """The two forms, the fitting one first."""
    return (plural_form, singular_form) if plural else (singular_form, plural_form)


def _noun(noun: str, plural: bool) -> str:
    return _s(noun) if plural else noun


def _coin(rng: random.Random) -> bool:
    return rng.random() < 0.5


def _person(rng: random.Random, pick: Pick) -> str:
    kind = rng.choice(("names", "people", "he", "she"))
    return pick(kind) if kind == "names" else f"the {pick(kind)}"


def _pair(frame: str, good: str, bad: str) -> Pair:
    """Both fillers put in the place of the frame's "_"."""
    first, second = (frame.replace("_", filler) for filler in (good, bad))
    return first[0].upper() + first[1:], second[0].upper() + second[1:]


# In domain.


def agreement(rng: random.Random, pick: Pick) -> Pair:
    """The key near the boxes is old. / *The key near the boxes are old."""
    plural = _coin(rng)
    kind = rng.choice(("people", "things"))
    subject = f"the {_noun(pick(kind), plural)}"
    if rng.random() < 0.7:
        # Mostly an attractor of the other number: the verb must look at the head, not at its neighbour.
        other = _noun(pick(rng.choice(("people", "things"))), plural != (rng.random() < 0.7))
        subject += f" {rng.choice(('near', 'behind', 'beside'))} the {other}"
    rest = pick("moods" if kind == "people" else "qualities")
    case = rng.randrange(4)
    if case == 0 and kind == "people":
        verb = pick("intransitive")
        return _pair(f"{subject} _ in the {pick('places')}.", *_number(plural, _s(verb), verb))
    if case == 1:
        return _pair(f"{subject} _ disappeared.", *_number(plural, "has", "have"))
    if case == 2:
        return _pair(f"_ {subject} {rest}?", *_number(plural, *rng.choice((("is", "are"), ("was", "were")))))
    return _pair(f"{subject} _ {rest}.", *_number(plural, *rng.choice((("is", "are"), ("was", "were")))))


def determiner(rng: random.Random, pick: Pick) -> Pair:
    """Mary repaired these old lamps. / *Mary repaired this old lamps."""
    plural = _coin(rng)
    verb = _ed(pick("transitive"))
    if rng.random() < 0.3:
        noun = _s(pick("things")) if plural else pick("mass")
        return _pair(f"{_person(rng, pick)} {verb} too _ {noun}.", *_number(plural, "much", "many"))
    noun = _noun(pick("things"), plural)
    if _coin(rng):
        noun = f"{pick('qualities')} {noun}"
    forms = rng.choice((("this", "these"), ("that", "those"), ("every", "most"), ("one", "several")))
    if _coin(rng):
        return _pair(f"{_person(rng, pick)} {verb} _ {noun}.", *_number(plural, *forms))
    return _pair(f"_ {noun} disappeared.", *_number(plural, *forms))


def verb_form(rng: random.Random, pick: Pick) -> Pair:
    """The doctor can smile. / *The doctor can smiling."""
    verb, subject = pick("intransitive"), _person(rng, pick)
    forms = {
        "can": verb,
        "will": verb,
        "must": verb,
        "has": _ed(verb),
        "had": _ed(verb),
        "is": _ing(verb),
        "was": _ing(verb),
        "wants to": verb,
        "kept": _ing(verb),
    }
    auxiliary, other = rng.choice([(one, two) for one in forms for two in forms if forms[one] != forms[two]])
    good, bad = forms[auxiliary], forms[other]
    tail = rng.choice(("", " again", f" in the {pick('places')}"))
    if auxiliary in ("wants to", "kept"):
        return _pair(f"{subject} {auxiliary} _{tail}.", good, bad)
    if rng.random() < 0.4:
        return _pair(f"{auxiliary} {subject} _{tail}?", good, bad)
    return _pair(f"{subject} {auxiliary} {rng.choice(('', 'not ', 'never '))}_{tail}.", good, bad)


def participle(rng: random.Random, pick: Pick) -> Pair:
    """The nurse has taken the hat. / *The nurse has took the hat."""
    _, past, perfect = pick("irregular").split()
    subject, thing = _person(rng, pick), rng.choice((f"the {pick('things')}", _a(pick("things"))))
    case = rng.randrange(3)
    if case == 0:
        return _pair(f"{subject} _ {thing} {rng.choice(('yesterday', 'last week'))}.", past, perfect)
    if case == 1:
        return _pair(f"has {subject} _ {thing}?", perfect, past)
    return _pair(f"{subject} {rng.choice(('has', 'had'))} _ {thing}.", perfect, past)


def reflexive(rng: random.Random, pick: Pick) -> Pair:
    """The aunt of the king blamed herself. / *The aunt of the king blamed himself."""
    forms = {"he": "himself", "she": "herself"}
    gender, other = rng.choice((("he", "she"), ("she", "he")))
    plural, verb = rng.random() < 0.3, pick("social")
    head, owner = _noun(pick(gender), plural), pick(other)
    own = "themselves" if plural else forms[gender]
    wrong = forms[rng.choice((gender, other))] if plural else rng.choice((forms[other], forms[other], "themselves"))
    if rng.random() < 0.35:
        return _pair(f"the {owner} {rng.choice(('let', 'made'))} the {head} {verb} _.", own, wrong)
    subject = rng.choice((f"the {head}", f"the {head} near the {owner}", f"the {owner}'s {head}"))
    return _pair(f"{subject} {rng.choice(('', 'often ', 'never '))}{_ed(verb)} _.", own, wrong)


def arguments(rng: random.Random, pick: Pick) -> Pair:
    """The girl repaired the lamp. / *The girl smiled the lamp."""
    transitive, intransitive = pick("transitive"), pick("intransitive")
    subject = _person(rng, pick)
    tail = rng.choice(("", " again", " yesterday", f" in the {pick('places')}"))
    objects = f" the {pick('things')}"
    start, end = rng.choice(((subject, "."), (f"did {subject}", "?"), (f"{subject} must", ".")))
    if start == subject:
        transitive, intransitive = _ed(transitive), _ed(intransitive)
    if _coin(rng):
        return _pair(f"{start} _{objects}{tail}{end}", transitive, intransitive)
    return _pair(f"{start} _{tail}{end}", intransitive, transitive)


def polarity(rng: random.Random, pick: Pick) -> Pair:
    """No student has ever yawned. / *Some student has ever yawned."""
    verb, person = pick("intransitive"), pick("people")
    case = rng.randrange(4)
    if case == 0:  # the same words, but only in the first does the negation reach "ever"
        others = f"{_s(pick('people'))} {pick('social')}"
        return _pair(f"_ has ever {_ed(verb)}.", f"no {person} who the {others}", f"the {person} who no {others}")
    if case == 1:
        good, bad = rng.choice((("no", "the"), ("no", "every"), ("few", "many")))
        subject = f"{_s(person)} have" if good == "few" else f"{person} has"
        return _pair(f"_ {subject} ever {_ed(verb)}.", good, bad)
    deed = f"{_ed(pick('transitive'))} _ {_s(pick('things'))}"
    if case == 2:
        return _pair(f"the {person} has already {deed}.", "some", "any")
    return _pair(f"{_person(rng, pick)} has _ {deed.replace('_', 'any')}.", "not", "already")


def filler_gap(rng: random.Random, pick: Pick) -> Pair:
    """Mary knows what the boy repaired. / *Mary knows that the boy repaired."""
    matrix = _person(rng, pick) + rng.choice((" knows", " remembers", " knew"))
    clause = f"{_person(rng, pick)} {_ed(pick('transitive'))}"
    tail = rng.choice(("", " yesterday", f" in the {pick('places')}"))
    if _coin(rng):
        return _pair(f"{matrix} _ {clause}{tail}.", "what", "that")
    return _pair(f"{matrix} _ {clause} the {pick('things')}{tail}.", "that", "what")


def island(rng: random.Random, pick: Pick) -> Pair:
    """What did Mary say that Tom repaired? / *What did Mary smile because Tom repaired?"""
    bridge = rng.choice(("say", "think", "hope")) + " that"
    adjunct = pick("intransitive") + rng.choice((" because", " when", " after"))
    subject, clause = _person(rng, pick), f"{_person(rng, pick)} {_ed(pick('transitive'))}"
    if _coin(rng):
        return _pair(f"what did {subject} _ {clause}?", bridge, adjunct)
    return _pair(f"_ {subject} {rng.choice((bridge, adjunct))} {clause} the {pick('things')}?", "did", "what did")


def case(rng: random.Random, pick: Pick) -> Pair:
    """The nurse admired him. / *The nurse admired he."""
    subject, object_ = rng.choice((("he", "him"), ("she", "her"), ("they", "them"), ("we", "us")))
    verb, person = _ed(pick("social")), _person(rng, pick)
    matrix = rng.choice(("", f"{pick('names')} said that "))
    if _coin(rng):
        return _pair(f"{matrix}_ {verb} {person}.", subject, object_)
    return _pair(f"{matrix}{person} {verb} _.", object_, subject)


def adjective_order(rng: random.Random, pick: Pick) -> Pair:
    """Mary purchased a small wooden box. / *Mary purchased a wooden small box."""
    size, kind, thing = pick("sizes"), pick("kinds"), pick("things")
    subject = f"{_person(rng, pick)} {_ed(pick('transitive'))}"
    if _coin(rng):
        return _pair(f"{subject} the _ {_noun(thing, _coin(rng))}.", f"{size} {kind}", f"{kind} {size}")
    return _pair(f"{subject} _ {thing}.", _a(f"{size} {kind}"), _a(f"{kind} {size}"))


def inversion(rng: random.Random, pick: Pick) -> Pair:
    """When will the boy arrive? / *When the boy will arrive?"""
    subject = _person(rng, pick)
    auxiliary = rng.choice(("will", "can", "must", "did"))
    wh, verb = rng.choice((("when", pick("intransitive")), ("what", pick("transitive"))))
    if _coin(rng):
        return _pair(f"{wh} _ {verb}?", f"{auxiliary} {subject}", f"{subject} {auxiliary}")
    auxiliary = rng.choice(("will", "can", "must"))
    return _pair(f"{_person(rng, pick)} knows {wh} _ {verb}.", f"{subject} {auxiliary}", f"{auxiliary} {subject}")


def comparative(rng: random.Random, pick: Pick) -> Pair:
    """The nurse is taller than Tom. / *The nurse is tall than Tom."""
    degree = pick("degrees")
    more = degree.removesuffix("e") + "er"
    one, two = f"{_person(rng, pick)} {rng.choice(('is', 'was'))}", _person(rng, pick)
    if _coin(rng):
        return _pair(f"{one} _ than {two}.", more, degree)
    return _pair(f"{one} as _ as {two}.", degree, more)


def existential(rng: random.Random, pick: Pick) -> Pair:
    """There is a lamp in the garden. / *There is every lamp in the garden."""
    plural = _coin(rng)
    noun, place = _noun(pick(rng.choice(("things", "people"))), plural), f"in the {pick('places')}"
    be = rng.choice((("is", "are"), ("was", "were")))
    some, most = ("some", "most") if plural else (_a(noun).split()[0], "every")
    if _coin(rng):
        return _pair(f"there _ {some} {noun} {place}.", *_number(plural, *be))
    good_be, _ = _number(plural, *be)
    if _coin(rng):
        return _pair(f"there {good_be} _ {noun} {place}.", some, most)
    return _pair(f"{most} {noun} _ {place}.", *_number(plural, *be))


# Out of domain: the first six carry a phenomenon above over to another construction, the others are new.


def agreement_clause(rng: random.Random, pick: Pick) -> Pair:
    """The pilot who the dukes trusted is brave. / *The pilot who the dukes trusted are brave."""
    plural = _coin(rng)
    head, other, verb = _noun(pick("people"), plural), _noun(pick("he"), not plural), _ed(pick("social"))
    clause = rng.choice((f"who {verb} the {other}", f"who the {other} {verb}"))
    return _pair(
        f"the {head} {clause} _ {pick('moods')}.", *_number(plural, *rng.choice((("is", "are"), ("was", "were"))))
    )


def reflexive_embedded(rng: random.Random, pick: Pick) -> Pair:
    """The duke believes that the witch hates herself. / *The duke believes that the witch hates himself."""
    gender, other = rng.choice((("he", "she"), ("she", "he")))
    forms = {"he": "himself", "she": "herself"}
    matrix = f"the {pick(other)} {rng.choice(('believes', 'claims', 'suspects'))} that"
    return _pair(f"{matrix} the {pick(gender)} {_ed(pick('social'))} _.", forms[gender], forms[other])


def determiner_other(rng: random.Random, pick: Pick) -> Pair:
    """How many coins did the duke restore? / *How much coins did the duke restore?"""
    plural, verb, person = _coin(rng), pick("transitive"), f"the {pick('people')}"
    if _coin(rng):
        noun = _s(pick("things")) if plural else pick("mass")
        return _pair(f"how _ {noun} did {person} {verb}?", *_number(plural, "much", "many"))
    return _pair(f"{person} {_ed(verb)} _ {_noun(pick('things'), plural)}.", *_number(plural, "neither", "both"))


def verb_form_question(rng: random.Random, pick: Pick) -> Pair:
    """Does the pilot hesitate? / *Does the pilot hesitating?"""
    verb = pick("intransitive")
    forms = {"does": verb, "can": verb, "has": _ed(verb), "is": _ing(verb)}
    auxiliary, other = rng.choice([(one, two) for one in forms for two in forms if forms[one] != forms[two]])
    return _pair(
        f"{auxiliary} {rng.choice((pick('names'), 'the ' + pick('people')))} _?", forms[auxiliary], forms[other]
    )


def arguments_relative(rng: random.Random, pick: Pick) -> Pair:
    """The coin that the duke concealed was lovely. / *The coin that the duke fainted was lovely."""
    transitive, intransitive = _ed(pick("transitive")), _ed(pick("intransitive"))
    person = pick("people")
    if _coin(rng):
        return _pair(f"this is the {pick('things')} that the {person} _.", transitive, intransitive)
    return _pair(f"the {person} who _ was {pick('moods')}.", intransitive, transitive)


def polarity_if(rng: random.Random, pick: Pick) -> Pair:
    """If the duke ever faints, Susan will frown. / *Because the duke ever faints, Susan will frown."""
    clause = f"the {pick('people')} ever {_s(pick('intransitive'))}"
    return _pair(f"_ {clause}, {pick('names')} will {pick('intransitive')}.", "if", "because")


def passive(rng: random.Random, pick: Pick) -> Pair:
    """The map was torn by the duke. / *The map was tore by the duke."""
    _, past, perfect = pick("irregular").split()
    thing, person = pick("things"), pick("people")
    if _coin(rng):
        return _pair(f"the {thing} was _ by the {person}.", perfect, past)
    return _pair(f"it was the {person} who _ the {thing}.", past, perfect)


def complement(rng: random.Random, pick: Pick) -> Pair:
    """The pilot refused to frown. / *The pilot refused frowning."""
    to, ing = pick("to"), pick("ing")
    subject = rng.choice((pick("names"), f"the {pick('people')}"))
    if _coin(rng):
        return _pair(f"{subject} _ to {pick('transitive')} the {pick('things')}.", to, ing)
    return _pair(f"{subject} _ {_ing(pick('transitive'))} the {pick('things')}.", ing, to)


def particle(rng: random.Random, pick: Pick) -> Pair:
    """The pilot looked at it. / *The pilot looked it at."""
    kind = rng.choice(("particle", "preposition"))
    verb, small = pick(kind).split()
    pronoun = rng.choice(("it", "them"))
    orders = f"{pronoun} {small}", f"{small} {pronoun}"
    subject = rng.choice((pick("names"), f"the {pick('people')}"))
    return _pair(f"{subject} {verb} _.", *(orders if kind == "particle" else orders[::-1]))


def reciprocal(rng: random.Random, pick: Pick) -> Pair:
    """The dukes near the witch trusted each other. / *The duke near the witches trusted each other."""
    head, other = pick(rng.choice(("he", "she", "people"))), pick("people")
    phrase = rng.choice(("", f" near the {other}", f" near the {_s(other)}"))
    return _pair(f"the _{phrase} {_ed(pick('social'))} each other.", _s(head), head)


IN_DOMAIN: dict[str, Phenomenon] = {
    "agreement": agreement,
    "determiner": determiner,
    "verb_form": verb_form,
    "participle": participle,
    "reflexive": reflexive,
    "arguments": arguments,
    "polarity": polarity,
    "filler_gap": filler_gap,
    "island": island,
    "case": case,
    "adjective_order": adjective_order,
    "inversion": inversion,
}
OUT_OF_DOMAIN: dict[str, Phenomenon] = {
    "agreement_clause": agreement_clause,
    "reflexive_embedded": reflexive_embedded,
    "determiner_other": determiner_other,
    "verb_form_question": verb_form_question,
    "arguments_relative": arguments_relative,
    "polarity_if": polarity_if,
    "passive": passive,
    "complement": complement,
    "particle": particle,
    "reciprocal": reciprocal,
}


def _picker(rng: random.Random, words: Lexicon) -> Pick:
    used: list[str] = []

    def pick(kind: str) -> str:
        word = rng.choice([word for word in words[kind] if word not in used])
        used.append(word)
        return word

    return pick


def _draw(
    rng: random.Random, size: int, phenomena: dict[str, Phenomenon], words: Lexicon, seen: set[str]
) -> list[Sentence]:
    """`size` rows, 70% acceptable: every unacceptable one has its twin among them, the other twins are left out."""
    acceptable = size * 7 // 10
    codes = list(phenomena)
    rows: list[Sentence] = []
    while len(rows) < size:
        pairs = 0
    return rows


def generate() -> dict[str, list[Sentence]]:
    """File name -> its rows. No sentence occurs twice, in one file or in two."""
    rng = random.Random(SEED)
    seen: set[str] = set()

    def draw(size: int, phenomena: dict[str, Phenomenon], words: Lexicon) -> list[Sentence]:
        """70% acceptable: every unacceptable sentence has its twin among them; of the other pairs one is left out."""
        acceptable = size * 7 // 10
        codes = list(phenomena)
        rows: list[Sentence] = []
        for number in range(acceptable):
            code = codes[number % len(codes)]
            good, bad = phenomena[code](rng, _picker(rng, words))
            while good in seen or bad in seen:
                good, bad = phenomena[code](rng, _picker(rng, words))
            seen.update((good, bad))
            rows.append(Sentence(code, 1, good))
            if number < size - acceptable:
                rows.append(Sentence(code, 0, bad))
        rng.shuffle(rows)
        return rows

    return {
        "in_domain_train.tsv": draw(6000, IN_DOMAIN, TRAIN_WORDS),
        "in_domain_dev.tsv": draw(500, IN_DOMAIN, TRAIN_WORDS),
        "out_of_domain_dev.tsv": draw(500, OUT_OF_DOMAIN, OTHER_WORDS),
    }


def tsv(sentences: Iterable[Sentence]) -> str:
    """CoLA's layout: source, label, "*" for an unacceptable sentence, sentence; no header."""
    return "".join(f"{s.source}\t{s.label}\t{'' if s.label else '*'}\t{s.sentence}\n" for s in sentences)
