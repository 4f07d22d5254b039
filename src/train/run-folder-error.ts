/**
 * Why a run folder cannot be used.
 * @module
 */

/**
 * | code | meaning |
 * |---|---|
 * | `exists` | a run is in the folder already |
 * | `absent` | there is no run in the folder |
 * | `system` | the system refused to read or write, such as a folder without write permission |
 * | `invalid` | a file of the run is not what it should be |
 * | `locked` | another process uses the run |
 * | `lost` | another process has taken the run over, because this one seemed to be gone |
 */
export type RunFolderErrorCode = 'exists' | 'absent' | 'system' | 'invalid' | 'locked' | 'lost';

/** A run folder that cannot be used; the message is one line that names the folder or file. */
export class RunFolderError extends Error {
  override readonly name = 'RunFolderError';

  constructor(
    readonly code: RunFolderErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
