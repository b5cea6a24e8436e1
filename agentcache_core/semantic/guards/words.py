"""The closed classes of words that the guards look for, in English and, where a rule needs them, other languages."""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """The words of a text as a set."""
    return frozenset(text.split())


ARTICLES = word_set("a an the this that these those")
BE = word_set("be is am are was were been being 's 're 'm")
HAVE = word_set("have has had having 've")
DO = word_set("do does did doing done")
MODALS = word_set("can could may might must shall should will would ought need dare 'll 'd cannot")
CONJUNCTIONS = word_set(
    "and or but so yet because since although though if unless while whether as than then plus & vs versus"
)
PREPOSITIONS = word_set(
    "of in on at by for with without about against between among into onto through throughout during before after"
    " above below to from up down out off over under near toward towards upon within via per across along behind"
    " beside besides beyond despite except inside outside past since till until like unlike around amid regarding"
)
PERSONAL = word_set(
    "i me my mine myself you your yours yourself yourselves we us our ours ourselves one one's oneself it its"
    " itself they them their theirs themselves"
)
MALE = word_set("he him his himself")
FEMALE = word_set("she her hers herself")
WH = word_set("what which who whom whose when where why how")

# Words whose presence or absence alone does not change what is asked.
FILLERS = word_set(
    "some any such actually really literally genuinely definitely certainly obviously apparently essentially"
    " absolutely seriously frankly naturally evidently clearly surely basically exactly truly honestly simply just"
    " indeed currently presently now please kindly fact anyway ever even also there here's thing things something"
    " anything stuff someone anyone somebody anybody person people way ways kind sort type hi hello hey thanks"
    " thank ok okay well sir madam very quite pretty fairly rather somewhat particularly specifically especially"
    " else own able possible possibly etc e.g i.e lot lots each every all other many much several various certain given"
    " want wants wanted wanna like know tell explain wonder wondering curious understand think let lets let's"
    " going gonna got gotta get gets happen happens happened happening say says called somehow according exist"
    " exists guys everyone everybody become becomes ones u opinion opinions thoughts considered consider believe"
    " believes case order question answer right"
)
# Phrases that add nothing to what is asked; their words are no content.
_PHRASE_TEXT = (
    "of all time;in the world;in your life;so far;these days;at all;of course;as well;at the moment;in general"
    ";in order to;find out;figure out;by the way;a bit;in detail;for me;or not;such as"
)
PHRASES = tuple(tuple(phrase.split()) for phrase in _PHRASE_TEXT.split(";"))
# Fillers that are verbs: one may come or go ("I want to know how"), but not stand in for another ("know" for "like").
VERBS = word_set("like know think get gets happen happens say says use using believe believes consider")
# Framing words: "what is the best way to", "what are some tips for", "how should I go about".
FRAMING = word_set(
    "best good better great top way ways step steps tip tips method methods process procedure advice suggestion"
    " suggestions go use using"
)

HARD_NEGATIONS = word_set(
    "not n't no never none nobody nothing nowhere neither nor cannot without unable hardly barely scarcely seldom"
    " rarely except excluding"
)

# Negation cues of other languages: as whole words, and (for scripts without spaces) as substrings.
FOREIGN_NEGATIONS = word_set(
    "nicht kein keine keinen keinem keiner nie niemals ohne weder nein pas jamais sans aucun aucune ni nunca sin"
    " ningún ninguna ninguno jamás tampoco non mai senza nessun nessuno nessuna não nem nenhum nenhuma sem niet"
    " geen nooit zonder inte aldrig utan ikke nie bez nigdy değil yok hiç не нет без никогда ни tidak bukan jangan"
    " không"
)
CJK_NEGATIONS = (
    *("不", "没", "沒", "無", "无", "未", "别", "非"),
    *("ない", "なく", "なか", "なし", "ません", "ずに"),
    *("않", "없", "못", "아니", "안 ", "말고", "말아"),
)

PAST = word_set("was were did")
PRESENT = word_set("is am are do does 're 'm")
FUTURE = word_set("will 'll")
MODAL_CLASS = {
    word: line.split()[0]
    for line in ("can could cannot may might", "must need", "should ought shall", "would 'd", "will 'll")
    for word in line.split()
}

TIME_WORDS = word_set(
    "today tomorrow yesterday tonight monday tuesday wednesday thursday friday saturday sunday january february"
    " march april june july august september october november december spring summer autumn fall winter morning"
    " noon afternoon evening night midnight daily weekly monthly yearly annually hourly quarterly weekday weekdays"
    " weekend weekends"
)
RELATIVE_TIME = word_set("next last previous this current coming past following")

# Predicates for which the two sides may change places.
SYMMETRIC = word_set(
    "married marry marries dating related similar identical equal equivalent same different differ differs"
    " adjacent neighbours neighbors next friends friend siblings twins lovers colleagues compatible difference"
    " differences between compare compared comparison connected linked relationship vs versus resemble resembles"
)

_REST = word_set("there here ' s t let's more most less least ain't yes no per via self each other lot")
FUNCTION = ARTICLES | BE | HAVE | DO | MODALS | CONJUNCTIONS | PREPOSITIONS | PERSONAL | MALE | FEMALE | WH
FUNCTION |= HARD_NEGATIONS | _REST
