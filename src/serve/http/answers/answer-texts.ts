/**
 * Answers requests to write: whole, or as a stream of events.
 * @module
 */
import type {
  EngineEvent,
  GenerationRequest,
  ModelInfo,
  PromptRead,
  TokenAdded,
} from '../../engine-client.js';
import { invalid, toApiError } from '../api-error.js';
import { eventStream, serverSentEvent } from '../event-stream.js';
import { merge } from '../merge.js';
import type { Exchange } from '../route.js';
import { answerExtras, type AnswerShape, type Piece, type Usage, type Wanted } from './answer-shape.js';

/** What a body says about its answer. */
export interface AnswerOptions {
  readonly model: ModelInfo;
  readonly stream: boolean;
  /** Whether a stream ends with the usage. */
  readonly usage: boolean;
  readonly wanted: Wanted;
  readonly shape: AnswerShape;
}

interface SourcedEvent {
  readonly source: number;
  readonly event: EngineEvent;
}

/** Performs all requests at once; text `index` of request `source` is choice `source · n + index`. */
export async function answerTexts(
  exchange: Exchange,
  requests: readonly GenerationRequest[],
  options: AnswerOptions,
): Promise<Response> {
  const { client, signal } = exchange;
  const sources = requests.map((request) => client.generate(request, { signal }));
  const merged = merge(sources);
  const texts = new TextsInProgress(exchange, requests, options);
  if (options.stream) {
    const events = texts.follow(merged);
    // Whatever refuses a request does so by its first event: then the answer has a status of its own.
    const first = await events.next();
    const chunks = streamTexts(exchange, first, events, texts, options);
    const { disconnect } = exchange;
    return eventStream(chunks, {
      abandon: (reason) => {
        exchange.metrics.abandoned++;
        exchange.abandon(reason);
      },
      disconnect,
      stallMilliseconds: exchange.settings.stallMilliseconds,
    });
  }
  for await (const sourced of merged) texts.add(sourced);
  const { shape, wanted, model } = options;
  return Response.json({
    ...shape.whole(texts.pieces(shape)),
    usage: texts.usage,
    ...answerExtras(model, texts.prompts, wanted),
  });
}

/** Chunks, the usage where asked for, and `[DONE]`; after a failure, the error and `[DONE]`. */
async function* streamTexts(
  exchange: Exchange,
  first: IteratorResult<SourcedEvent>,
  events: AsyncGenerator<SourcedEvent>,
  texts: TextsInProgress,
  { shape, usage, wanted, model }: AnswerOptions,
): AsyncGenerator<string> {
  const empty = usage ? { usage: null } : {};
  const tell = (pieces: readonly Piece[], begins = false): string =>
    serverSentEvent({ ...shape.chunk(pieces, begins), ...empty });
  try {
    for (let next = first; next.done !== true; next = await events.next()) {
      const { source, event } = next.value;
      if (event.kind === 'prompt') {
        const begun = texts.choicesOf(source).flatMap((index) => shape.begin(index, event) ?? []);
        for (const piece of begun) yield tell([piece], true);
        continue;
      }
      const index = texts.choice(source, event.index);
      const told = wanted.logProbabilities || wanted.tokenIds || wanted.routedExperts;
      if (event.kind === 'token' && event.text === '' && !told) continue;
      const tokens = event.kind === 'token' ? [event] : [];
      yield tell([{ index, text: event.text, tokens, finish: event.kind === 'end' ? event.reason : null }]);
    }
    const extras = answerExtras(model, texts.prompts, wanted);
    if (usage || extras.switchyard)
      yield serverSentEvent({ ...shape.chunk([], false), ...(usage && { usage: texts.usage }), ...extras });
  } catch (error) {
    if (exchange.signal.aborted) return;
    yield serverSentEvent(toApiError(error).body);
  } finally {
    await events.return(undefined);
  }
  yield serverSentEvent('[DONE]');
}

/** Everything that has come so far. */
class TextsInProgress {
  private readonly read: (PromptRead | undefined)[];
  private readonly texts: { text: string; tokens: TokenAdded[]; finish: Piece['finish'] }[];
  private completionTokens = 0;

  constructor(
    private readonly exchange: Exchange,
    private readonly requests: readonly GenerationRequest[],
    private readonly options: AnswerOptions,
  ) {
    this.read = requests.map(() => undefined);
    this.texts = requests.flatMap(({ n = 1 }) =>
      Array.from({ length: n }, () => ({ text: '', tokens: [], finish: null })),
    );
  }

  /** The same events, each once it has been taken in. */
  async *follow(events: AsyncIterable<SourcedEvent>): AsyncGenerator<SourcedEvent> {
    for await (const sourced of events) {
      this.add(sourced);
      yield sourced;
    }
  }

  /** @throws ApiError 400 if the answer would be larger than the server allows. */
  add({ source, event }: SourcedEvent): void {
    if (event.kind === 'prompt') {
      this.read[source] = event;
      this.checkSize(source, event);
      return;
    }
    if (event.kind === 'end') this.completionTokens += event.tokens;
    // What has been streamed is not kept.
    if (this.options.stream) return;
    const text = this.texts[this.choice(source, event.index)];
    text.text += event.text;
    if (event.kind === 'token') text.tokens.push(event);
    else text.finish = event.reason;
  }

  choice(source: number, index: number): number {
    return source * (this.requests[source].n ?? 1) + index;
  }

  choicesOf(source: number): readonly number[] {
    return Array.from({ length: this.requests[source].n ?? 1 }, (_, index) => this.choice(source, index));
  }

  /** Prompts that have been read, in the order of the requests. */
  get prompts(): readonly PromptRead[] {
    return this.read.filter((prompt) => prompt !== undefined);
  }

  get usage(): Usage {
    const promptTokens = this.prompts.reduce((sum, { tokens }) => sum + tokens, 0);
    return {
      prompt_tokens: promptTokens,
      completion_tokens: this.completionTokens,
      total_tokens: promptTokens + this.completionTokens,
    };
  }

  pieces(shape: AnswerShape): readonly Piece[] {
    return this.requests.flatMap((_, source) =>
      this.choicesOf(source).map((index) => {
        const { text, tokens, finish } = this.texts[index];
        const prompt = this.read[source];
        const begun = prompt && shape.begin(index, prompt);
        return {
          index,
          text: (begun?.text ?? '') + text,
          tokens,
          finish,
          ...(begun?.prompt && { prompt: begun.prompt }),
        };
      }),
    );
  }

  /** @throws ApiError 400 if the trace of all texts, or their log-probabilities, would be more than the server allows. */
  private checkSize(source: number, { tokens }: PromptRead): void {
    const { routing, topLogProbabilities: top, echo, n = 1, maxTokens } = this.requests[source];
    const { contextLength, targetLength, routedLayers } = this.options.model;
    const { routedExperts, logProbabilities } = this.exchange.settings.limits;
    const room = targetLength ?? Math.max(0, contextLength - tokens);
    const added = n * Math.min(room, maxTokens ?? room) * this.requests.length;
    const read = tokens * this.requests.length;
    if (routing) {
      const perToken = routedLayers.reduce((sum, { topK }) => sum + topK, 0);
      checkCount('switchyard.routed_experts', (read + added) * perToken, routedExperts);
    }
    // The prompt's are told with each of its texts.
    if (top !== undefined)
      checkCount('logprobs', ((echo ? n * read : 0) + added) * (top + 1), logProbabilities);
  }
}

/** @throws ApiError 400 */
function checkCount(field: string, numbers: number, allowed: number): void {
  if (numbers > allowed)
    throw invalid(
      field,
      `would be up to ${numbers} numbers, and ${allowed} are allowed: ask for fewer tokens or texts`,
      'too_large',
    );
}
