/**
 * Reports: what runs did, as one page of figures and as numbers.
 * @module
 */
export type { CompressedModel, CompressionReport } from './compression/data.js';
export { compressionFigures } from './compression/figures.js';
export { compressionPage } from './compression/page.js';
export { draw } from './draw.js';
export type { Figure, Panel } from './figure.js';
export { figures } from './figures/index.js';
export { reportPage } from './page.js';
export type { Report, RunReport } from './report-data.js';
export { reportRun, type ReportRunOptions } from './report-run.js';
