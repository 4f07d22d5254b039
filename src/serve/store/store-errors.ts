/**
 * Why a store has no weights to give.
 * @module
 */

/** An expert that could not be read. The store goes on: whoever asks again makes it read again. */
export class ExpertReadError extends Error {
  override readonly name = 'ExpertReadError';

  constructor(
    /** Dotted name of the bank. */
    readonly layer: string,
    readonly expert: number,
    cause: unknown,
  ) {
    super(
      `${layer}: expert ${expert} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      {
        cause,
      },
    );
  }
}

/** A store that was closed. */
export class StoreClosedError extends Error {
  override readonly name = 'StoreClosedError';

  constructor() {
    super('the expert store is closed');
  }
}
