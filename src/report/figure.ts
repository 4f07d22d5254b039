/**
 * What a figure of the report is.
 * @module
 */
import type { Report } from './report-data.js';

/** A drawing, or a table, under a heading of its own. */
export interface Panel {
  /** Which run or layer it shows; empty where it shows all. */
  readonly caption: string;
  /** One SVG or table element. */
  readonly markup: string;
}

/** A figure: one question about the runs. It is drawn from the report's numbers alone. */
export interface Figure<Data = Report> {
  /** Anchor of the section. */
  readonly id: string;
  readonly title: string;
  /** One sentence on how to read it. */
  readonly reading: string;
  /** Where its numbers stand in `report.json`. */
  readonly numbers: string;
  /** Panels side by side; none where no run has anything to show, and the section is left out. */
  draw(report: Data): Panel[];
}
