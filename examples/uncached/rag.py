"""Answers from documents: find the nearest passage by its embedding, and let the model answer from it."""

from openai import OpenAI

PASSAGES = (
    "Books may be returned within 30 days. Gold members return free of charge. Others pay the postage.",
    "Refunds reach the card within five working days after the book is back. Vouchers are refunded as vouchers.",
    "Parcels up to 500 grams cost 3.90 euros to send. Parcels up to one kilogram cost 5.90 euros.",
)
QUESTIONS = ("How long may books be returned?", "When do refunds reach my card?", "What do parcels of 500 grams cost?")


def nearest(client: OpenAI, question: str) -> str:
    texts = [question, *PASSAGES]
    vectors = [row.embedding for row in client.embeddings.create(model="text-embedding-3-small", input=texts).data]
    scores = [sum(a * b for a, b in zip(vectors[0], vector, strict=True)) for vector in vectors[1:]]
    return PASSAGES[scores.index(max(scores))]


def main() -> None:
    client = OpenAI()
    for question in QUESTIONS:
        prompt = f"Answer from the context only.\n\nContext:\n{nearest(client, question)}\n\nQuestion: {question}"
        messages = [{"role": "user", "content": prompt}]
        answer = client.chat.completions.create(model="gpt-5-mini", messages=messages)
        print(f"> {question}\n{answer.choices[0].message.content}")


if __name__ == "__main__":
    main()
