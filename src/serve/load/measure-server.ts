/**
 * Load for a server of OpenAI's API, and what its clients see of it.
 * @module
 */
import { z } from 'zod';
import { RandomStream, streamKey } from '../../nn/index.js';
import { eventData } from './event-lines.js';

/** The load of {@link measureServer}. */
export interface LoadOptions {
  /** Such as `http://127.0.0.1:8080`. */
  readonly url: string;
  readonly apiKey?: string;
  /** Requests that are under way at once: each that ends is followed by the next. */
  readonly concurrency: number;
  /** Requests that are counted. */
  readonly requests: number;
  /** Requests before them, which are not. */
  readonly warmUp: number;
  /** Tokens of a prompt: random ids of the model's vocabulary. */
  readonly promptTokens: number;
  /** Tokens that each request adds, whatever the text says. */
  readonly tokens: number;
  readonly seed: number;
  /** Told after each request. */
  readonly onRequest?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** A duration's distribution, in milliseconds. */
export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly mean: number;
  readonly max: number;
}

/** What clients saw. */
export interface LoadReport {
  readonly model: string;
  readonly concurrency: number;
  readonly completed: number;
  readonly failed: number;
  /** Why requests failed, and how many each. */
  readonly failures: Readonly<Record<string, number>>;
  /** From the first request that counts to the end of the last. */
  readonly seconds: number;
  readonly requestsPerSecond: number;
  readonly promptTokensPerSecond: number;
  readonly tokensPerSecond: number;
  /** From sending a request to its first token. */
  readonly firstTokenMilliseconds: Percentiles | null;
  /** Between two tokens of a text. */
  readonly interTokenMilliseconds: Percentiles | null;
  /** From sending a request to its end. */
  readonly requestMilliseconds: Percentiles | null;
}

const modelsSchema = z.looseObject({
  data: z
    .array(z.looseObject({ id: z.string(), switchyard: z.looseObject({ vocab_size: z.int() }).optional() }))
    .min(1),
});
const chunkSchema = z.looseObject({
  error: z.looseObject({ message: z.string() }).optional(),
  choices: z.array(z.looseObject({ finish_reason: z.string().nullish() })).optional(),
  usage: z.looseObject({ prompt_tokens: z.number(), completion_tokens: z.number() }).nullish(),
});

/** Vocabulary of a server that does not tell its own: ids that every tokenizer has. */
const COMMON_VOCABULARY = 256;

interface Sample {
  readonly firstToken: number;
  readonly gaps: readonly number[];
  readonly total: number;
  readonly promptTokens: number;
  readonly tokens: number;
}

/**
 * Sends streamed completions, `concurrency` at a time.
 * @throws Error if the server cannot be reached or tells no model.
 */
export async function measureServer(options: LoadOptions): Promise<LoadReport> {
  const { concurrency, requests, warmUp, onRequest, signal } = options;
  const { id, vocabSize } = await servedModel(options);
  const samples: Sample[] = [];
  const failures: Record<string, number> = {};
  let [next, started] = [0, performance.now()];
  const work = async (): Promise<void> => {
    while (next < warmUp + requests) {
      signal?.throwIfAborted();
      const index = next++;
      if (index === warmUp) started = performance.now();
      try {
        const sample = await complete(options, id, randomPrompt(options, vocabSize, index));
        if (index >= warmUp) samples.push(sample);
      } catch (error) {
        if (signal?.aborted) throw error;
        const why = error instanceof Error ? error.message : String(error);
        if (index >= warmUp) failures[why] = (failures[why] ?? 0) + 1;
      }
      onRequest?.(samples.length, requests);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  const seconds = (performance.now() - started) / 1000;
  const sum = (pick: (sample: Sample) => number): number => samples.reduce((all, one) => all + pick(one), 0);
  return {
    model: id,
    concurrency,
    completed: samples.length,
    failed: Object.values(failures).reduce((a, b) => a + b, 0),
    failures,
    seconds,
    requestsPerSecond: samples.length / seconds,
    promptTokensPerSecond: sum(({ promptTokens }) => promptTokens) / seconds,
    tokensPerSecond: sum(({ tokens }) => tokens) / seconds,
    firstTokenMilliseconds: percentiles(samples.map(({ firstToken }) => firstToken)),
    interTokenMilliseconds: percentiles(samples.flatMap(({ gaps }) => gaps)),
    requestMilliseconds: percentiles(samples.map(({ total }) => total)),
  };
}

/** Distribution of some numbers; null for none. */
export function percentiles(values: readonly number[]): Percentiles | null {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  const mean = sorted.reduce((a, b) => a + b, 0) / sorted.length;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), mean, max: at(1) };
}

function headers({ apiKey }: LoadOptions): Record<string, string> {
  return {
    'content-type': 'application/json',
    ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
  };
}

async function servedModel(options: LoadOptions): Promise<{ id: string; vocabSize: number }> {
  const { url } = options;
  let answer: Response;
  try {
    answer = await fetch(`${url}/v1/models`, { headers: headers(options) });
  } catch (error) {
    const { cause } = error as { cause?: NodeJS.ErrnoException };
    throw new Error(`${url} cannot be reached: ${cause?.code ?? String(error)}`, { cause: error });
  }
  if (!answer.ok) throw new Error(`${url}/v1/models answered ${answer.status}`);
  const parsed = modelsSchema.safeParse(await answer.json());
  if (!parsed.success) throw new Error(`${url}/v1/models is no list of models`);
  const [{ id, switchyard }] = parsed.data.data;
  return { id, vocabSize: switchyard?.vocab_size ?? COMMON_VOCABULARY };
}

function randomPrompt({ seed, promptTokens }: LoadOptions, vocabSize: number, index: number): number[] {
  const random = new RandomStream(streamKey(seed, 'load', index));
  return Array.from({ length: promptTokens }, () => Math.floor(random.uniform() * vocabSize));
}

async function complete(options: LoadOptions, model: string, prompt: readonly number[]): Promise<Sample> {
  const { url, tokens, seed, signal } = options;
  const started = performance.now();
  const answer = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: headers(options),
    body: JSON.stringify({
      ...{ model, prompt, max_tokens: tokens, seed, ignore_eos: true },
      // With its log-probability every token is an event of its own, also where its text is held back.
      ...{ stream: true, stream_options: { include_usage: true }, logprobs: 0 },
    }),
    ...(signal && { signal }),
  });
  if (!answer.ok) throw new Error(`status ${answer.status}: ${await messageOf(answer)}`);
  const times: number[] = [];
  let [promptTokens, written] = [prompt.length, 0];
  for await (const data of eventData(answer)) {
    if (data === '[DONE]') break;
    const { error, choices = [], usage } = chunkSchema.parse(JSON.parse(data));
    if (error) throw new Error(error.message);
    if (choices.some(({ finish_reason: reason }) => reason == null)) times.push(performance.now());
    promptTokens = usage?.prompt_tokens ?? promptTokens;
    written = usage?.completion_tokens ?? written;
  }
  if (times.length === 0) throw new Error('a stream ended without a token');
  return {
    firstToken: times[0] - started,
    gaps: times.slice(1).map((time, i) => time - times[i]),
    total: performance.now() - started,
    promptTokens,
    tokens: Math.max(written, times.length),
  };
}

async function messageOf(answer: Response): Promise<string> {
  const parsed = z
    .looseObject({ error: z.looseObject({ message: z.string() }) })
    .safeParse(await answer.json().catch(() => undefined));
  return parsed.success ? parsed.data.error.message : answer.statusText;
}
