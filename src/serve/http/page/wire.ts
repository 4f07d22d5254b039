/**
 * What the page reads from its server.
 * @module
 */

/** Where an expert is. */
export type ExpertPlace = 'cold' | 'reading' | 'ready' | 'pinned';

/** A layer that routes. */
export interface LayerInfo {
  readonly name: string;
  readonly numExperts: number;
  readonly topK: number;
}

/** What is served. */
export interface ModelInfo {
  readonly name: string;
  readonly kind: 'languageModel' | 'encoderDecoder' | 'classifier';
  readonly tasks: readonly ('generate' | 'classify' | 'embed')[];
  readonly routedLayers: readonly LayerInfo[];
  readonly placement: readonly { readonly what: string; readonly where: string; readonly bytes: number }[];
  readonly settings: Readonly<Record<string, string | number | boolean>>;
}

/** Counters since the server began, and what is the case now. */
export interface Stats {
  readonly queued: number;
  readonly running: number;
  readonly slots: number;
  readonly queueLimit: number;
  readonly requests: Readonly<Record<string, number>>;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly restarts: number;
  readonly residentBytes: number;
  readonly store: Readonly<Record<string, number>>;
  readonly experts?: readonly {
    readonly places: readonly ExpertPlace[];
    readonly accesses: readonly number[];
  }[];
}

/** One look at the server; without counters while its engine is away. */
export interface Snapshot {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly state: 'starting' | 'ready' | 'restarting' | 'stopping' | 'stopped';
  readonly stats?: Stats;
}

/** Experts of one token, `[layers][topK]`. */
export type Routing = readonly (readonly number[])[];

/** A chunk of `/v1/completions`. */
export interface CompletionChunk {
  readonly error?: { readonly message: string };
  readonly choices: readonly {
    readonly text: string;
    readonly logprobs: {
      readonly tokens: readonly string[];
      readonly token_logprobs: readonly (number | null)[];
    } | null;
    readonly finish_reason: string | null;
    readonly switchyard?: { readonly routed_experts?: readonly Routing[] };
  }[];
  readonly switchyard?: { readonly prompts?: readonly { readonly routed_experts?: readonly Routing[] }[] };
}

/** The answer of `/classify`. */
export interface ClassifyAnswer {
  readonly data: readonly {
    readonly label: string;
    readonly probs: readonly number[];
    readonly switchyard?: { readonly routed_experts?: readonly Routing[] };
  }[];
}
