"""How the page of a report looks: light and dark, on a desk and on a phone."""

NARROW_SCREEN = "(max-width: 640px)"

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1f2328; --faint: #59616b; --line: #d8dce2;
  --up: #2f7fc1; --down: #d9772b; --warning: #8a5a00; --warning-back: #fff4d6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1d2026; --ink: #e6e8eb; --faint: #a2a9b3; --line: #363b44;
    --up: #4a9be0; --down: #e58a45; --warning: #f0c674; --warning-back: #33290f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  overflow-wrap: anywhere;
}
main, footer { max-width: 1360px; margin: 0 auto; padding: 0 24px; }
footer { padding-bottom: 32px; color: var(--faint); font-size: 14px; }
h1 { margin: 32px 0 16px; font-size: 28px; line-height: 1.2; }
h2 { margin: 0 0 12px; font-size: 22px; line-height: 1.25; }
h3 { margin: 32px 0 10px; font-size: 18px; }
section {
  margin-bottom: 28px; padding: 24px; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px;
}
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr));
  gap: 12px 24px; margin: 0; }
.facts div:nth-last-child(-n+2) { grid-column: 1 / -1; max-width: 90ch; }
dt { color: var(--faint); font-size: 13px; }
dd { margin: 0; }
figure { margin: 0; }
picture, img { display: block; width: 100%; height: auto; }
img { max-width: 1050px; margin: 0 auto; }
figcaption, .note { color: var(--faint); font-size: 14px; }
.note { margin: 8px 0; max-width: 90ch; }
.warning { padding: 6px 12px; color: var(--warning); background: var(--warning-back);
  border-radius: 6px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: separate; border-spacing: 0; min-width: 100%; font-size: 13.5px;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 6px 9px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--faint); font-weight: 600; vertical-align: bottom; white-space: normal;
  min-width: 64px; max-width: 150px; }
th:first-child { position: sticky; left: 0; z-index: 1; background: var(--card);
  text-align: left; border-right: 1px solid var(--line); }
tbody th { font-weight: 600; }
details { margin-top: 16px; }
summary { cursor: pointer; font-weight: 600; padding: 4px 0; }
.interval { display: block; width: 110px; height: 18px; margin: 0 auto; }
.interval .zero { stroke: var(--faint); stroke-width: 2; }
.interval .range { stroke: currentColor; stroke-width: 5; }
.interval circle { fill: currentColor; }
.unsure { color: var(--faint); }
.better { color: var(--up); }
.worse { color: var(--down); }
.heat { display: block; margin: -6px -9px; padding: 6px 9px; }
.up { background: color-mix(in srgb, var(--up) calc(var(--strength) * 0.75), transparent); }
.down { background: color-mix(in srgb, var(--down) calc(var(--strength) * 0.75), transparent); }
@media (max-width: 640px) {
  body { font-size: 15px; }
  main, footer { padding: 0 10px; }
  section { padding: 14px 12px; }
  h1 { margin: 20px 0 12px; font-size: 22px; }
  h2 { font-size: 19px; }
  .facts { grid-template-columns: 1fr 1fr; }
  table { font-size: 13px; }
  th, td { padding: 5px 8px; }
  .heat { margin: -5px -8px; padding: 5px 8px; }
}
"""
