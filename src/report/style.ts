/**
 * The page's style: everything it needs stands in the page.
 * @module
 */

/** CSS of the report; dark where the reader's system is dark. */
export const style = `
:root {
  color-scheme: light dark;
  --paper: #fff; --cell: #f3f2ee; --ink: #1b1e23; --quiet: #6b7077; --line: #e9e8e4;
  --heat: #23407f; --on-heat: #fff;
  --run-0: #4269d0; --run-1: #e8890c; --run-2: #3b9950; --run-3: #d6456b;
  --run-4: #8b5fd3; --run-5: #1f9d9d; --run-6: #9c6b4e; --run-7: #7d8590;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --cell: #22252b; --ink: #e8e7e3; --quiet: #9a9fa8; --line: #2b2f36;
    --heat: #9fbcff; --on-heat: #10131a;
    --run-0: #7f9cf0; --run-1: #f2a94c; --run-2: #6cc480; --run-3: #f07d98;
    --run-4: #b594f0; --run-5: #5cc4c4; --run-6: #c39a80; --run-7: #a5adb8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 48px 28px 72px; }
h1, h2 { font-family: Charter, "Iowan Old Style", "Source Serif 4", Georgia, "DejaVu Serif", serif; font-weight: 600; line-height: 1.2; letter-spacing: -0.01em; }
h1 { font-size: 34px; margin: 0 0 6px; }
h2 { font-size: 23px; margin: 0 0 4px; }
p { margin: 0 0 12px; max-width: 92ch; }
.lead, .reading { color: var(--quiet); }
section { margin-top: 52px; padding-top: 22px; border-top: 1px solid var(--line); }
.panels { display: flex; flex-wrap: wrap; gap: 22px 40px; align-items: flex-start; margin-top: 14px; }
figure { margin: 0; max-width: 100%; overflow-x: auto; }
figcaption { font-size: 13px; font-weight: 600; margin-bottom: 4px; }
svg { display: block; max-width: 100%; height: auto; --plot-background: var(--paper); }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 0 5px 24px; border-bottom: 1px solid var(--line); font-weight: 400; }
thead th { color: var(--quiet); font-size: 12px; vertical-align: bottom; }
th:first-child { text-align: left; padding-left: 0; }
.wide { overflow-x: auto; margin-top: 22px; }
.runs { width: 100%; }
.runs tbody th { font-weight: 600; white-space: nowrap; }
.runs .what { text-align: left; color: var(--quiet); }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 8px; }
nav { margin-top: 20px; font-size: 13px; line-height: 1.9; }
nav a { margin-right: 16px; white-space: nowrap; }
a { color: inherit; text-decoration-color: var(--quiet); text-underline-offset: 3px; }
.numbers { font-size: 12px; color: var(--quiet); margin-top: 12px; overflow-wrap: anywhere; }
code { font: 12px/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
footer { margin-top: 56px; color: var(--quiet); font-size: 13px; }
@media (max-width: 640px) { main { padding: 28px 16px 48px; } h1 { font-size: 27px; } .runs .what { display: none; } }
@media print { section { break-inside: avoid; } nav { display: none; } }
`;
