/**
 * The expert banks by the `kind` under which recipes name them.
 * @module
 */
import { kindUnion } from '../kind.js';
import { feedForward } from './feed-forward-bank.js';

/** All expert banks. */
export const bankKinds = [feedForward] as const;

/** Expert bank options by `kind`. */
export const expertsSchema = kindUnion(bankKinds);
