"""The guards: near-misses are vetoed by the guard whose business they are, true duplicates pass, and the verdict
does not depend on the side."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core.semantic.guards import DEFAULT_GUARDS, Guard, compare, default_guards, first_veto, judge


def vetoes(a: str, b: str) -> set[str]:
    return {name for name, verdict in judge(compare(a, b), DEFAULT_GUARDS).items() if verdict.vetoed}


NEAR_MISSES = [
    ("numbers", "How many calories are in 2 eggs?", "How many calories are in 3 eggs?"),
    ("numbers", "Summarise the report in five bullets", "Summarise the report in fifty bullets"),
    ("numbers", "What happened in World War I?", "What happened in World War II?"),
    ("numbers", "Is 5 km a long way to walk?", "Is 5 miles a long way to walk?"),
    ("numbers", "Can I get a visa for $500?", "Can I get a visa for €500?"),
    ("numbers", "Book a table for 2024-05-06", "Book a table for 2024-06-05"),
    ("numbers", "Wake me up at 5:30 am", "Wake me up at 5:30 pm"),
    ("numbers", "Send 10k dollars to my brother", "Send 100k dollars to my brother"),
    ("times", "What is the weather like today?", "What is the weather like tomorrow?"),
    ("times", "How many orders came in last week?", "How many orders came in this week?"),
    ("times", "Is the office open on Monday?", "Is the office open on Sunday?"),
    ("literals", "How do I upgrade to version 1.2.3?", "How do I upgrade to version 1.2.4?"),
    ("literals", "Fetch https://example.com/a for me", "Fetch https://example.com/b for me"),
    ("literals", "Delete /var/log/syslog please", "Delete /var/log/auth.log please"),
    ("literals", "Write to ann@example.com about it", "Write to bob@example.com about it"),
    ("literals", "What does `ls -l` print?", "What does `ls -a` print?"),
    ("literals", "Close ticket ABC-123", "Close ticket ABC-124"),
    ("quoted", 'What does "break a leg" mean?', 'What does "hit the sack" mean?'),
    ("names", "Who is the mayor of Berlin?", "Who is the mayor of Hamburg?"),
    ("names", "Is Susan Miller an architect?", "Is Karen Miller an architect?"),
    ("negation", "Which fruits are good for diabetics?", "Which fruits are not good for diabetics?"),
    ("negation", "Is it rude to tip in Japan?", "Is it rude not to tip in Japan?"),
    ("negation", "Can I travel with a visa if I don't work?", "Can I work with a visa if I don't travel?"),
    ("negation", "Can you pay without a card?", "Can you pay a card?"),
    ("direction", "How do I enable dark mode?", "How do I disable dark mode?"),
    ("direction", "Should I eat before the blood test?", "Should I eat after the blood test?"),
    ("direction", "Flights from London to Paris", "Flights to London from Paris"),
    ("direction", "How do I become more patient?", "How do I become less patient?"),
    ("direction", "Should I buy Tesla shares?", "Should I sell Tesla shares?"),
    ("direction", "What is the maximum file size?", "What is the minimum file size?"),
    ("direction", "Is a coffee with sugar healthy?", "Is a coffee without sugar healthy?"),
    ("direction", "How do I encrypt a disk?", "How do I decrypt a disk?"),
    ("conjunction", "Is it safe to eat eggs and milk?", "Is it safe to eat eggs or milk?"),
    ("question", "Why do cats purr?", "When do cats purr?"),
    ("question", "How much does a passport cost?", "Where does a passport cost?"),
    ("tense", "Is Laura a nurse?", "Was Laura a nurse?"),
    ("tense", "Is Laura a nurse?", "Did Laura use to be a nurse?"),
    ("tense", "Is Laura a nurse?", "Is Laura becoming a nurse?"),
    ("modality", "Can I take ibuprofen with alcohol?", "Should I take ibuprofen with alcohol?"),
    ("coreference", "If Tom and Anna argued, would he leave her?", "If Tom and Anna argued, would she leave him?"),
    (
        "coreference",
        "If Tom and Anna married, would her parents be glad?",
        "If Tom and Anna married, would Tom's parents be glad?",
    ),
    ("coreference", "Can I sue you for that?", "Can you sue me for that?"),
    ("coreference", "What is my name?", "What is your name?"),
    ("wording", "Is Paul a journalist?", "Is Paul a retired journalist?"),
    ("wording", "What do dogs eat?", "What do rabbits eat?"),
    ("roles", "Does Germany beat Brazil?", "Does Brazil beat Germany?"),
    ("roles", "Was the shop sold by Daniel?", "Was Daniel sold by the shop?"),
    ("roles", "Did Daniel sell the shop?", "Was Daniel sold by the shop?"),
    ("roles", "Does Maria trust Peter?", "Is Maria trusted by Peter?"),
    ("roles", "Can a bad teacher become a good person?", "Can a good teacher become a bad person?"),
    ("roles", "Is Java faster than Python?", "Is Python faster than Java?"),
    ("roles", "What is the capital of a country?", "What is the country of a capital?"),
    ("language", "Was ist der Unterschied zwischen TCP und UDP?", "Was ist der Unterschied zwischen TCP und UDP?"),
    ("language", "서울의 날씨는 어떤가요?", "서울의 날씨는 어떤가요?"),
]


@pytest.mark.parametrize(("guard", "a", "b"), NEAR_MISSES, ids=lambda x: None)
def test_a_near_miss_is_vetoed_by_the_guard_whose_business_it_is(guard: str, a: str, b: str) -> None:
    assert guard in vetoes(a, b)
    assert guard in vetoes(b, a)


DUPLICATES = [
    ("How do I reset my password?", "How can I reset my password?"),
    ("What is the capital of France?", "What's the capital of France?"),
    ("Who is the president of India?", "Who is India's president?"),
    ("What is the best way to learn Spanish?", "How can I learn Spanish?"),
    ("How old is a 14-year-old dog in human years?", "How old is a 14 year old dog in human years?"),
    ("I need ten thousand dollars", "I need $10,000"),
    ("Does Peter admire Maria?", "Is Maria admired by Peter?"),
    ("Did Daniel sell the shop?", "Was the shop sold by Daniel?"),
    ("Is Tom older than Ann?", "Is Tom actually older than Ann?"),
    ("Who do critics think is the best actor?", "Who is the best actor according to critics?"),
    ("What is the difference between cats and dogs?", "What is the difference between dogs and cats?"),
    ("Are Nicole and Heather friends?", "Are Heather and Nicole friends?"),
    ("In Python, how do I sort a list?", "How do I sort a list in Python?"),
    ("Please tell me the capital of Spain.", "Tell me the capital of Spain"),
    ("How do I recieve a parcel?", "How do I receive a parcel?"),
    ("Why don't cats swim?", "Why do cats not swim?"),
    ("Is it impossible to fly?", "Is it not possible to fly?"),
    ("Summarise this text in 3 bullets", "Summarize this text in three bullets."),
    ("Meet me at 5pm", "Meet me at 17:00"),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), DUPLICATES, ids=lambda x: None)
def test_a_true_duplicate_passes_every_guard(a: str, b: str) -> None:
    assert vetoes(a, b) == set()
    assert vetoes(b, a) == set()


@given(st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_without_an_error_and_never_vetoed_against_itself_but_for_its_language(text: str) -> None:
    assert vetoes(text, text) <= {"language"}


@given(
    st.sampled_from([t for _, a, b in NEAR_MISSES for t in (a, b)]),
    st.sampled_from([t for pair in DUPLICATES for t in pair]),
)
@settings(max_examples=150, deadline=None)
def test_verdicts_do_not_depend_on_which_text_is_the_stored_one(a: str, b: str) -> None:
    assert bool(vetoes(a, b)) == bool(vetoes(b, a))


def test_a_guard_that_raises_vetoes() -> None:
    def broken(pair: object) -> str | None:
        raise RuntimeError("no dictionary")

    verdicts = judge(compare("a", "a"), [Guard("mine", broken)])
    assert first_veto(verdicts) == ("mine", "the guard failed: RuntimeError: no dictionary")


def test_asking_stops_at_the_first_veto_when_told_so() -> None:
    pair = compare("What are 2 eggs?", "What are 3 ducks?")
    assert len(judge(pair, DEFAULT_GUARDS)) == len(DEFAULT_GUARDS)
    assert list(judge(pair, DEFAULT_GUARDS, stop_at_veto=True))[-1] == "numbers"


def test_other_languages_can_be_served_when_the_embedder_reads_them() -> None:
    guards = default_guards(["en", "de"])
    same = judge(compare("Wie spät ist es in Berlin?", "Wie spät ist es in Berlin?"), guards)
    assert first_veto(same) is None
    other = judge(compare("Ist das Essen gesund?", "Ist das Essen nicht gesund?"), guards)
    assert other["negation"].vetoed
    mixed = judge(compare("Wie spät ist es in Berlin?", "What time is it in Berlin?"), guards)
    assert mixed["language"].reason == "written in de against en"
