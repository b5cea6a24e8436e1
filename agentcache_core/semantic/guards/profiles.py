"""Language profiles: the frequent words by which a text's language is known."""

from __future__ import annotations

# A language code and its frequent words; a line without a code goes on with the language above.
_TEXT = """
en: the of and to is in that it for was on are with as be at this have from or by not what which how who when where
why can could do does did should would will i you my your we they he she his her its an if than then about into
there has had were been me us our their them any some between before after more most much many please a but so
because while during over under only also just no yes all explain write make find show give list out up down
de: was in so die an man hat war der das und ist nicht ein eine einen einem einer eines mit für auf von zu den dem
des sich auch wie wird wurde wurden sind im als bei aus nach oder wer wo warum kann ich du wir ihr sie es er haben
zum zur über unter zwischen durch vom beim am bis soll mein dein kein welche welcher welches gibt mir mich dir uns
sein seine seiner ihre ihren
fr: on a le la les des du et est une un dans que qui pour pas sur avec il elle nous vous je tu ce cette ces au aux
par plus ne se sont était été être avoir comment pourquoi quand où quel quelle quels quelles mon ma mes son sa ses
leur ou mais donc dont à d l qu c n s j fait
es: me no a el los las una unos unas y es del que en por para con se su sus como más pero fue era son está este esta
estos cómo qué cuándo dónde quién cuál mi tu yo nosotros ellos al lo le les o también muy hay ser tiene puedo entre
sobre desde hasta sin porque la de un
it: a in no il lo gli della delle dei degli del nel nella che è di e un una per con non si sono come più anche dal
dalla alla ai questo questa perché quando dove chi cosa posso mio mia suo sua ha hanno era stato la le da
pt: a no me os as uma uns umas e é do da dos das que em na nos nas por para com não se como mais mas foi são está
este esta eu você ele ela quando onde porque qual quem meu minha seu sua ao à pelo pela também ou um de
nl: is in was of had me het een en van ik je dat niet zijn op te voor met aan er om hij zij wij ze hoe wat waarom
wanneer waar wie kan kun mijn naar bij uit door ook maar worden werd deze dit heeft hebben de
sv: i man så och att det som en ett är på för med av inte den till jag du vi kan hur vad varför när var har från om
eller men
da: i man så og at det som en et er på for med af ikke den til jeg du vi kan hvordan hvad hvorfor når hvor har fra
om eller men
fi: ja on ei se että mikä miten miksi milloin missä kuka voin minä sinä hän ovat oli mutta tai kun kuinka
pl: i w na z do nie się jest to że jak co dlaczego kiedy gdzie kto czy są był była oraz dla przez od po mój moje
cs: a v na se je že jak co proč kdy kde kdo jsou byl byla pro od po můj moje nebo ale který která
tr: ve bir bu ile için ne nasıl neden nerede kim mi mı mu mü var yok değil ben sen çok daha olarak en gibi ama veya
id: yang dan di ke dari untuk dengan ini itu tidak adalah bagaimana apa mengapa kapan saya anda kami akan bisa pada
atau siapa
vi: là và của có không cho với được trong một những này người tôi bạn như thế nào làm sao khi ở đâu các
ro: și este în la cu pe nu că ce cum de unde când cine sunt pentru din sau mai un o eu tu care
hu: és az egy hogy nem van mi miért hol mikor ki ez azt meg is de vagy hogyan én te
"""


def _profiles() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    code = ""
    for line in _TEXT.split("\n"):
        head, colon, rest = line.partition(": ")
        code = head if colon else code
        if code:
            found.setdefault(code, set()).update((rest if colon else line).split())
    return {code: frozenset(words) for code, words in found.items()}


LANGUAGES = _profiles()
ENGLISH = LANGUAGES["en"]
#: The other languages' words that are no frequent English ones.
FOREIGN = {code: words - ENGLISH for code, words in LANGUAGES.items() if code != "en"}
