# Hands the sockets of a Rack server's clients to the daemon: puma -b tcp://127.0.0.1:8002 config.ru
#
# For servers with full hijacking (rack.hijack), of which Puma is one. Not IO#send_io, whose message has a NUL byte in the
# place of the data, which is a request of defaults for the daemon.
require "json"
require "socket"

DAEMON = ENV.fetch("STREAMING_DAEMON", "/run/streaming-daemon-ts/daemon.sock")

# One message with the client's descriptor and the data: see docs/apache-php.md for its fields.
def hand_over(client, data)
  daemon = Socket.new(:UNIX, :SEQPACKET)
  daemon.connect(Socket.sockaddr_un(DAEMON))
  daemon.sendmsg(JSON.generate(data), 0, nil, Socket::AncillaryData.unix_rights(client))
ensure
  daemon&.close
end

run lambda { |env|
  # Authenticate here.
  client = env["rack.hijack"].call
  begin
    hand_over(client, { prompt: env["PATH_INFO"].dup.force_encoding("UTF-8").scrub, user_id: Process.uid })
  rescue SystemCallError
    client.write("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
  end
  client.close
  [-1, {}, []] # nobody writes it any more
}
