/**
 * The one interface through which a served model is used: in this process, or in one of its own.
 * @module
 */
import type { ChatMessage } from '../data/index.js';
import type { EngineStats } from './engine-stats.js';

/** Whether requests are taken: only while `ready`. `stopping` finishes those that it has. */
export type EngineState = 'starting' | 'ready' | 'restarting' | 'stopping' | 'stopped';

/** One layer that routes. */
export interface RoutedLayerInfo {
  /** As in the model's routing records: `2`, `decoder.1`, `3.0` for a stratum. */
  readonly name: string;
  /** Among all layers of the model. */
  readonly layerIndex: number;
  readonly numExperts: number;
  readonly topK: number;
}

/** A part of the model and where it is. */
export interface Placement {
  /** Such as `experts in memory`. */
  readonly what: string;
  /** Such as `memory` or `disk`. */
  readonly where: string;
  readonly bytes: number;
}

/** What a client may know of the model. */
export interface ModelInfo {
  /** Its name in requests. */
  readonly name: string;
  readonly kind: 'languageModel' | 'encoderDecoder' | 'classifier';
  /** Tokens that a text, prompt included, may have; of an encoder–decoder the source's. */
  readonly contextLength: number;
  /** Tokens that an encoder–decoder writes at most. */
  readonly targetLength?: number;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** Classes of a classifier. */
  readonly numLabels?: number;
  /** Whether prompts may be conversations. */
  readonly hasChatTemplate: boolean;
  /** Whether the model writes text, tells classes, makes vectors of texts. */
  readonly tasks: readonly ('generate' | 'classify' | 'embed')[];
  /** Layers whose experts a routing trace tells, in its order. */
  readonly routedLayers: readonly RoutedLayerInfo[];
  /** Where its parts are, once it is open. */
  readonly placement: readonly Placement[];
  /** Effective settings, for people: policy, mode, budget and so on. */
  readonly settings: Readonly<Record<string, string | number | boolean>>;
}

/** What is to be continued: a text, its ids as they are, or a conversation by the model's chat template. */
export type Prompt =
  | { readonly text: string }
  | { readonly ids: readonly number[] }
  | { readonly messages: readonly ChatMessage[] };

/** A request to write. Fields that are absent have the values said here. */
export interface GenerationRequest {
  readonly prompt: Prompt;
  /** Tokens to add at most; as many as the model has room for when absent. */
  readonly maxTokens?: number;
  /** Texts to write, each with random numbers of its own; 1. */
  readonly n?: number;
  /** The same seed gives the same texts; drawn when absent. */
  readonly seed?: number;
  /** 0 takes the most probable token; 1. */
  readonly temperature?: number;
  /** Only so many most probable tokens; all when 0, as when absent. */
  readonly topK?: number;
  /** The fewest tokens that together reach this probability; 1. */
  readonly topP?: number;
  /** Only tokens at least this share as probable as the best; 0. */
  readonly minP?: number;
  /** Divides scores of tokens that prompt or text have; 1. */
  readonly repetitionPenalty?: number;
  /** Taken from scores of tokens that the text has, prompt not included; 0. */
  readonly presencePenalty?: number;
  /** Taken from scores as often as the text has the token, prompt not included; 0. */
  readonly frequencyPenalty?: number;
  /** Added to scores, by id in decimal. */
  readonly logitBias?: Readonly<Record<string, number>>;
  /** The text ends before the first of these. */
  readonly stop?: readonly string[];
  /** Ids that end the text and are no part of it, besides the model's own. */
  readonly stopTokens?: readonly number[];
  /** Whether the model's own end tokens are written like others. */
  readonly ignoreEnd?: boolean;
  /** Tells how probable the model itself found each token, before any option, and as many of the most probable ones. */
  readonly topLogProbabilities?: number;
  /** Whether the prompt is told as well: its tokens, with probabilities and experts where those are asked for. */
  readonly echo?: boolean;
  /** Whether every token's experts are told. */
  readonly routing?: boolean;
  /** From its arrival until it must be finished; the engine's own limit when absent, and never more than that. */
  readonly timeLimitMilliseconds?: number;
}

/** A token and how probable it was. */
export interface ScoredToken {
  readonly id: number;
  /** What it spells after the token before it: U+FFFD for parts of characters. */
  readonly text: string;
  /** Its bytes in UTF-8; none for parts of characters. */
  readonly bytes: readonly number[];
  /** Natural logarithm, −9999 at least. */
  readonly logProbability: number;
}

/** Probability of a token and of those that were most probable in its place, best first. */
export interface TokenProbabilities extends ScoredToken {
  readonly top: readonly ScoredToken[];
}

/**
 * Experts of one token, `[routedLayers][topK]`: best first, −1 for places that it did not use and for layers that it does
 * not come to, such as a decoder's for tokens of a source.
 */
export type TokenRouting = readonly (readonly number[])[];

/** A token of a prompt that was asked to be told. */
export interface PromptToken {
  readonly id: number;
  readonly text: string;
  /** Absent for the first, which nothing comes before. */
  readonly probabilities?: TokenProbabilities;
}

/** The prompt has been read; always the first event. */
export interface PromptRead {
  readonly kind: 'prompt';
  /** Its length in tokens. */
  readonly tokens: number;
  /** As text, where it was to be told. */
  readonly text?: string;
  /** One a token, where it was to be told with probabilities. */
  readonly detail?: readonly PromptToken[];
  /** One a token, where routing was asked for; of an encoder–decoder the source's. */
  readonly routing?: readonly TokenRouting[];
  readonly seed: number;
}

/** A token was added to text `index`. */
export interface TokenAdded {
  readonly kind: 'token';
  readonly index: number;
  readonly id: number;
  /** What has become certain of the text; may be empty. Never a part of a character. */
  readonly text: string;
  readonly probabilities?: TokenProbabilities;
  /**
   * Experts of the pass that chose this token: those of the token before it, for which the model computed. A whole trace
   * is the prompt's, then that of every added token but the first (the prompt's last once more; of an encoder–decoder that
   * of the start token). Nobody computes with the last token of a text, so it has none.
   */
  readonly routing?: TokenRouting;
}

/** Text `index` is finished. Every text of a request that is not aborted has one of these. */
export interface TextEnded {
  readonly kind: 'end';
  readonly index: number;
  /** A stop token or string came, or `maxTokens` or the model's longest text was reached. */
  readonly reason: 'stop' | 'length';
  /** The stop string or token that ended it. */
  readonly stop?: string | number;
  /** Its last piece, which was held back until now. */
  readonly text: string;
  /** Tokens that were added. */
  readonly tokens: number;
}

/** Something that happened to a request. */
export type EngineEvent = PromptRead | TokenAdded | TextEnded;

/** Texts whose class or vector is wanted. */
export interface TextsRequest {
  readonly inputs: readonly (string | readonly number[])[];
  /** Whether every token's experts are told. */
  readonly routing?: boolean;
  /** Tokens of all inputs together at most; more are refused before anything is computed. */
  readonly tokenLimit?: number;
  /** Expert numbers of the routing at most, tokens × layers × topK; more are refused before anything is computed. */
  readonly routingLimit?: number;
  readonly timeLimitMilliseconds?: number;
}

/** Which class a text belongs to. */
export interface Classification {
  /** The most probable class. */
  readonly label: number;
  /** One a class; they sum to 1. */
  readonly probabilities: readonly number[];
  readonly tokens: number;
  readonly routing?: readonly TokenRouting[];
}

/** A text as a vector. */
export interface TextVector {
  /** Mean of the encoder's states over the text's tokens, `[hiddenSize]`, of length 1. */
  readonly vector: readonly number[];
  readonly tokens: number;
  readonly routing?: readonly TokenRouting[];
}

/** How requests are ended by their callers. */
export interface RequestOptions {
  /** Ends the request between two tokens; its reason is thrown. */
  readonly signal?: AbortSignal;
}

/**
 * A served model. Methods throw {@link RequestError}, {@link QueueFullError}, {@link TimeLimitError} or
 * {@link EngineUnavailableError}; a generation that has begun may still fail with the last two.
 */
export interface EngineClient {
  readonly state: EngineState;
  /** @throws EngineUnavailableError before the model is open for the first time. */
  readonly model: ModelInfo;
  /**
   * Writes. The request is queued at the first `next()`; leaving the loop early cancels it.
   * @example
   * for await (const event of client.generate({ prompt: { text: 'Once' }, maxTokens: 20 }))
   *   if (event.kind !== 'prompt') process.stdout.write(event.text);
   */
  generate(request: GenerationRequest, options?: RequestOptions): AsyncIterable<EngineEvent>;
  /** One result an input, in their order. */
  classify(request: TextsRequest, options?: RequestOptions): Promise<readonly Classification[]>;
  /** One result an input, in their order. */
  embed(request: TextsRequest, options?: RequestOptions): Promise<readonly TextVector[]>;
  /** Counters since the server began, also over restarts of the engine. */
  stats(): Promise<EngineStats>;
  /**
   * Takes no more requests and finishes those it has; what is not finished in time fails with EngineUnavailableError.
   * Resolves when everything is closed, and may be called again with less time.
   */
  stop(options?: { readonly graceMilliseconds?: number }): Promise<void>;
}
