"""A few pairs of our own, so that the question can be asked where the labelled data is not."""

from __future__ import annotations

from benchmarks.quality._pairs import Labelled

_NEAR = """
Turn the heating up | Turn the heating down
Which planet is closest to the sun? | Which planet is farthest from the sun?
Is it legal to smoke in Spain? | Is it illegal to smoke in Spain?
Who gave Tom the book? | Who did Tom give the book?
What does my boss think of me? | What do I think of my boss?
My dog eats pasta. Is it normal for dogs to eat pasta? | My dog eats soup. Is it normal for dogs to eat soup?
Was Mary killed by John? | Did Mary kill John?
Why does my boyfriend ignore me? | Why do I ignore my boyfriend?
Transfer $100 from savings to checking | Transfer $100 from checking to savings
Turn on the lights | Turn off the lights
How do I run 10k in under 50 minutes? | How do I run 10k in under 55 minutes?
Was the treaty signed before the war ended? | Was the treaty signed after the war ended?
Explain TCP in one sentence | Explain UDP in one sentence
Is version 2.1 compatible with version 3.0? | Is version 2.1 compatible with version 3.1?
Are Jack and Ann happy? | Are Jack or Ann happy?
What is the hex code for red? | What is the hex code for blue?
What is the opposite of hot? | What is the opposite of cold?
What's new in iOS 16? | What's new in iOS 17?
Did the treaty end before the war? | Did the war end before the treaty?
What did Einstein say to Bohr? | What did Bohr say to Einstein?
Is Jack a spy or a thief? | Is Jack a liar and a beggar?
What is the son of a king called? | What is the king of a son called?
Is Tesla up today? | Is Tesla down today?
What are the benefits of coffee? | What are the risks of coffee?
Is Anna indebted to Paul? | Is Paul indebted to Anna?
Where was Obama born? | When was Obama born?
Has he ever been to Rome? | Has she ever been to Rome?
Why is the sky blue and the grass green? | Why is the sky green and the grass blue?
Copy a.txt to b.txt | Copy b.txt to a.txt
Is only Tom invited? | Is Tom invited?
Is it legal to smoke in Spain? | Is it legal not to smoke in Spain?
Could you pick up Mia at 3? | Could you pick up Mia at 4?
Who won the 2014 World Cup? | Who lost the 2014 World Cup?
Did John see Mary leave? | Did Mary see John leave?
Who is Jordan's teacher? | Who is Jordan's teacher's wife?
How do I switch from Android to iPhone? | How do I switch from iPhone to Android?
"""

_SAME = """
If it rains, what should I do? | What should I do if it rains?
How do you purchase a house? | How do you buy a house?
How far is Mars from Earth? | How far is Mars from the Earth?
What is a blockchain? | What is blockchain?
Is that cow in fact asleep? | Is that cow asleep?
How do I remove a stain from a shirt? | How do I remove stains from shirts?
How do I sort a list in Python? | How can I sort a list in Python?
What are the symptoms of flu? | What are flu symptoms?
How many calories are there in two eggs? | How many calories are in 2 eggs?
Did Anna write the letter? | Was the letter written by Anna?
Is Nicole married to Heather? | Is Heather married to Nicole?
Which is the largest country in the world? | What is the largest country in the world?
What is the capital of Italy?? | What is the capital of Italy
Can you tell me the capital of Peru? | What is the capital of Peru?
Why isn't the sky purple? | Why is the sky not purple?
Remind me at 5 pm | Remind me at 17:00
What are some tips for learning chess? | What are good tips for learning chess?
How is bread made? | How do you make bread?
Who is the CEO of Apple? | Who is Apple's CEO?
How do I begin learning guitar? | How do I start learning the guitar?
In Spain, is it rude to tip? | Is it rude to tip in Spain?
How much is 1,000 pounds in dollars? | How much is 1000 pounds in dollars?
Is Anna an American doctor? | Is Anna an American physician?
What's the difference between TCP and UDP? | What are the differences between TCP and UDP?
Who do fans think is the best player? | Who is the best player according to fans?
Is Tom honestly next to Lily? | Is Tom next to Lily?
What do you think about Obama? | What's your opinion on Obama?
Please tell me what the capital of Peru is | What is the capital of Peru?
What is the difference between TCP and UDP? | What is the difference between UDP and TCP?
Are Nicole and Heather lovers? | Are Heather and Nicole lovers?
"""


def _read(text: str, *, same: bool) -> list[Labelled]:
    split = [line.split(" | ") for line in text.strip().splitlines()]
    return [Labelled(a, b, same, "own", n) for n, (a, b) in enumerate(split)]


BUILT_IN: tuple[Labelled, ...] = (*_read(_NEAR, same=False), *_read(_SAME, same=True))
