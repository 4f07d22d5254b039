/**
 * The page's side of the wire: requests with the key that was given, and streams of events.
 * @module
 */

/** Where the key is kept: as long as this tab is open, and for no other page. */
const STORED = 'switchyard-key';

/** The server wants a key, or another one. */
export class KeyNeeded extends Error {}

/** Keeps a key for this tab. */
export function keepKey(key: string): void {
  sessionStorage.setItem(STORED, key);
}

/** @throws KeyNeeded, or Error with what the server says is wrong. */
export async function ask(path: string, body?: object, signal?: AbortSignal): Promise<Response> {
  const key = sessionStorage.getItem(STORED);
  const answer = await fetch(path, {
    method: body ? 'POST' : 'GET',
    headers: {
      ...(body && { 'content-type': 'application/json' }),
      ...(key !== null && { authorization: `Bearer ${key}` }),
    },
    ...(body && { body: JSON.stringify(body) }),
    ...(signal && { signal }),
  });
  if (answer.status === 401) throw new KeyNeeded('the server wants a key');
  if (!answer.ok) throw new Error(await messageOf(answer));
  return answer;
}

async function messageOf(answer: Response): Promise<string> {
  try {
    return ((await answer.json()) as { error: { message: string } }).error.message;
  } catch {
    return `the server answered ${answer.status}`;
  }
}

/** One event of a stream. */
export interface StreamedEvent {
  readonly name: string;
  readonly data: string;
}

/** Events of an answer as they come. `EventSource` could not send a key. */
export async function* eventsOf(answer: Response): AsyncGenerator<StreamedEvent> {
  let rest = '';
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (rest + value).split('\n\n');
      rest = events.pop()!;
      for (const event of events) {
        const fields = new Map(event.split('\n').map((line) => splitOnce(line)));
        yield { name: fields.get('event') ?? 'message', data: fields.get('data') ?? '' };
      }
    }
  } finally {
    await reader.cancel();
  }
}

function splitOnce(line: string): [string, string] {
  const at = line.indexOf(': ');
  return [line.slice(0, at), line.slice(at + 2)];
}
