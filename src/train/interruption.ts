/**
 * Stopping a run without losing work.
 * @module
 */

/** What {@link Interruption} needs of `process`; a test gives its own. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
  off(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
}

/** Options of {@link Interruption}. */
export interface InterruptionOptions {
  /** Called at the first signal, for instance to say that the step is being finished. */
  readonly onRequest?: (signal: NodeJS.Signals) => void;
  /** Where signals come from; default `process`. */
  readonly source?: SignalSource;
  /** Ends the process at the second signal; default `process.exit`. */
  readonly exit?: (code: number) => void;
}

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

/** npm passes Ctrl-C on to a child that the terminal has told already: two signals within this many ms are one. */
const ECHO = 100;

/**
 * Listens for SIGINT and SIGTERM. The first asks the loop to stop: it finishes its step, saves, and ends with exit
 * code 0. A second ends the process at once, with 130 or 143.
 *
 * Node delivers signals between turns of the event loop: the loop must let one pass every step, for instance with
 * `setImmediate` from `node:timers/promises`.
 *
 * @example
 * ```ts
 * const interruption = new Interruption({ onRequest: () => console.error('finishing the step …') });
 * try {
 *   while (!interruption.requested && step < steps) await trainStep(step++);
 *   await save();
 * } finally {
 *   interruption.dispose();
 * }
 * ```
 */
export class Interruption {
  private first: { readonly signal: NodeJS.Signals; readonly at: number } | undefined;
  private readonly source: SignalSource;
  private readonly listener: (signal: NodeJS.Signals) => void;

  constructor({
    onRequest,
    source = process,
    exit = (code) => process.exit(code),
  }: InterruptionOptions = {}) {
    this.source = source;
    this.listener = (signal) => {
      if (!this.first) {
        this.first = { signal, at: performance.now() };
        onRequest?.(signal);
        return;
      }
      const isEcho =
        signal === 'SIGINT' && this.first.signal === signal && performance.now() - this.first.at < ECHO;
      if (!isEcho) exit(exitCodes[signal as keyof typeof exitCodes]);
    };
    for (const signal of Object.keys(exitCodes) as NodeJS.Signals[]) source.on(signal, this.listener);
  }

  /** Whether the run was asked to stop. */
  get requested(): boolean {
    return this.first !== undefined;
  }

  /** The signal that asked for it. */
  get signal(): NodeJS.Signals | undefined {
    return this.first?.signal;
  }

  /** Stops listening: signals end the process again as usual. */
  dispose(): void {
    for (const signal of Object.keys(exitCodes) as NodeJS.Signals[]) this.source.off(signal, this.listener);
  }
}
