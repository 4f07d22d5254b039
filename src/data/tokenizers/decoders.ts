/**
 * The decoders of a `tokenizer.json`, with the results of Hugging Face's Rust library.
 * @module
 */
import { z } from 'zod';

/** Tokens to pieces of text, which are then joined. */
export type DecodeTokens = (tokens: readonly string[]) => readonly string[];

const decoderSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('Sequence'), decoders: z.array(z.unknown()) }),
  z.object({
    type: z.literal('Replace'),
    pattern: z.object({ String: z.string() }),
    content: z.string(),
  }),
  z.object({ type: z.literal('ByteFallback') }),
  z.object({ type: z.literal('Fuse') }),
  z.object({ type: z.literal('Strip'), content: z.string().length(1), start: z.int(), stop: z.literal(0) }),
  z.object({ type: z.literal('WordPiece'), prefix: z.string(), cleanup: z.boolean() }),
  z.object({
    type: z.literal('Metaspace'),
    replacement: z.string().length(1),
    prepend_scheme: z.enum(['always', 'first', 'never']).default('always'),
  }),
]);

/** What a `decoder` entry does; undefined for one that is not known here. */
export function decoderOf(json: unknown): DecodeTokens | undefined {
  const parsed = decoderSchema.safeParse(json);
  if (!parsed.success) return undefined;
  const step = parsed.data;
  switch (step.type) {
    case 'Sequence': {
      const steps = step.decoders.map(decoderOf);
      if (!steps.every((each) => each !== undefined)) return undefined;
      return (tokens) => steps.reduce((sofar, each) => each(sofar), tokens);
    }
    case 'Replace':
      return (tokens) => tokens.map((token) => token.replaceAll(step.pattern.String, () => step.content));
    case 'ByteFallback':
      return joinBytes;
    case 'Fuse':
      return (tokens) => [tokens.join('')];
    case 'Strip':
      return (tokens) =>
        tokens.map((token) => {
          let start = 0;
          while (start < step.start && token[start] === step.content) start++;
          return token.slice(start);
        });
    case 'WordPiece':
      return (tokens) =>
        tokens.map((token, index) => {
          const joins = index === 0 || token.startsWith(step.prefix);
          const text = joins ? (index === 0 ? token : token.slice(step.prefix.length)) : ` ${token}`;
          return step.cleanup ? cleanUp(text) : text;
        });
    case 'Metaspace':
      return (tokens) =>
        tokens.map((token, index) =>
          token.replaceAll(step.replacement, index === 0 && step.prepend_scheme !== 'never' ? '' : ' '),
        );
  }
}

const byteName = /^<0x([0-9A-Fa-f]{2})>$/;

/** Runs of byte tokens become the text that they spell; each byte of a run that is no UTF-8 becomes U+FFFD. */
function joinBytes(tokens: readonly string[]): string[] {
  const out: string[] = [];
  let run: number[] = [];
  const flush = (): void => {
    if (run.length === 0) return;
    try {
      out.push(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(run)));
    } catch {
      out.push('\uFFFD'.repeat(run.length));
    }
    run = [];
  };
  for (const token of tokens) {
    const byte = byteName.exec(token);
    if (byte) run.push(Number.parseInt(byte[1], 16));
    else {
      flush();
      out.push(token);
    }
  }
  flush();
  return out;
}

/** What English readers expect, in the order of the reference. */
const cleanUps = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [' do not', " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
] as const;

function cleanUp(text: string): string {
  return text.startsWith(' ')
    ? cleanUps.reduce((sofar, [from, to]) => sofar.replaceAll(from, to), text)
    : text;
}
