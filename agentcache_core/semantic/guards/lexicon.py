"""General English word lists: synonym groups, opposites, confusable spellings. Written by hand; a list may grow, a
rule may not depend on its being complete."""

from __future__ import annotations

from functools import lru_cache

from .stems import stem

_SYNONYMS = """
january jan; february feb; august aug; september sept sep; october oct; november nov; december dec; monday mon;
tuesday tue tues; wednesday wed; thursday thu thur thurs; friday fri; saturday sat; sunday sun;
buy purchase; start begin commence; finish complete end; quick fast rapid speedy; big large huge; small little tiny;
reduce decrease lower lessen; increase raise grow boost; improve enhance; fix repair mend;
get obtain acquire gain receive; learn study; make create build produce; choose pick select; remove delete erase;
show display; find locate; job career occupation profession; movie film; picture photo image photograph;
car automobile; phone cellphone smartphone mobile; kid child; woman female lady; man male guy; doctor physician;
cost price; money cash; company firm business; help assist aid; main primary principal major;
important significant crucial vital; difficult hard tough; easy simple; smart intelligent clever; rich wealthy;
happy glad joyful; sad unhappy; angry mad; beautiful pretty attractive; scared afraid frightened;
method technique approach; error mistake; purpose aim goal objective; cause reason; reply respond; occur happen;
prepare preparation; weight weigh; develop development developer; programmer coder; programming coding;
language languages; website site webpage; online internet web; earn make; effect impact influence;
difference distinction differ different; function role; advantage benefit pro; disadvantage drawback con;
example instance; kill murder; die death dead; marry marriage; love affection; believe belief; destroy destruction;
permit allow let permission; forbid prohibit ban; need require necessary; illness disease sickness; treatment treat;
cure heal remedy; college university; exam examination test; beginner novice newbie; teach teaching; country nation;
world globe; usa us america u.s u.s.a; uk britain u.k; india indian; china chinese; america american; russia russian;
japan japanese; germany german; france french; britain british; pakistan pakistani; canada canadian;
australia australian; mexico mexican; italy italian; spain spanish; europe european; africa african; asia asian;
korea korean; israel israeli; travel trip journey; symptom sign; quit resign; stop quit cease; feel feeling;
invent invention; discover discovery; elect election; decide decision; argue argument; explain explanation;
describe description; compare comparison; calculate compute calculation; install installation;
configure configuration setup; recover restore recovery; password passcode; mail email e-mail; laptop notebook;
tv television; ad advertisement advert; math maths mathematics; app application; info information;
percent percentage %; vs versus; defeat beat; attack assault; hurt injure harm; answer respond; handle deal cope;
survive survival; exist existence; grow growth; succeed success successful; fail failure; strong strength;
long length; high height; wide width; deep depth; safe safety; popular popularity; addict addiction;
motivate motivation; depress depression; cheap inexpensive; expensive costly; famous well-known renowned;
usual typical; rule law regulation; salary pay wage; employee worker staff; boss supervisor; ignore disregard;
shop store; garbage trash rubbish; autumn fall; apartment flat; lift elevator; holiday vacation; dog puppy;
cat kitten; mom mother mum; dad father; grandma grandmother; grandpa grandfather; founded established;
located situated; known called named; based headquartered; formed established; species kind type;
meaning definition define; exercise workout; important importance; processor cpu; depressed sad; beneficial helpful;
film movie films; become be; friction frictional; weakness weaknesses
"""

_OPPOSITES = """
all any; every any; both either; always often; always usually; both neither;
before after; more less; most least; many few; much little; increase decrease; increase reduce; raise lower;
rise fall; gain lose; gain loss; grow shrink; enable disable; activate deactivate; allow forbid; allow block;
allow deny; allow prevent; permit prohibit; accept reject; accept decline; approve reject; approve deny;
grant revoke; add remove; add delete; add subtract; insert delete; create delete; create destroy; build destroy;
attach detach; connect disconnect; mount unmount; install uninstall; install remove; lock unlock; open close;
open shut; start stop; start end; start finish; begin end; begin finish; begin stop; first last; early late;
earlier later; earliest latest; previous next; past future; old new; old young; older younger; oldest youngest;
oldest newest; ancient modern; buy sell; buyer seller; purchase sell; import export; lend borrow; rent own;
deposit withdraw; credit debit; asset liability; income expense; profit loss; win lose; winner loser; attack defend;
love hate; like dislike; like hate; hire fire; join leave; enter exit; enter leave; arrive depart; arrive leave;
arrival departure; come go; send receive; give take; give receive; push pull; upload download; encode decode;
encrypt decrypt; compress decompress; encourage discourage; include exclude; show hide; appear disappear;
reveal hide; expand collapse; expand contract; maximum minimum; max min; maximize minimize; maximise minimise;
upper lower; top bottom; best worst; better worse; good bad; good evil; high low; higher lower; highest lowest;
tall short; long short; longer shorter; longest shortest; taller shorter; large small; larger smaller;
largest smallest; big small; bigger smaller; biggest smallest; wide narrow; deep shallow; thick thin; heavy light;
heavier lighter; fast slow; faster slower; fastest slowest; quick slow; strong weak; stronger weaker;
strongest weakest; hard soft; hard easy; harder easier; difficult easy; simple complex; simple complicated;
easiest hardest; hot cold; hotter colder; warm cool; warmer cooler; wet dry; full empty; rich poor; cheap expensive;
cheaper expensive; cheapest expensive; safe dangerous; safe unsafe; true false; right wrong; right left;
correct incorrect; valid invalid; legal illegal; possible impossible; success failure; succeed fail; pass fail;
happy sad; happier sadder; beautiful ugly; clean dirty; smart stupid; smart dumb; intelligent stupid; clever stupid;
brave cowardly; generous selfish; honest dishonest; polite rude; kind cruel; friendly hostile; calm angry;
patient impatient; optimistic pessimistic; confident insecure; secure insecure; confident shy; introvert extrovert;
introverted extroverted; active passive; active inactive; positive negative; plus minus; multiply divide;
public private; internal external; inside outside; indoor outdoor; indoors outdoors; male female; man woman;
men women; boy girl; boys girls; husband wife; boyfriend girlfriend; father mother; dad mom; son daughter;
brother sister; uncle aunt; nephew niece; king queen; prince princess; actor actress; straight gay; single married;
parent child; teacher student; employer employee; landlord tenant; doctor patient; guest host; predator prey;
guilty innocent; alive dead; life death; live die; born die; day night; am pm; morning evening; summer winter;
sunrise sunset; north south; east west; northern southern; eastern western; northeast southwest; northwest southeast;
up down; upward downward; above below; over under; upstairs downstairs; on off; in out; into out; to from;
toward from; towards from; with without; for against; until since; ahead behind; front back; forward backward;
forwards backwards; vertical horizontal; row column; input output; client server; read write; sync async;
synchronous asynchronous; static dynamic; serial parallel; local remote; local global; absolute relative;
ascending descending; odd even; numerator denominator; singular plural; vowel consonant; acid base; cause effect;
cause prevent; cause cure; question answer; problem solution; theory practice; advantage disadvantage;
benefit drawback; benefit risk; pro con; pros cons; strength weakness; ally enemy; friend enemy; war peace;
victory defeat; majority minority; supply demand; wholesale retail; domestic foreign; national international;
urban rural; liberal conservative; democrat republican; democratic republican; democrats republicans;
religious secular; natural artificial; permanent temporary; permanently temporarily; always never; always sometimes;
usually rarely; often rarely; often seldom; often never; all none; everyone nobody; everybody nobody;
everything nothing; both neither; together separately; together apart; same different; similar different;
together alone; optional required; optional mandatory; voluntary mandatory; required forbidden; employed unemployed;
literate illiterate; formal informal; verbose concise; detailed brief; loud quiet; bright dark; light dark;
black white; fresh stale; raw cooked; sweet sour; sweet bitter; smooth rough; tight loose; sharp blunt; awake asleep;
present absent; presence absence; visible invisible; known unknown; famous unknown; common rare; normal abnormal;
regular irregular; related unrelated; lucky unlucky; healthy sick; healthy unhealthy; well sick; hopeful hopeless;
useful useless; powerful powerless; careful careless; defensive offensive; attacker defender; prosecution defense;
plaintiff defendant; debtor creditor; bull bear; bullish bearish; call put; hydrate dehydrate; inhale exhale;
freeze melt; freeze thaw; boil freeze; heat cool; fill empty; float sink; save spend; save delete; remember forget;
teach learn; praise criticize; praise blame; reward punish; attract repel; protect harm; help harm; help hurt;
heal hurt; heal injure; rescue abandon; follow lead; follow ignore; leader follower; marry divorce; marriage divorce;
wake sleep; laugh cry; ask answer; ask tell; lie truth; major minor; senior junior; superior inferior; entry exit;
entrance exit; subscribe unsubscribe; like unlike; upgrade downgrade; promote demote; promotion demotion;
commit revert; merge split; merge rebase; push fetch; do undo; apply revert; pin unpin; mute unmute; block unblock;
freeze unfreeze; zip unzip; pack unpack; load unload; load save; login logout; signin signout; inbound outbound;
incoming outgoing; sender recipient; source destination; origin destination; ancestor descendant;
predecessor successor; superclass subclass; producer consumer; publisher subscriber; master slave; primary secondary;
gross net; before-tax after-tax; nominal real; fixed variable; liquid solid; gas solid; lender borrower;
lowercase uppercase; opaque transparent; concave convex; clockwise counterclockwise; clockwise anticlockwise;
all some; every some; all few; everyone someone; most few
"""

# Pairs one slip of a finger apart that are two words, not a typo.
_CONFUSABLE = """
calm clam; lion loin; salt slat; trap tarp; gird grid; sing sign; barn bran; carp crap; silt slit; cold clod;
bolt blot; star tsar; mail mali; diet edit; form from; scar sacr; used sued; tied tide; felt flet; girl gril;
nuts tuns; pets pest; post pots; stop spot; tops tosp; caps cpas; dots dost; ears eras; bets best; vets vest;
casual causal; trial trail; angle angel; dairy diary; united untied; sacred scared; quiet quite; marital martial;
brian brain; unties unites; sliver silver; desert dessert; cloths clothes; thorough through; though through;
statue statute; contract contact; county country; brother bother; father farther; field filed; tired tried;
tried tired; barely barley; fired fried; unclear nuclear; lightening lightning; peasant pleasant; pheasant peasant;
martian martin; singing signing; dinning dining; planning planing; starring staring; hoping hopping;
scrapping scraping; stripping striping; tapping taping; robbing robing; discrete discreet; reality realty;
adverse averse
"""


def _groups(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in text.split(";"):
        members = {stem(word) for word in line.split()}
        for member in members:
            found.setdefault(member, set()).update(members)
    return found


def _pairs(text: str) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for line in text.split(";"):
        words = line.split()
        if len(words) == 2:
            one, other = words
            for x, y in ((one, other), (stem(one), stem(other))):
                if x != y:
                    found |= {(x, y), (y, x)}
    return frozenset(found)


SYNONYMS: dict[str, frozenset[str]] = {word: frozenset(group) for word, group in _groups(_SYNONYMS).items()}
OPPOSITES: frozenset[tuple[str, str]] = _pairs(_OPPOSITES)
CONFUSABLE: frozenset[tuple[str, str]] = _pairs(_CONFUSABLE)

_NEGATING_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "non-", "mis", "de", "anti", "a")
_FACING = "up/down under/over pre/post in/out ex/in im/ex hyper/hypo macro/micro inter/intra as/des pro/anti"
_DIRECTION_PREFIXES = tuple(tuple(pair.split("/")) for pair in _FACING.split())


def synonyms(a: str, b: str) -> bool:
    """Whether two stems mean about the same in most questions."""
    group = SYNONYMS.get(a)
    return group is not None and b in group


@lru_cache(maxsize=65536)
def opposites(a: str, b: str) -> bool:
    """Whether two words (or stems) are opposites: by the table, or because a negating or directional prefix or
    suffix tells them apart."""
    if (a, b) in OPPOSITES:
        return True
    short, long = (a, b) if len(a) < len(b) else (b, a)
    if len(short) >= 3 and long.endswith(short) and long[: len(long) - len(short)] in _NEGATING_PREFIXES:
        return True
    if a.endswith("ful") and b.endswith("les") and a[:-3] == b[:-3]:
        return True
    if b.endswith("ful") and a.endswith("les") and a[:-3] == b[:-3]:
        return True
    for one, other in _DIRECTION_PREFIXES:
        for x, y in ((one, other), (other, one)):
            if a.startswith(x) and b.startswith(y) and len(a) - len(x) >= 3 and a[len(x) :] == b[len(y) :]:
                return True
    return False


def slip(a: str, b: str) -> bool:
    """Whether one word is the other with one slip of a finger: two letters swapped, one doubled, left out or added
    inside the word.

    A replaced letter is no slip here: it makes too many other words (and names) out of words.
    """
    if (a, b) in CONFUSABLE or not (a.isalpha() and b.isalpha()):
        return False
    if len(a) == len(b) and len(a) >= 4:
        for i in range(len(a) - 1):
            if a[i] != b[i]:
                return a[i] == b[i + 1] and a[i + 1] == b[i] and a[i + 2 :] == b[i + 2 :]
        return False
    if abs(len(a) - len(b)) == 1 and min(len(a), len(b)) >= 6 and a[0] == b[0]:
        short, long = (a, b) if len(a) < len(b) else (b, a)
        for i in range(1, len(short)):
            if short[i] != long[i]:
                return short[i:] == long[i + 1 :]
    return False
