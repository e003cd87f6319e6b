/**
 * systemd's part, played by Perl, which every Debian has: Deno makes neither datagram sockets of the Unix kind nor
 * listening sockets that a child process inherits.
 * @module
 */
import { TextLineStream } from "./lines.ts";

const RECEIVER = `
  use Socket; $| = 1;
  socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die $!;
  bind($socket, sockaddr_un($ARGV[0])) or die $!;
  print "bound\\n";
  while (defined recv($socket, my $state, 65536, 0)) { $state =~ s/\\n/ /g; print "$state\\n"; }
`;

/** What a service tells systemd, a list of datagrams, LF as a space. */
export class NotifySocket implements AsyncDisposable {
  readonly states: string[] = [];
  readonly #process: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  #bound = Promise.withResolvers<void>();

  private constructor(path: string) {
    this.#process = new Deno.Command("perl", { args: ["-e", RECEIVER, path], stdout: "piped" }).spawn();
    this.#reading = this.#read();
  }

  /** Binds `path`, for `NOTIFY_SOCKET`. */
  static async open(path: string): Promise<NotifySocket> {
    const socket = new NotifySocket(path);
    await socket.#bound.promise;
    return socket;
  }

  async #read(): Promise<void> {
    const lines = this.#process.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of lines) {
      if (line === "bound") this.#bound.resolve();
      else this.states.push(line);
    }
    this.#bound.reject(new Error("The receiver of notifications ended"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill();
    await this.#reading;
    await this.#process.status;
  }
}

const ACTIVATOR = `
  use Socket; use POSIX (); $^F = 100;
  my @sockets;
  while ((my $arg = shift @ARGV) ne "--") {
    my ($kind, $path) = split /:/, $arg, 2;
    socket(my $socket, AF_UNIX, $kind eq "stream" ? SOCK_STREAM : SOCK_SEQPACKET, 0) or die $!;
    bind($socket, sockaddr_un($path)) or die $!;
    listen($socket, 64) or die $!;
    for my $option (split /,/, $ENV{SOCKET_OPTIONS} // "") { # numbers of SOL_SOCKET's, as in linux/socket.h
      setsockopt($socket, SOL_SOCKET, $option, 1) or die $!;
    }
    push @sockets, $socket;
  }
  # They begin at 3, whatever this process came by; each number is at most that of its socket.
  for my $at (0 .. $#sockets) { POSIX::dup2(fileno($sockets[$at]), 3 + $at) or die $!; }
  for my $socket (@sockets) { POSIX::close(fileno($socket)) if fileno($socket) > 2 + @sockets; }
  $ENV{LISTEN_FDS} = scalar @sockets; $ENV{LISTEN_PID} = $$;
  exec @ARGV;
`;

/**
 * A wrapper that passes listening sockets to what it runs, as sd_listen_fds(3) has it.
 *
 * @param sockets each a kind and a path: `seqpacket:/run/x.sock`; the variable SOCKET_OPTIONS, if the wrapper finds
 * one, has the numbers of the options that each of them is to have
 */
export function activator(sockets: readonly string[]): string[] {
  return ["perl", "-e", ACTIVATOR, ...sockets, "--"];
}
