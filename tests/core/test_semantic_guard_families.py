"""Whole families of pairs: every near-miss is vetoed by some guard, every true duplicate passes them all."""

from __future__ import annotations

import pytest

from agentcache_core.semantic.guards import DEFAULT_GUARDS, compare, first_veto, judge

NEAR_MISSES = """
Who won the election? | Who will win the election?
Tom loved Mary | Tom loves Mary
Are all swans white? | Are any swans white?
Is it too late to apply? | Is it late to apply?
Do you know Python? | Do you like Python?
What does this setting mean? | What does this setting do?
Do Emily and Tom know Kim? | Does Kim know Emily and Tom?
Does Mary know Emily? | Does Emily know Mary?
Is Emily jealous of Heather? | Is Heather jealous of Emily?
Do you have to groom a dog before boarding it? | Do you have to groom a dog while boarding it?
Meet me on Jan 5 | Meet me on Feb 5
Is another seat free? | Is a seat free?
Are tigers heavier than insects? | Are insects heavier than tigers?
Is Nicole taller than Heather? | Is Heather taller than Nicole?
Did Mary kill John? | Did John kill Mary?
Was Mary killed by John? | Did Mary kill John?
Is Anna loyal to Paul? | Is Paul loyal to Anna?
Is Anna indebted to Paul? | Is Paul indebted to Anna?
Did Nicole email Heather? | Was Nicole emailed by Heather?
Who attacked Poland? | Who did Poland attack?
What did Google acquire? | Who acquired Google?
Which company bought Instagram? | Which company did Instagram buy?
Is Sarah married to a doctor? | Is a doctor's sister married to Sarah?
Convert 10 USD to EUR | Convert 10 EUR to USD
How do I convert PDF to Word? | How do I convert Word to PDF?
Translate this sentence from English to French | Translate this sentence from French to English
How long is the drive from Boston to New York? | How long is the drive from New York to Boston?
What is the distance from the earth to the moon? | What is the distance from the earth to the sun?
My dog eats pasta. Is it normal for dogs to eat pasta? | My dog eats soup. Is it normal for dogs to eat soup?
My son hurt his knee. What should I do? | My son hurt his elbow. What should I do?
Is the dog on the table? | Is the cat on the table?
Is Kevin ready? | Is Kevin arrogant?
Is Mark an actor? | Is Mark an actress?
Is Julia Roberts American? | Is Julia Roberts French?
Is Julia an accountant? | Is Julia an unemployed accountant?
Is Julia a photographer? | Is Julia becoming a photographer?
Is Julia a photographer? | Will Julia be a photographer?
Is Julia a photographer? | Has Julia been a photographer?
Is Julia a photographer? | Is Julia no longer a photographer?
Was Julia a photographer in 2005? | Was Julia a photographer in 2015?
Is it dangerous to swim after eating? | Is it dangerous to swim before eating?
Is it OK to shower before work? | Is it OK to shower after work?
How can I become a brave person? | How can I become a person who is not brave?
How can I become more cautious? | How can I become less cautious?
How do I become a more social person? | How do I become a less social person?
Is it legal to smoke in Spain? | Is it illegal to smoke in Spain?
Is it legal to smoke in Spain? | Is it legal not to smoke in Spain?
Why is it acceptable to lie? | Why is it not acceptable to lie?
Should I never eat meat? | Should I eat meat?
Can I take aspirin and ibuprofen? | Can I take aspirin or ibuprofen?
Are Jack and Ann happy? | Are Jack or Ann happy?
Is Jack a spy or a thief? | Is Jack a spy and a thief?
Is Jack a spy or a thief? | Is Jack a liar and a beggar?
If Tom and Lily were alone, would he ignore her? | If Tom and Lily were alone, would she ignore him?
If Tom and Lily were married, would his family be happy? | If Tom and Lily were married, would her family be happy?
If Tom and Lily were married, would his family be happy? | If Tom and Lily were married, would Lily's family be happy?
Why did Tom tell Lily that he lied? | Why did Tom tell Lily that she lied?
How many people live in Peru? | How many people live in Chile?
What should I do with 40 acres? | What should I do with 45 acres?
Is 98.6 a normal temperature? | Is 96.8 a normal temperature?
What are the top ten songs of 2010? | What are the top ten songs of 2011?
How do I run 10k in under 50 minutes? | How do I run 10k in under 55 minutes?
What can I buy for twenty dollars? | What can I buy for thirty dollars?
What is 15% of 80? | What is 80% of 15?
What is 7 minus 3? | What is 3 minus 7?
Is Rome older than Paris? | Is Paris older than Rome?
Delete all rows where age > 30 | Delete all rows where age < 30
List all files larger than 1 GB | List all files smaller than 1 GB
List all files larger than 1 GB | List all files larger than 1 MB
Show me orders placed since Monday | Show me orders placed until Monday
Show me orders with a discount | Show me orders without a discount
Turn on the lights | Turn off the lights
Turn the heating up | Turn the heating down
Grant Alice access to the repo | Revoke Alice's access to the repo
Start the server | Stop the server
Start the server | Restart the server
Approve invoice 4711 | Reject invoice 4711
Approve invoice 4711 | Approve invoice 4712
Transfer $100 from savings to checking | Transfer $100 from checking to savings
Transfer $100 from Bob to Alice | Transfer $100 from Alice to Bob
Email Bob about Alice | Email Alice about Bob
Remind me to call mom tomorrow | Remind me to call mom today
Book a flight for next Friday | Book a flight for this Friday
What is the first step? | What is the last step?
What's the cheapest phone? | What's the most expensive phone?
Sort the list in ascending order | Sort the list in descending order
What are the pros of nuclear power? | What are the cons of nuclear power?
What are the benefits of coffee? | What are the risks of coffee?
Who won the 2014 World Cup? | Who lost the 2014 World Cup?
Who won the 2014 World Cup? | Who won the 2018 World Cup?
Is Python compiled? | Is Python interpreted?
How do I install Docker on Windows? | How do I install Docker on Linux?
How do I install Docker? | How do I uninstall Docker?
what is the capital of france | what is the capital of germany
how to cook rice | how to cook pasta
what is a good price for a used car | what is a good price for a new car
Can vegetarians eat eggs? | Can vegans eat eggs?
Why do men cheat on women? | Why do women cheat on men?
Can humans get diseases from dogs? | Can dogs get diseases from humans?
Do you need to peel carrots before cooking? | Do you need to peel carrots after cooking?
Should I invest in gold? | Should I not invest in gold?
Can I refuse a breath test? | Must I refuse a breath test?
May I park here? | Must I park here?
Does the train stop in Oxford? | Did the train stop in Oxford?
Did John see Mary leave? | Did Mary see John leave?
What does a teacher learn from students? | What do students learn from a teacher?
Who gave Tom the book? | Who did Tom give the book?
The manager fired the worker | The worker fired the manager
The manager was fired by the worker | The manager fired the worker
What is the son of a king called? | What is the king of a son called?
When did World War I begin? | When did World War II begin?
What's new in iOS 16? | What's new in iOS 17?
Is GPT-3 better than GPT-4? | Is GPT-4 better than GPT-3?
Is version 2.1 compatible with version 3.0? | Is version 2.1 compatible with version 3.1?
Fix the bug in utils.py | Fix the bug in models.py
Rename foo to bar | Rename bar to foo
Merge branch dev into main | Merge branch main into dev
Copy a.txt to b.txt | Copy b.txt to a.txt
What's the square root of 16? | What's the square of 16?
Everyone passed the test, right? | Someone passed the test, right?
Are all swans white? | Are some swans white?
Are all swans white? | Are no swans white?
Is only Tom invited? | Is Tom invited?
Who is the CEO of Apple? | Who was the CEO of Apple?
Who is Jordan's teacher? | Who is Jordan's teacher's wife?
Which is the second largest city in Spain? | Which is the largest city in Spain?
Which is the second largest city in Spain? | Which is the third largest city in Spain?
Do cats like dogs? | Do dogs like cats?
Is a whale a mammal? | Is a mammal a whale?
Are all cats animals? | Are all animals cats?
How can I stop loving her? | How can I stop loving him?
Why does my boyfriend ignore me? | Why does my girlfriend ignore me?
Why does my boyfriend ignore me? | Why do I ignore my boyfriend?
What does my boss think of me? | What do I think of my boss?
Is Tesla up today? | Is Tesla down today?
What happens if I eat before surgery? | What happens if I don't eat before surgery?
What medicines are safe during pregnancy? | What medicines are unsafe during pregnancy?
Is it too late to start at 30? | Is it too late to start at 13?
Can I drive at 16 in Texas? | Can I drive at 18 in Texas?
Write a poem about love in the style of Poe | Write a poem about Poe in the style of love
Why is the sky blue? | Why is the sea blue?
Why is the sky blue and the grass green? | Why is the sky green and the grass blue?
Has he ever been to Rome? | Has she ever been to Rome?
Where was Obama born? | When was Obama born?
Who is older, Tom or Jim? | Who is younger, Tom or Jim?
What is the opposite of hot? | What is the opposite of cold?
Can a Muslim man marry a Christian woman? | Can a Christian man marry a Muslim woman?
Does vitamin C cause cancer? | Does vitamin C prevent cancer?
Does vitamin C help? | Does vitamin D help?
How do I switch from Android to iPhone? | How do I switch from iPhone to Android?
What is the hex code for red? | What is the hex code for blue?
Which planet is closest to the sun? | Which planet is farthest from the sun?
Was the treaty signed before the war ended? | Was the treaty signed after the war ended?
Did the treaty end before the war? | Did the war end before the treaty?
What did Einstein say to Bohr? | What did Bohr say to Einstein?
Explain TCP in one sentence | Explain UDP in one sentence
Is the earth bigger than mars? | Is mars bigger than the earth?
Increase the font size by 2 | Increase the font size to 2
Show users that logged in yesterday | Show users that did not log in yesterday
Could you pick up Mia at 3? | Could you pick up Mia at 4?
"""

DUPLICATES = """
Does Nathan love Isabella? | Is Isabella loved by Nathan?
Nathan loves Isabella | Isabella is loved by Nathan
Does Michael miss Brian? | Is Brian missed by Michael?
Am I able to lose weight? | Can I lose weight?
Is Laura an Egyptian chef? | Is Laura a chef and Egyptian?
Is that horse asleep? | Is that horse genuinely asleep?
If I want to become a pilot, what should I do? | What can I do to become a pilot?
Is it possible for me to cook rice? | Can I cook rice?
Do you think I can run a mile? | Can I run a mile?
Meet me on Jan 5 | Meet me on January 5
I would like to know how to bake bread | I want to know how to bake bread
Are tigers heavier than insects? | Are tigers actually heavier than insects?
Are Nicole and Heather lovers? | Are Heather and Nicole lovers?
Is Nicole married to Heather? | Is Heather married to Nicole?
Did Mary kill John? | Was John killed by Mary?
Did the storm destroy the house? | Was the house destroyed by the storm?
Does Anna trust Paul? | Is Paul trusted by Anna?
Did Anna write the letter? | Was the letter written by Anna?
Did Ben steal the car? | Was the car stolen by Ben?
How do I sort a list in Python? | How can I sort a list in Python?
What is the best way to lose weight? | How can I lose weight?
What's the best way to lose weight? | What is a good way to lose weight?
What is the population of Germany? | What's Germany's population?
How do I boil an egg? | How should I boil an egg?
Can you tell me the capital of Peru? | What is the capital of Peru?
Please tell me what the capital of Peru is | What is the capital of Peru?
Is Kim really a nurse? | Is Kim a nurse?
Why isn't the sky purple? | Why is the sky not purple?
I can't log in | I cannot log in
I can't log in. | i can not log in
Who is the CEO of Apple? | Who is Apple's CEO?
Is he a doctor or a lawyer? | Is he a lawyer or a doctor?
What is the difference between TCP and UDP? | What is the difference between UDP and TCP?
What's the difference between TCP and UDP? | What are the differences between TCP and UDP?
How many calories are there in two eggs? | How many calories are in 2 eggs?
How much is 1,000 pounds in dollars? | How much is 1000 pounds in dollars?
How do you purchase a house? | How do you buy a house?
How do I begin learning guitar? | How do I start learning the guitar?
What are some tips for learning chess? | What are good tips for learning chess?
How do I remove a stain from a shirt? | How do I remove stains from shirts?
How do I reset my pasword? | How do I reset my password?
what is the capital of italy | What is the capital of Italy?
What is the capital of Italy?? | What is the capital of Italy
In Spain, is it rude to tip? | Is it rude to tip in Spain?
According to scientists, is coffee healthy? | Is coffee healthy according to scientists?
Who do fans think is the best player? | Who is the best player according to fans?
Is that cow currently asleep on the sofa? | Is that cow asleep on the sofa?
Is that cow in fact asleep? | Is that cow asleep?
Is Tom honestly next to Lily? | Is Tom next to Lily?
How can I improve my English? | How do I improve my English?
How can I improve my English? | How do you improve your English?
How is bread made? | How do you make bread?
What color is the sky? | What colour is the sky?
Summarize the article in five bullet points | Summarise the article in 5 bullet points
Remind me at 5 pm | Remind me at 17:00
What do you think about Obama? | What's your opinion on Obama?
Should I learn Java or Python first? | Should I learn Python or Java first?
How far is Mars from Earth? | How far is Mars from the Earth?
Is it possible to learn French in a month? | Is it possible to learn French in one month?
Could you please turn on the lights? | Turn on the lights please
Show me all open issues | Please show me all the open issues
How do I use the API? | How to use the API?
What is a blockchain? | What is blockchain?
What does API mean? | What is the meaning of API?
Why do people hate Mondays? | Why do people hate Monday?
If it rains, what should I do? | What should I do if it rains?
Was the house sold? | Has the house been sold?
What are the symptoms of flu? | What are flu symptoms?
Which is the largest country in the world? | What is the largest country in the world?
I would like to know how to bake bread | How do I bake bread?
Is Anna an American doctor? | Is Anna an American physician?
Do I need a visa for China? | Do I need a visa to China?
Does Tom like Anna? | Does Tom like Anna, actually?
Hi, what is the weather in Rome? | What is the weather in Rome?
Hey! How do I bake bread? Thanks! | How do I bake bread?
"""


def pairs(text: str) -> list[tuple[str, str]]:
    split = [line.split(" | ") for line in text.strip().splitlines()]
    return [(a, b) for a, b in split]


@pytest.mark.parametrize(("a", "b"), pairs(NEAR_MISSES))
def test_a_near_miss_is_vetoed_from_either_side(a: str, b: str) -> None:
    assert first_veto(judge(compare(a, b), DEFAULT_GUARDS)) is not None
    assert first_veto(judge(compare(b, a), DEFAULT_GUARDS)) is not None


@pytest.mark.parametrize(("a", "b"), pairs(DUPLICATES))
def test_a_true_duplicate_passes_from_either_side(a: str, b: str) -> None:
    assert first_veto(judge(compare(a, b), DEFAULT_GUARDS)) is None
    assert first_veto(judge(compare(b, a), DEFAULT_GUARDS)) is None
