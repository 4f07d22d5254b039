/**
 * The centres by the `kind` under which methods name them. A new centre is one file and one line here.
 * @module
 */
import { kindUnion } from '../../moe/index.js';
import { barycenter } from './barycenter.js';
import { gitRebasin } from './git-rebasin.js';
import { mean } from './mean.js';

/** All centres. */
export const centreKinds = [barycenter, gitRebasin, mean] as const;

/** Options of centres by `kind`. */
export const centreSchema = kindUnion(centreKinds);
