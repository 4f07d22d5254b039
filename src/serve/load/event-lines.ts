/**
 * Server-sent events, as a client reads them.
 * @module
 */

/** Data of each event of an answer, as it comes. */
export async function* eventData(answer: Response): AsyncGenerator<string> {
  let rest = '';
  const decoder = new TextDecoder();
  const body: AsyncIterable<Uint8Array> | null = answer.body;
  for await (const part of body ?? []) {
    const lines = (rest + decoder.decode(part, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data: ')) yield line.slice(6).trimEnd();
  }
}
