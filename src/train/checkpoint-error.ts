/**
 * Why a checkpoint was not saved or loaded.
 * @module
 */

/**
 * | code | meaning |
 * |---|---|
 * | `save` | the system refused a step of saving, or the state cannot be written; nothing of it is listed |
 * | `exists` | a checkpoint of this step exists |
 * | `absent` | there is no such checkpoint |
 * | `corrupt` | a file is missing, unreadable, or not what was written; `file` names it |
 * | `mismatch` | the checkpoint is sound, but its tensors are not those that were asked for |
 * | `read` | the system refused to read for a reason that an older checkpoint would meet as well |
 * | `finish` | the checkpoint is saved, but `latest` could not be moved or old checkpoints not removed |
 */
export type CheckpointErrorCode = 'save' | 'exists' | 'absent' | 'corrupt' | 'mismatch' | 'read' | 'finish';

/** A checkpoint that cannot be saved or loaded; the message is one line that names the folder and the file. */
export class CheckpointError extends Error {
  override readonly name = 'CheckpointError';

  constructor(
    readonly code: CheckpointErrorCode,
    message: string,
    /** Name of the file at fault inside the checkpoint. */
    readonly file?: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
