/**
 * Completion for bash, from the program's own help.
 * @module
 */
import { BACKEND_PROVIDERS } from "../../src/config/load.ts";
import { type CommandHelp, commandLine } from "./command_line.ts";

/** The script for /usr/share/bash-completion/completions/streaming-daemon-ts. */
export function bashCompletion(): string {
  const [program, ...commands] = commandLine() as [CommandHelp, ...CommandHelp[]];
  const flags = ({ options }: CommandHelp): string =>
    options.flatMap(({ term }) => term.match(/(?<!\S)--?[\w-]+/g) ?? []).join(" ");
  return `# bash completion for streaming-daemon-ts(8)
_streaming_daemon_ts() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} flags
  case $before in
    -b | --backend)
      mapfile -t COMPREPLY < <(compgen -W "${BACKEND_PROVIDERS.join(" ")}" -- "$current")
      return
      ;;
  esac
  case \${COMP_WORDS[1]} in
${commands.map((command) => `    ${command.name}) flags="${flags(command)}" ;;`).join("\n")}
    *) flags="${flags(program)}" ;;
  esac
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    if ((COMP_CWORD == 1)); then
      mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "${
    commands.map(({ name }) => name).join(" ")
  }" -- "$current")
    fi
  fi
}
complete -o filenames -F _streaming_daemon_ts streaming-daemon-ts
`;
}
