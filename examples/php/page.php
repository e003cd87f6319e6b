<?php
// A page that asks /stream and shows the answer as it comes.

declare(strict_types=1);

session_start(['use_strict_mode' => true, 'cookie_httponly' => true, 'cookie_samesite' => 'Strict']);
if (!isset($_SESSION['user_id'])) {
    header('Location: /login');
    exit;
}
$_SESSION['csrf_token'] ??= bin2hex(random_bytes(16));
?>
<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="csrf-token" content="<?= htmlspecialchars($_SESSION['csrf_token']) ?>">
    <title>Ask</title>
  </head>
  <body>
    <form id="form">
      <label for="prompt">Prompt</label>
      <textarea id="prompt" name="prompt" rows="3" required></textarea>
      <button>Ask</button>
      <button type="button" id="stop">Stop</button>
    </form>
    <p id="answer" aria-live="polite" style="white-space: pre-wrap"></p>
    <script>
      // EventSource sends GET only, without headers of ours, and asks again when a stream ends: fetch it is.
      const answer = document.getElementById("answer");
      let controller;

      document.getElementById("stop").onclick = () => controller?.abort();
      document.getElementById("form").onsubmit = async (event) => {
        event.preventDefault();
        controller?.abort();
        controller = new AbortController();
        const { signal } = controller;
        answer.textContent = "";
        try {
          for await (const { content, error } of ask(new URLSearchParams(new FormData(event.target)), signal)) {
            if (signal.aborted) return;
            answer.append(error === undefined ? content : `[${error}]`);
          }
        } catch (error) {
          if (!signal.aborted) answer.append(`[${error.message}]`);
        }
      };

      async function* ask(body, signal) {
        const token = document.querySelector("meta[name=csrf-token]").content;
        const response = await fetch("/stream", { method: "POST", headers: { "X-CSRF-Token": token }, body, signal });
        if (!response.ok) {
          // stream.php and the daemon say why in plain text, Apache in HTML.
          const plain = response.headers.get("Content-Type")?.startsWith("text/plain");
          throw new Error(plain ? (await response.text()).trim() : `${response.status} ${response.statusText}`);
        }
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        while (true) {
          const { done, value } = await reader.read();
          if (done) throw new Error("The answer broke off.");
          const events = (rest + value).split("\n\n");
          rest = events.pop();
          for (const event of events) {
            // Comments are signs of life; events with a name are there where the handoff asks for them (`include`).
            if (!event.startsWith("data: ")) continue;
            const data = event.slice("data: ".length);
            if (data === "[DONE]") return;
            yield JSON.parse(data);
          }
        }
      }
    </script>
  </body>
</html>
