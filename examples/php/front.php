<?php
// Hands clients over without Apache: php front.php [PORT [SOCKET]]. A server of its own, with PHP's sockets extension.
// One client at a time, each for as long as its request takes to come: for tools and tests, not for a crowd.

declare(strict_types=1);

$port = (int) ($argv[1] ?? 8002);
$daemon = $argv[2] ?? '/run/streaming-daemon-ts/daemon.sock';
const UNAVAILABLE = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

// One message with the client's descriptor and the data: see docs/apache-php.md for its fields.
// Of a Socket PHP 8.2 sends another descriptor, of its stream the right one.
function handOver(string $path, Socket $client, array $data): bool
{
    $daemon = socket_create(AF_UNIX, SOCK_SEQPACKET, 0);
    socket_set_option($daemon, SOL_SOCKET, SO_SNDTIMEO, ['sec' => 0, 'usec' => 300000]);
    return @socket_connect($daemon, $path) && @socket_sendmsg($daemon, [
        'iov' => [json_encode($data, JSON_INVALID_UTF8_SUBSTITUTE)],
        'control' => [['level' => SOL_SOCKET, 'type' => SCM_RIGHTS, 'data' => [socket_export_stream($client)]]],
    ], 0) !== false;
}

$server = socket_create(AF_INET, SOCK_STREAM, SOL_TCP);
socket_set_option($server, SOL_SOCKET, SO_REUSEADDR, 1);
if (!@socket_bind($server, '127.0.0.1', $port) || !socket_listen($server, 1024)) {
    fwrite(STDERR, socket_strerror(socket_last_error()) . "\n");
    exit(1);
}
socket_getsockname($server, $address, $port);
echo $port, "\n";
while (($client = socket_accept($server)) !== false) {
    socket_set_option($client, SOL_SOCKET, SO_RCVTIMEO, ['sec' => 10, 'usec' => 0]);
    for ($head = ''; !str_contains($head, "\r\n\r\n") && strlen($head) < 8192; $head .= $piece) {
        $piece = @socket_read($client, 8192);
        if ($piece === false || $piece === '') continue 2; // it has gone, or says nothing
    }
    // Authenticate here. What is left of the client afterwards is closed with its last copy, without socket_shutdown().
    $data = ['prompt' => explode(' ', $head, 3)[1] ?? '', 'user_id' => getmyuid()];
    if (!handOver($daemon, $client, $data)) @socket_write($client, UNAVAILABLE);
    socket_close($client);
}
