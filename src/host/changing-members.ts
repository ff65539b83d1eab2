/**
 * Whether hosts look for members that they do not know: only where members can change. A process that asks around takes
 * part in more than it needs to: it writes to addresses that others name, and believes lists.
 */
import { OFFERED_FEATURES } from '../protocol/log/features.js';

/** `followed` is for processes that start from now on. Tests set it until the feature is offered. */
export const changingMembers = { followed: OFFERED_FEATURES.includes('membership') };
