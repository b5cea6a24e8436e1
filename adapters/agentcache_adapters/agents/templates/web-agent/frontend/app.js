const form = document.getElementById("ask");
const answer = document.getElementById("answer");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  answer.textContent = "…";
  const question = new FormData(form).get("question");
  const response = await fetch("/ask", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ question }),
  });
  if (!response.ok) {
    answer.textContent = `The agent answered ${response.status}.`;
    return;
  }
  const { answer: text, cached } = await response.json();
  answer.textContent = cached ? `${text} (from the cache)` : text;
});
