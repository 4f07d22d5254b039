/**
 * What a line of the built-in corpus means, before any language speaks it: a short list of pieces.
 *
 * A meaning is plain data. Speaking the same meaning in each language makes the corpus many-way parallel.
 * @module
 */
import type { RandomStream } from '../../nn/random.js';
import { topics } from './topics.js';

/** Kinds of codes that have a name in every language. */
export type NamedKind = 'region' | 'language' | 'currency' | 'script' | 'calendar';

/** How a date is told; `full` carries the weekday, `moment` the weekday and the time of day. */
export type DateStyle = 'full' | 'long' | 'medium' | 'month' | 'weekdayHour' | 'moment';

/** A part of a meaning. A plain string is punctuation that every language shares. */
export type Piece =
  | string
  | { readonly say: 'name'; readonly kind: NamedKind; readonly code: string }
  | {
      readonly say: 'number';
      readonly style: 'decimal' | 'percent' | 'change' | 'compact';
      readonly value: number;
    }
  | { readonly say: 'measure'; readonly unit: string; readonly value: number }
  | { readonly say: 'money'; readonly currency: string; readonly value: number }
  /** `at` is in minutes since 1970-01-01 00:00 UTC. */
  | { readonly say: 'date'; readonly style: DateStyle; readonly at: number; readonly calendar?: string }
  | { readonly say: 'dates'; readonly from: number; readonly to: number }
  | { readonly say: 'clock'; readonly at: number; readonly zone: string }
  | { readonly say: 'relative'; readonly unit: RelativeUnit; readonly value: number }
  /** Parts one after another, as one item of a list. */
  | { readonly say: 'group'; readonly parts: readonly Piece[] }
  | {
      readonly say: 'list';
      readonly type: 'conjunction' | 'disjunction' | 'unit';
      readonly items: readonly Piece[];
    };

/** Units of {@link Intl.RelativeTimeFormat}. */
export type RelativeUnit = 'minute' | 'hour' | 'day' | 'week' | 'month' | 'quarter' | 'year';

/** One sentence, independent of language. */
export interface Meaning {
  /** Name of the topic that drew it, such as `weather`. */
  readonly topic: string;
  readonly pieces: readonly Piece[];
}

const topicNames = Object.keys(topics) as (keyof typeof topics)[];

/** Draws a meaning. Equal stream, equal meaning. */
export function drawMeaning(random: RandomStream): Meaning {
  const topic = random.pick(topicNames);
  return { topic, pieces: topics[topic](random) };
}

/** The content of a meaning as one string: equal strings are equal meanings. */
export function contentOf(meaning: Meaning): string {
  return JSON.stringify(meaning.pieces);
}
