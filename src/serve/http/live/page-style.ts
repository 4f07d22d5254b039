/**
 * Style of the live page.
 * @module
 */

/** CSS; dark where the reader's system is dark. Colours are those of the report. */
export const pageStyle = `
:root {
  color-scheme: light dark;
  --paper: #fff; --card: #fbfaf8; --cell: #e9e7e2; --ink: #1b1e23; --quiet: #62676e; --line: #e3e1dc;
  --run-0: #4269d0; --run-1: #c96f00; --run-2: #3b9950; --run-3: #d6456b; --run-4: #8b5fd3; --run-5: #1f8f8f;
  --memory: #3558ad; --reading: #e8890c; --used: #12a07a; --chosen: #d6256b; --on-accent: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --card: #1b1e23; --cell: #2c3037; --ink: #e8e7e3; --quiet: #a2a7b0; --line: #2e323a;
    --run-0: #7f9cf0; --run-1: #f2a94c; --run-2: #6cc480; --run-3: #f07d98; --run-4: #b594f0; --run-5: #5cc4c4;
    --memory: #86a8ff; --reading: #f2a94c; --used: #4fe0b5; --chosen: #ff6f9f; --on-accent: #10131a;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1180px; margin: 0 auto; padding: 32px 28px 56px; }
h1, h2 { font-family: Charter, "Iowan Old Style", "Source Serif 4", Georgia, "DejaVu Serif", serif; font-weight: 600; line-height: 1.2; letter-spacing: -0.01em; margin: 0; }
h1 { font-size: 30px; overflow-wrap: anywhere; }
h2 { font-size: 21px; }
header { display: flex; flex-wrap: wrap; gap: 8px 18px; align-items: baseline; }
#state { font-size: 13px; color: var(--quiet); }
#state::before { content: ""; display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 7px; background: var(--reading); }
#state[data-state="ready"]::before { background: var(--run-2); }
#state[data-state="lost"]::before, #state[data-state="stopped"]::before { background: var(--run-3); }
#settings { list-style: none; display: flex; flex-wrap: wrap; gap: 6px; padding: 0; margin: 12px 0 0; }
#settings li { border: 1px solid var(--line); border-radius: 999px; padding: 2px 11px; font-size: 12.5px; color: var(--quiet); }
.tiles { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 14px; margin-top: 24px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px 6px; min-width: 0; }
.tile h2 { font: 600 12.5px/1.4 system-ui, sans-serif; letter-spacing: 0; color: var(--quiet); }
.tile .value { font-size: 27px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile .note { font-size: 12px; color: var(--quiet); min-height: 1.5em; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.chart { height: 110px; margin: 4px -6px 0 -8px; }
section { margin-top: 34px; }
.title { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; margin-bottom: 10px; }
.title p { margin: 0; font-size: 13px; color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; margin: 8px 0 0; list-style: none; font-size: 12.5px; color: var(--quiet); }
.legend li::before { content: ""; display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; background: var(--cell); }
.legend .reading::before { background: linear-gradient(var(--cell) 50%, var(--reading) 50%); }
.legend .memory::before { background: linear-gradient(90deg, color-mix(in srgb, var(--memory) 35%, var(--cell)), var(--memory)); width: 26px; }
.legend .used::before { background: linear-gradient(var(--cell) 70%, var(--used) 70%); }
.legend .chosen::before { background: none; border: 2px solid var(--chosen); }
.scroll { overflow-x: auto; }
canvas { display: block; }
.told { min-height: 1.5em; font-size: 13px; color: var(--quiet); margin: 6px 0 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
details { font-size: 13px; margin-top: 6px; }
summary { cursor: pointer; color: var(--quiet); width: max-content; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: 6px; }
th, td { text-align: right; padding: 3px 0 3px 22px; border-bottom: 1px solid var(--line); font-weight: 400; }
thead th { color: var(--quiet); font-size: 12px; }
th:first-child { text-align: left; padding-left: 0; }
form#ask { display: grid; gap: 10px; }
textarea, input { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px 11px; }
textarea { width: 100%; min-height: 76px; resize: vertical; }
.row { display: flex; flex-wrap: wrap; gap: 10px 18px; align-items: center; font-size: 13px; color: var(--quiet); }
#ask-options { display: flex; gap: 18px; }
.row input { width: 84px; padding: 5px 8px; margin-left: 7px; color: var(--ink); }
button { font: inherit; font-weight: 600; color: var(--on-accent); background: var(--run-0); border: 0; border-radius: 8px; padding: 7px 20px; cursor: pointer; }
:focus-visible { outline: 2px solid var(--chosen); outline-offset: 2px; }
#answer { margin-top: 14px; padding: 13px 15px; min-height: 76px; border: 1px solid var(--line); border-radius: 10px; background: var(--card); font: 14.5px/1.9 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.token { border-radius: 4px; padding: 2px 0; cursor: default; box-shadow: inset 0 -1px var(--line); }
.token.prompt { color: var(--quiet); }
.token.shown { background: color-mix(in srgb, var(--chosen) 24%, transparent); box-shadow: inset 0 -2px var(--chosen); }
#key-form { display: flex; flex-wrap: wrap; gap: 10px; align-items: center; margin-top: 18px; padding: 14px; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
footer { margin-top: 34px; font-size: 13px; color: var(--quiet); }
@media (max-width: 900px) { .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 520px) { main { padding: 22px 16px 40px; } .tiles { grid-template-columns: minmax(0, 1fr); } }
`;
