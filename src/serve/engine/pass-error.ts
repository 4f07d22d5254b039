/**
 * A pass that failed.
 * @module
 */
import type { ServedText } from './text-batch.js';
import type { TextsJob } from './texts-job.js';

/** Who was in a pass: a text that is written, or a request about texts. */
export type InPass = ServedText | TextsJob;

/** What those who were in the pass had computed may be half of it; all others are as they were. */
export class PassError extends Error {
  override readonly name = 'PassError';
  readonly concerns: ReadonlySet<InPass>;

  /** @param cause what failed, whose message this has */
  constructor(concerns: Iterable<InPass>, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.concerns = new Set(concerns);
  }
}

/**
 * Computes something for some.
 * @throws PassError that concerns them
 */
export async function computeFor<Result>(
  concerns: Iterable<InPass>,
  compute: () => Promise<Result>,
): Promise<Result> {
  try {
    return await compute();
  } catch (error) {
    throw new PassError(concerns, error);
  }
}

/**
 * Computes one after another, whatever becomes of the others.
 * @throws PassError that concerns all who were in those that failed
 */
export async function computeEach<Item>(
  items: Iterable<Item>,
  compute: (item: Item) => Promise<void>,
): Promise<void> {
  const failed: PassError[] = [];
  for (const item of items) {
    try {
      await compute(item);
    } catch (error) {
      if (!(error instanceof PassError)) throw error;
      failed.push(error);
    }
  }
  if (failed.length > 0)
    throw new PassError(
      failed.flatMap(({ concerns }) => [...concerns]),
      failed[0].cause,
    );
}
