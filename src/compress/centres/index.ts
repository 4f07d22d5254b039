/**
 * The centres by the `kind` under which methods name them. A new centre is one file and one line here.
 * @module
 */
import { kindUnion } from '../../moe/index.js';
import { mean } from './mean.js';

/** All centres. */
export const centreKinds = [mean] as const;

/** Options of centres by `kind`. */
export const centreSchema = kindUnion(centreKinds);
