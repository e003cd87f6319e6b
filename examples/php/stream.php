<?php
// Answers POST /stream: looks who asks and for what, then has Apache hand the client over to streaming-daemon-ts.
// The PHP process is free as soon as this script ends; the daemon streams the answer to the browser.

declare(strict_types=1);

// As in the daemon's server.socket_path, and below Apache's SocketHandoffAllowedPrefix.
const DAEMON_SOCKET = '/run/streaming-daemon-ts/daemon.sock';
const MODEL = 'gpt-4o';
const MAX_TOKENS = 1000;
const MAX_PROMPT_BYTES = 4000;
// A header line of a CGI or FastCGI response ends at 8 KiB in Apache. Under mod_php the bound is the daemon's:
// server.handoff_buffer_bytes, 128 KiB.
const MAX_DATA_BYTES = 8000;
const REQUESTS_PER_MINUTE = 20;

function refuse(int $status, string $reason): never
{
    http_response_code($status);
    header('Content-Type: text/plain; charset=utf-8');
    echo $reason, "\n";
    exit;
}

// 1. Only a page of ours may ask, and only in the name of somebody who is logged in.
if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    header('Allow: POST');
    refuse(405, 'Only POST is known here.');
}
session_start(['use_strict_mode' => true, 'cookie_httponly' => true, 'cookie_samesite' => 'Strict']);
if (!isset($_SESSION['user_id'])) {
    refuse(401, 'Please log in.');
}
$token = $_SERVER['HTTP_X_CSRF_TOKEN'] ?? '';
if (!hash_equals($_SESSION['csrf_token'] ?? random_bytes(32), $token)) {
    refuse(403, 'Please reload the page.');
}

// 2. How often? One session can be one of many: with more than one server, count by user, in Redis or the like.
$now = time();
$recent = array_filter($_SESSION['streams_at'] ?? [], fn (int $at): bool => $at > $now - 60);
if (count($recent) >= REQUESTS_PER_MINUTE) {
    header('Retry-After: 60');
    refuse(429, 'Too many questions. Please wait a minute.');
}
$_SESSION['streams_at'] = [...$recent, $now];
// Other requests of this session need not wait for this one.
session_write_close();

// 3. What is asked? The rest of what the daemon is told does not come from the browser.
$prompt = $_POST['prompt'] ?? null;
if (!is_string($prompt) || trim($prompt) === '') {
    refuse(400, 'A prompt is expected.');
}
if (strlen($prompt) > MAX_PROMPT_BYTES) {
    refuse(413, 'The prompt is too long.');
}
try {
    // A header may hold neither line ends nor bytes beyond ASCII. json_encode() escapes both, unless a flag
    // (JSON_UNESCAPED_…) says otherwise; text that is not UTF-8 is an error.
    $data = json_encode([
        'prompt' => $prompt,
        'model' => MODEL,
        'max_tokens' => MAX_TOKENS,
        'user_id' => $_SESSION['user_id'],
        'request_id' => bin2hex(random_bytes(8)),
    ], JSON_THROW_ON_ERROR);
} catch (JsonException) {
    refuse(400, 'The prompt is not valid UTF-8.');
}
if (strlen($data) > MAX_DATA_BYTES) {
    refuse(413, 'The prompt is too long.');
}

// 4. Hand over. Apache takes both headers off; what else this script would print is lost.
header('X-Socket-Handoff: ' . DAEMON_SOCKET);
header('X-Handoff-Data: ' . $data);
