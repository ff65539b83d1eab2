import type { BenchReport } from '../load/report.js';
export function benchReportHtml(reports: readonly BenchReport[]): string { return JSON.stringify(reports); }
