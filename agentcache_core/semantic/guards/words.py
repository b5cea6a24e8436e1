"""The closed classes of words that the guards look for: cue tables, written for English and, where a rule needs them, for other languages."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = _words("a an the this that these those")
BE = _words("be is am are was were been being 's 're 'm")
HAVE = _words("have has had having 've")
DO = _words("do does did doing done")
MODALS = _words("can could may might must shall should will would ought need dare 'll 'd cannot")
CONJUNCTIONS = _words("and or but so yet because since although though if unless while whether as than then plus & vs versus")
PREPOSITIONS = _words(
    "of in on at by for with without about against between among into onto through throughout during before after above below to from"
    " up down out off over under near toward towards upon within via per across along behind beside besides beyond despite except"
    " inside outside past since till until like unlike around amid regarding"
)
PERSONAL = _words(
    "i me my mine myself you your yours yourself yourselves we us our ours ourselves one one's oneself it its itself they them their theirs themselves"
)
MALE = _words("he him his himself")
FEMALE = _words("she her hers herself")
WH = _words("what which who whom whose when where why how")

# Words whose presence or absence alone does not change what is asked.
FILLERS = _words(
    "some any such actually really literally basically exactly truly honestly simply just indeed currently presently now please kindly fact anyway ever even"
    " also there here's thing things something anything stuff someone anyone somebody anybody person people way ways kind sort type"
    " hi hello hey thanks thank ok okay well sir madam very quite pretty fairly rather somewhat particularly specifically especially"
    " else own able possible possibly etc e.g i.e lot lots each every all both other another many much few several various certain given"
    " want wants wanted wanna like know tell explain wonder wondering curious understand think let lets let's going gonna got gotta get gets mean means"
    " able happen happens happened happening say says called case way order question answer too still already right again"
)
# Framing words: "what is the best way to", "what are some tips for", "how should I go about".
FRAMING = _words("best good better great top way ways step steps tip tips method methods process procedure advice suggestion suggestions go use using")

HARD_NEGATIONS = _words(
    "not n't no never none nobody nothing nowhere neither nor cannot without unable hardly barely scarcely seldom rarely except excluding"
)

# Negation cues of other languages: as whole words, and (for scripts without spaces) as substrings.
FOREIGN_NEGATIONS = _words(
    "nicht kein keine keinen keinem keiner nie niemals ohne weder nein pas jamais sans aucun aucune ni nunca sin ningún ninguna ninguno jamás"
    " tampoco non mai senza nessun nessuno nessuna não nem nenhum nenhuma sem niet geen nooit zonder inte aldrig utan ikke nie bez nigdy değil"
    " yok hiç не нет без никогда ни tidak bukan jangan không"
)
CJK_NEGATIONS = (
    *("不", "没", "沒", "無", "无", "未", "别", "非"),
    *("ない", "なく", "なか", "なし", "ません", "ずに"),
    *("않", "없", "못", "아니", "안 ", "말고", "말아"),
)

PAST = _words("was were did")
PRESENT = _words("is am are do does 're 'm")
FUTURE = _words("will shall 'll")
MODAL_CLASS = {
    "can": "can", "could": "can", "cannot": "can", "may": "may", "might": "may", "must": "must", "should": "should", "ought": "should",
    "shall": "should", "would": "would", "will": "will", "'ll": "will", "'d": "would", "need": "must",
}  # fmt: skip

TIME_WORDS = _words(
    "today tomorrow yesterday tonight monday tuesday wednesday thursday friday saturday sunday january february march april june july august"
    " september october november december spring summer autumn fall winter morning noon afternoon evening night midnight daily weekly monthly"
    " yearly annually hourly quarterly weekday weekdays weekend weekends"
)
RELATIVE_TIME = _words("next last previous this current coming past following")

# Predicates for which the two sides may change places.
SYMMETRIC = _words(
    "married marry marries dating related similar identical equal equivalent same different differ differs adjacent neighbours neighbors next"
    " friends friend siblings twins lovers colleagues compatible difference differences between compare compared comparison connected linked"
    " relationship vs versus resemble resembles"
)

# Language profiles: frequent words that are no common English words.
LANGUAGES: dict[str, frozenset[str]] = {
    "en": _words(
        "the of and to is in that it for was on are with as be at this have from or by not what which how who when where why can could do does did"
        " should would will i you my your we they he she his her its an if than then about into there has had were been me us our their them any some"
        " between before after more most much many please a but so because while during over under only also just no yes all"
    ),
    "de": _words(
        "der das und ist nicht ein eine einen einem einer eines mit für auf von zu den dem des sich auch wie wird wurde wurden sind im als bei aus"
        " nach oder wer wo warum kann ich du wir ihr sie es er hat haben war zum zur über unter zwischen durch vom beim am bis soll mein dein kein"
        " welche welcher welches gibt mir mich dir uns sein seine seiner ihre ihren"
    ),
    "fr": _words(
        "le la les des du et est une un dans que qui pour pas sur avec il elle nous vous je tu ce cette ces au aux par plus ne se sont était été"
        " être avoir comment pourquoi quand où quel quelle quels quelles mon ma mes son sa ses leur ou mais donc dont à d l qu c n s j fait"
    ),
    "es": _words(
        "el los las una unos unas y es del que en por para con se su sus como más pero fue era son está este esta estos cómo qué cuándo dónde quién"
        " cuál mi tu yo nosotros ellos al lo le les o también muy hay ser tiene puedo entre sobre desde hasta sin porque la de un"
    ),
    "it": _words(
        "il lo gli della delle dei degli del nel nella che è di e un una per con non si sono come più anche dal dalla alla ai questo questa perché"
        " quando dove chi cosa posso mio mia suo sua ha hanno era stato la le da"
    ),
    "pt": _words(
        "os as uma uns umas e é do da dos das que em no na nos nas por para com não se como mais mas foi são está este esta eu você ele ela quando"
        " onde porque qual quem meu minha seu sua ao à pelo pela também ou um de"
    ),
    "nl": _words(
        "het een en van ik je dat niet zijn op te voor met aan er om hij zij wij ze hoe wat waarom wanneer waar wie kan kun mijn naar bij uit door ook"
        " maar worden werd deze dit heeft hebben de"
    ),
    "sv": _words("och att det som en ett är på för med av inte den till jag du vi kan hur vad varför när var har från om eller men"),
    "da": _words("og at det som en et er på for med af ikke den til jeg du vi kan hvordan hvad hvorfor når hvor har fra om eller men"),
    "fi": _words("ja on ei se että mikä miten miksi milloin missä kuka voin minä sinä hän ovat oli mutta tai kun kuinka"),
    "pl": _words("i w na z do nie się jest to że jak co dlaczego kiedy gdzie kto czy są był była oraz dla przez od po mój moje"),
    "cs": _words("a v na se je že jak co proč kdy kde kdo jsou byl byla pro od po můj moje nebo ale který která"),
    "tr": _words("ve bir bu ile için ne nasıl neden nerede kim mi mı mu mü var yok değil ben sen çok daha olarak en gibi ama veya"),
    "id": _words("yang dan di ke dari untuk dengan ini itu tidak adalah bagaimana apa mengapa kapan saya anda kami akan bisa pada atau siapa"),
    "vi": _words("là và của có không cho với được trong một những này người tôi bạn như thế nào làm sao khi ở đâu các"),
    "ro": _words("și este în la cu pe nu că ce cum de unde când cine sunt pentru din sau mai un o eu tu care"),
    "hu": _words("és az egy hogy nem van mi miért hol mikor ki ez azt meg is de vagy hogyan én te"),
}  # fmt: skip
LANGUAGES["en"] = LANGUAGES["en"] | {"explain", "write", "make", "find", "show", "give", "list", "out", "up", "down"}
_SHARED: set[str] = set()
for _code, _profile in LANGUAGES.items():
    if _code != "en":
        _SHARED |= _profile & LANGUAGES["en"]
# A word that two profiles share with English proves nothing.
ENGLISH_ONLY = LANGUAGES["en"] - _SHARED
FOREIGN = {code: profile - LANGUAGES["en"] for code, profile in LANGUAGES.items() if code != "en"}

FUNCTION = ARTICLES | BE | HAVE | DO | MODALS | CONJUNCTIONS | PREPOSITIONS | PERSONAL | MALE | FEMALE | WH | HARD_NEGATIONS | _words(
    "there here ' s t let's more most less least ain't used use yes no per via own self each other lot"
)  # fmt: skip
