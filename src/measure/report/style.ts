/** The look of the reports. Each colour has a name, with a value for light and one for dark mode. */
export const STYLE = `
:root{color-scheme:light dark;--paper:#f7f7f5;--card:#fff;--ink:#16191d;--soft:#5d6673;--rule:#e4e4df;--grid:#ecece8;--a:#2463eb;--b:#d4570a;--c:#8a3ffc;--event:#cf2a3c;--good:#1f7a3f;--good-paper:#e9f6ec;--warn:#9a5b00;--warn-paper:#fff4de}
@media(prefers-color-scheme:dark){:root{--paper:#0e1114;--card:#161a1f;--ink:#e9ebee;--soft:#9aa4b2;--rule:#262c34;--grid:#222830;--a:#6ea8ff;--b:#ffa057;--c:#c19bff;--event:#ff7c88;--good:#7ddb9a;--good-paper:#12261a;--warn:#ffc46b;--warn-paper:#2b2212}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:920px;margin:0 auto;padding:48px 24px 72px}
header{margin-bottom:28px}
.brand{margin:0 0 6px;color:var(--a);font-size:13px;font-weight:650;letter-spacing:.04em}
h1{margin:0;font-size:30px;line-height:1.2;font-weight:680;letter-spacing:-.022em;text-wrap:balance}
header p:last-child{margin:8px 0 0;color:var(--soft);max-width:62ch}
h2{margin:0 0 2px;font-size:16px;font-weight:640;letter-spacing:-.01em}
section{background:var(--card);border:1px solid var(--rule);border-radius:14px;padding:22px 24px;margin-bottom:16px}
.note{margin:10px 0 0;color:var(--soft);font-size:13px;max-width:74ch}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(138px,1fr));gap:20px 24px}
.figures span{display:block;color:var(--soft);font-size:13px}
.figures strong{display:block;margin:1px 0;font-size:26px;line-height:1.25;font-weight:660;letter-spacing:-.022em;font-variant-numeric:tabular-nums;white-space:nowrap}
.figures small{display:block;color:var(--soft);font-size:12px;line-height:1.4}
.notice{padding:14px 24px;border-color:transparent}
.notice p{margin:2px 0 0;font-size:14px}
.notice strong{font-weight:640}
.notice.good{background:var(--good-paper)}.notice.good strong{color:var(--good)}
.notice.warn{background:var(--warn-paper)}.notice.warn strong{color:var(--warn)}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;margin:4px 0 8px;padding:0;list-style:none;color:var(--soft);font-size:13px}
.key{display:inline-block;width:19px;margin-right:7px;vertical-align:middle;border-top:2.5px solid;border-radius:1px}
.key.dashed{border-top:0;height:2px;background:repeating-linear-gradient(90deg,currentColor 0 5px,transparent 5px 7px)}
.key.a{color:var(--a)}.key.b{color:var(--b)}.key.c{color:var(--c)}.key.soft{color:var(--soft)}
.key.event{width:0;height:13px;border-top:0;border-left:2px dashed var(--event);margin:0 9px 0 7px}
svg{display:block;width:100%;height:auto;overflow:visible}
svg.narrow{display:none}
svg text{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
svg.narrow text{font-size:11px}
.grid{stroke:var(--grid)}
.tick{stroke:var(--rule)}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.line.dashed{stroke-width:1.6;stroke-dasharray:5 4;stroke-linecap:butt}
.line.a{stroke:var(--a)}.line.b{stroke:var(--b)}.line.c{stroke:var(--c)}.line.soft{stroke:var(--soft)}
.dot{stroke:var(--card);stroke-width:1.5}
.dot.a{fill:var(--a)}.dot.b{fill:var(--b)}.dot.c{fill:var(--c)}.dot.soft{fill:var(--soft)}
.bar.a{fill:var(--a)}.bar.b{fill:var(--b)}.bar.c{fill:var(--c)}.bar.soft{fill:var(--soft)}
.whisker{fill:none;stroke:var(--ink);stroke-width:1.5}
.area{opacity:.13}.area.a{fill:var(--a)}.area.b{fill:var(--b)}.area.c{fill:var(--c)}
.mark.event{stroke:var(--event);stroke-width:1.5;stroke-dasharray:4 3}
.mark.guide{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 3}
svg text.event{fill:var(--event)}
svg text.guide{fill:var(--ink);font-weight:600}
.scroll{overflow-x:auto;margin:6px -24px -8px;padding:0 24px 8px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:7px 0 7px 18px;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap;font-weight:400}
th:first-child{padding-left:0;text-align:left}
thead th{color:var(--soft);font-size:12.5px}
tbody th{font-weight:500}
tbody tr:last-child>*{border-bottom:0}
tr.emphasized>*{font-weight:650;color:var(--a)}
dl{margin:8px 0 0}
dl>div{display:grid;grid-template-columns:150px 1fr;gap:16px;padding:7px 0;border-bottom:1px solid var(--rule)}
dl>div:last-child{border-bottom:0;padding-bottom:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
pre{margin:10px 0 0;padding:12px 14px;background:var(--paper);border-radius:8px;font:13px/1.5 ui-monospace,"SF Mono",Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
@media(max-width:600px){
main{padding:28px 14px 48px}
h1{font-size:24px}
section{padding:18px 16px;border-radius:12px}
.notice{padding:12px 16px}
.figures{grid-template-columns:1fr 1fr;gap:16px}
.figures strong{font-size:22px}
svg.wide{display:none}
svg.narrow{display:block}
.scroll{margin:6px -16px -8px;padding:0 16px 8px}
th,td{padding-left:14px}
dl>div{display:block}
}
@media print{body{background:#fff}section{break-inside:avoid}}
`;
