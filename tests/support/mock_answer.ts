/**
 * What the mock backend answers, word for word.
 * @module
 */

/** The pieces of the answer to a prompt of at most 50 characters. */
export function mockPieces(prompt: string): readonly string[] {
  return [
    "Hello! ",
    `You said: "${prompt}". `,
    "This ",
    "answer ",
    "was ",
    "streamed ",
    "by ",
    "the ",
    "mock ",
    "backend ",
    "of ",
    "streaming-daemon-ts, ",
    "over ",
    "the ",
    "socket ",
    "that ",
    "was ",
    "handed over. [DONE-CONTENT]",
  ];
}
