/** Asks a process that waits to be added what it is: see inquiry.ts. It speaks under WAITING_ID. */
import { decodeWaiting, type WaitingReport } from '../host/waiting-report.js';
import type { Question } from './inquiry.js';
import { STATUS_QUESTION } from './status-client.js';

export const WAITING_QUESTION: Question<WaitingReport> = { ...STATUS_QUESTION, decode: decodeWaiting };
