"""A chatbot that remembers the conversation and prints its answers as they arrive."""

from openai import OpenAI

from agentcache_adapters.openai import cached
from agentcache_core import Cache

QUESTIONS = (
    "What should I read about the history of computing?",
    "Which of these is the shortest?",
    "And which one would you give to a child of ten?",
)


def main() -> None:
    client = cached(OpenAI(), Cache("sqlite:///chatbot.db"))
    messages = [{"role": "system", "content": "You are a well-read bookseller. Answer in two sentences."}]
    for question in QUESTIONS:
        print(f"> {question}")
        messages.append({"role": "user", "content": question})
        answer = ""
        for chunk in client.chat.completions.create(model="gpt-5-mini", messages=messages, stream=True):
            piece = chunk.choices[0].delta.content if chunk.choices else None
            answer += piece or ""
            print(piece or "", end="", flush=True)
        messages.append({"role": "assistant", "content": answer})
        print()


if __name__ == "__main__":
    main()
