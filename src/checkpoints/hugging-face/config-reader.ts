/**
 * Reads a `config.json` key by key, and finds the keys that nobody read.
 * @module
 */
import type { JsonObject, JsonValue } from '../json.js';
import { quote } from '../safetensors/errors.js';
import { ModelFolderError } from './errors.js';

/**
 * Keys of any configuration of `transformers` that do not change what a model computes: where it came from, which tokens
 * begin and end a text, how it started, what else is returned, and how texts were generated from it.
 */
const harmless = new Set([
  ...[
    'model_type',
    'architectures',
    'transformers_version',
    '_name_or_path',
    'auto_map',
    'torch_dtype',
    'dtype',
  ],
  ...['bos_token_id', 'eos_token_id', 'pad_token_id', 'sep_token_id', 'decoder_start_token_id'],
  ...['initializer_range', 'use_cache', 'output_router_logits', 'output_attentions', 'output_hidden_states'],
  ...['return_dict', 'return_dict_in_generate', 'is_encoder_decoder', 'task_specific_params', 'problem_type'],
  ...['id2label', 'label2id', 'num_labels', 'finetuning_task', 'torchscript', 'tokenizer_class', 'prefix'],
  ...[
    'attn_implementation',
    '_attn_implementation',
    '_attn_implementation_autoset',
    '_experts_implementation',
  ],
  ...['chunk_size_feed_forward', 'max_length', 'min_length', 'do_sample', 'early_stopping', 'num_beams'],
  ...['num_beam_groups', 'diversity_penalty', 'temperature', 'top_k', 'top_p', 'typical_p', 'length_penalty'],
  ...['repetition_penalty', 'no_repeat_ngram_size', 'encoder_no_repeat_ngram_size', 'bad_words_ids'],
  ...['num_return_sequences', 'output_scores', 'forced_bos_token_id', 'forced_eos_token_id'],
  ...[
    'remove_invalid_values',
    'exponential_decay_length_penalty',
    'suppress_tokens',
    'begin_suppress_tokens',
  ],
]);

/** A configuration under reading. Getters mark their key as known; null counts as absent. */
export class ConfigReader {
  private readonly known = new Set<string>();

  constructor(
    readonly config: JsonObject,
    /** Path for messages. */
    readonly file: string,
  ) {}

  /** Value of a key, or undefined where it is absent or null. */
  value(key: string): JsonValue | undefined {
    this.known.add(key);
    return this.has(key) ? (this.config[key] ?? undefined) : undefined;
  }

  /** Whether a key is there, be it with null. */
  has(key: string): boolean {
    return Object.hasOwn(this.config, key);
  }

  /** A whole number above 0. Without a fallback the key must be there. */
  size(key: string, fallback?: number): number {
    return this.optionalSize(key) ?? fallback ?? this.missing(key);
  }

  /** A whole number above 0, or undefined where there is none. */
  optionalSize(key: string): number | undefined {
    const count = this.count(key);
    return count === 0 ? this.fail(key, 'a whole number above 0') : count;
  }

  /** A whole number, or undefined where there is none. */
  count(key: string): number | undefined {
    const value = this.value(key);
    const isCount = typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
    return value === undefined || isCount ? value : this.fail(key, 'a whole number');
  }

  /** A finite number, or undefined where there is none. */
  optionalNumber(key: string): number | undefined {
    const value = this.value(key);
    return value === undefined || typeof value === 'number' ? value : this.fail(key, 'a number');
  }

  /** A finite number. */
  number(key: string, fallback: number): number {
    return this.optionalNumber(key) ?? fallback;
  }

  /** A finite number that must be there. */
  requiredNumber(key: string): number {
    return this.optionalNumber(key) ?? this.missing(key);
  }

  /** True or false. */
  boolean(key: string, fallback: boolean): boolean {
    const value = this.value(key) ?? fallback;
    return typeof value === 'boolean' ? value : this.fail(key, 'true or false');
  }

  /** What one of some known words stands for. */
  choice<Meaning>(key: string, meanings: Readonly<Record<string, Meaning>>, fallback: string): Meaning {
    const value = this.value(key) ?? fallback;
    const isKnown = typeof value === 'string' && Object.hasOwn(meanings, value);
    return isKnown ? meanings[value] : this.fail(key, `one of ${Object.keys(meanings).join(', ')}`);
  }

  /** Whole numbers; none when the key is absent. */
  counts(key: string): readonly number[] {
    const value = this.value(key) ?? [];
    const isList =
      Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && Number(item) >= 0);
    return isList ? (value as number[]) : this.fail(key, 'a list of whole numbers');
  }

  /** A nested configuration, or undefined where there is none. */
  section(key: string): ConfigReader | undefined {
    const value = this.value(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return this.fail(key, 'an object');
    return new ConfigReader(value as JsonObject, `${this.file}: ${key}`);
  }

  /** Refuses a key unless it is absent or has one of the values under which it changes nothing. */
  only(key: string, ...values: readonly JsonValue[]): void {
    const value = this.value(key);
    if (value === undefined || values.includes(value)) return;
    this.refuse(
      `${key} ${shown(value)} is not supported; ${values.length > 0 ? `only ${values.map(shown).join(' or ')}` : 'leave it out'}`,
    );
  }

  /** Marks keys as known that change nothing in this architecture. */
  ignore(...keys: readonly string[]): void {
    for (const key of keys) this.known.add(key);
  }

  /**
   * Refuses the keys that nobody read: one of them might change what the model computes.
   * @param of what has no such key.
   */
  finish(of: string): void {
    if (this.value('quantization_config') !== undefined)
      this.refuse(
        'quantization_config: quantised weights are not read; save the checkpoint in bfloat16 first',
      );
    const unread = Object.keys(this.config).filter(
      (key) => !this.known.has(key) && !harmless.has(key) && this.config[key] !== null,
    );
    if (unread.length > 0)
      this.refuse(
        `${of} has no ${unread.map((key) => `${quote(key)} (here ${shown(this.config[key])})`).join(', ')}; ` +
          'remove what does not change the model',
      );
  }

  /** @throws ModelFolderError `<file>: <reason>` */
  refuse(reason: string): never {
    throw new ModelFolderError(`${this.file}: ${reason}`);
  }

  private fail(key: string, expected: string): never {
    return this.refuse(`${key} is ${shown(this.config[key])}; expected ${expected}`);
  }

  private missing(key: string): never {
    return this.refuse(`${key} is missing`);
  }
}

function shown(value: JsonValue): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
